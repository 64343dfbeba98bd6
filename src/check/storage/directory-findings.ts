/** Findings of a directory: its space, and whether its file system keeps what was synced. */
import type { CheckId } from '../check-table.ts'
import { failure, type Finding, ok, skipped, warning, words } from '../finding.ts'
import type { DirectoryFacts, StorageFacts } from './storage-facts.ts'

const MiB = 1024 ** 2
const GiB = 1024 ** 3

/** Magic numbers of statfs(2) whose files are gone with the machine, or with the container. */
const passing: Readonly<Record<number, string>> = {
  0x01021994: 'tmpfs, which is in memory: a restart of the machine empties it',
  0x858458f6: 'ramfs, which is in memory: a restart of the machine empties it',
  0x794c7630: "overlayfs, a container's own layer: it is gone with the container",
}

/** Findings `storage.space` and `storage.durability`. */
export function directoryFindings({ bucket, directory }: Pick<StorageFacts, 'bucket' | 'directory'>): Finding[] {
  const ids: CheckId[] = ['storage.space', 'storage.durability']
  if (bucket) return ids.map((id) => skipped(id, 'the archive is a bucket'))
  if (!directory) return ids.map((id) => skipped(id, 'the directory could not be looked at'))
  return [space(directory), durability(directory)]
}

function space({ freeBytes, freeInodes, path, totalBytes }: DirectoryFacts): Finding {
  const id = 'storage.space'
  const text = `${inUnits(freeBytes)} of ${inUnits(totalBytes)} are free at ${path}`
  if (totalBytes === 0) return skipped(id, `the file system of ${path} does not say its size`)
  const step = words(`make room on the file system of ${path}: df -h shows what fills it, and walrx delete what may go`)
  if (freeBytes < 64 * MiB) return failure(id, 9, `${text}, and 64 MB must be at least`, step)
  if (freeInodes !== undefined && freeInodes < 1000) {
    return failure(id, 9, `${freeInodes} inodes are free at ${path}, and 1000 must be at least`, step)
  }
  if (freeBytes < GiB || freeBytes < totalBytes / 20) {
    return warning(id, `${text}, and 1 GB and a twentieth should be at least`, step)
  }
  return ok(id, text)
}

function durability({ kind, path }: DirectoryFacts): Finding {
  const id = 'storage.durability'
  const why = passing[kind]
  if (why === undefined) return ok(id, `the file system of ${path} is not one of memory or of a container`)
  const step = words('name a directory on a disk or a mounted volume with --file-prefix')
  return warning(id, `${path} is on ${why}, and an archive must outlive that`, step)
}

/** Of a disk, for people. */
function inUnits(bytes: number): string {
  return bytes >= 10 * GiB ? `${Math.floor(bytes / GiB)} GB` : `${Math.floor(bytes / MiB)} MB`
}
