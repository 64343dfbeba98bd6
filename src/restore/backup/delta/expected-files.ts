/**
 * The files and directories that a backup restores, and of the files what they are, as far as the server's manifests say it
 * without a look at the parts.
 */
import { posix } from 'node:path'
import type { ManifestFile } from '../../../postgres/backup/backup-manifest.ts'
import { incrementalFixedBytes, incrementalMagic } from '../../../postgres/backup/incremental-file.ts'
import { pageBytes } from '../../../postgres/relations/relation-file.ts'
import { type BackupDocuments, chainOf } from '../backup-documents.ts'
import { utilityFiles } from '../entry-path.ts'
import { openChecksum } from '../parts/checksums.ts'
import { serverDirectories } from '../server-directories.ts'

/** See the file's header. */
export interface ExpectedFiles {
  readonly paths: ReadonlySet<string>
  /** Size and checksum, of those that are known. */
  readonly known: ReadonlyMap<string, ManifestFile>
}

/** Reads it off the documents of a backup and of those that it builds on. */
export function expectedFiles(documents: BackupDocuments): ExpectedFiles {
  const chain = chainOf(documents)
  const paths = new Set<string>(documents.manifest?.keys())
  for (const { files } of chain) for (const path of files?.keys() ?? []) paths.add(path)
  for (const path of ['global/pg_control', 'backup_label']) paths.add(path)
  if (documents.manifestKey !== undefined) paths.add('backup_manifest')
  const known = new Map<string, ManifestFile>()
  for (const path of paths) {
    // The restore writes these as it needs them.
    if (utilityFiles.has(path)) continue
    const content = contentOf(chain, chain.length - 1, path)
    if (content?.checksum !== undefined) known.set(path, content)
  }
  return { paths, known }
}

/** What a file is as restored from a backup of the chain; undefined where it takes a look at the parts to know. */
function contentOf(chain: readonly BackupDocuments[], index: number, path: string): ManifestFile | undefined {
  const backup = chain[index]
  if (!backup) return undefined
  const record = backup.files?.get(path)
  // Of what a delta has from the backup below it, its table here has nothing.
  if (backup.files && !record) return contentOf(chain, index - 1, path)
  if (record?.isIncremented !== true) return backup.manifest?.get(path)
  const below = contentOf(chain, index - 1, path)
  return below && changesNothing(backup.increments.get(path), below.size) ? below : undefined
}

/**
 * True for an increment that leaves a file of so many bytes as it is. It has no blocks, and keeps as many as the file has: such
 * an increment is always these twelve bytes, so its checksum shows it.
 */
function changesNothing(increment: ManifestFile | undefined, bytes: number): boolean {
  const { algorithm, checksum, size } = increment ?? {}
  if (size !== incrementalFixedBytes || algorithm === undefined || bytes % pageBytes !== 0) return false
  const head = Buffer.alloc(incrementalFixedBytes)
  head.writeUInt32LE(incrementalMagic, 0)
  head.writeUInt32LE(bytes / pageBytes, 8)
  const sum = openChecksum(algorithm, 'the manifest')
  sum.update(head)
  return sum.digest() === checksum
}

/** The directories of a restored data directory, each with the bits of its mode where they are known. */
export function expectedDirectories(
  { sentinel: { pgVersion }, tree }: BackupDocuments,
  files: Iterable<string>,
): Map<string, number | undefined> {
  const directories = new Map<string, number | undefined>(tree?.directories)
  const own = tree ? [''] : serverDirectories((pgVersion ?? 0) / 10_000)
  for (const path of own) if (!directories.has(path)) directories.set(path, undefined)
  for (const file of files) {
    for (let path = posix.dirname(file); path !== '.' && !directories.has(path); path = posix.dirname(path)) {
      directories.set(path, undefined)
    }
  }
  return directories
}
