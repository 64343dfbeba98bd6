/**
 * What has come since the archive was read. A walrx that takes a delta announces it before its first object, and looks
 * for the sentinel of the parent just before it writes its own. So one that still saw the sentinel is found here, after
 * that has been removed: by its intent, or by its own sentinel. All is listed again: a backup of a standby or of a new
 * timeline sorts anywhere.
 */
import { mapInParallel } from '../../catalog/map-in-parallel.ts'
import { hasCode } from '../../primitives/errors.ts'
import { parseSegmentName } from '../../postgres/wal/wal-file.ts'
import type { Storage, StorageCallOptions } from '../../storage/storage.ts'
import { BackupArchive } from '../../walg/backup/backup-archive.ts'
import { parseBackupName } from '../../walg/backup/backup-names.ts'
import { listFolders, noFolder } from '../../walg/backup/backup-listing.ts'
import type { UnfinishedBackup } from '../contents/archived-backup.ts'
import type { ArchiveContents } from '../contents/archive-contents.ts'
import { possibleParents } from '../contents/possible-parents.ts'
import { readUnfinished } from '../contents/read-unfinished.ts'

/**
 * Backups that are being written now, and those that have become complete since.
 * @throws what the storage says
 */
export async function readLate(
  storage: Storage,
  contents: ArchiveContents,
  call: StorageCallOptions,
): Promise<UnfinishedBackup[]> {
  const { backups, deletion, nowMs, segmentSize } = contents
  const { folders, listed } = await listFolders(storage, call)
  const known = new Set(backups.map(({ name }) => name))
  const late = listed.filter(({ name }) => !known.has(name)).map(({ name }) => name)
  const complete = await mapInParallel(late, (name) => lateBackup(storage, name, contents, call))
  const unfinished = await readUnfinished(storage, { folders, backups, segmentSize, nowMs, deletion }, call)
  const isNew = ({ name, state }: UnfinishedBackup) =>
    !late.includes(name) && (state === 'running' || state === 'young')
  return [...complete, ...unfinished.filter(isNew)]
}

/** The names of the backups that they may build on, and of what those without a sentinel build on. */
export function parentsOfLate(
  late: readonly UnfinishedBackup[],
  { unfinished }: Pick<ArchiveContents, 'unfinished'>,
): ReadonlySet<string> {
  const parents = new Set(late.flatMap(({ parentNames }) => parentNames))
  const byName = new Map(unfinished.map((each) => [each.name, each]))
  // A set that grows while it is walked is walked to its end.
  for (const name of parents) for (const parent of byName.get(name)?.parentNames ?? []) parents.add(parent)
  return parents
}

async function lateBackup(
  storage: Storage,
  name: string,
  { backups, segmentSize, unfinished }: ArchiveContents,
  call: StorageCallOptions,
): Promise<UnfinishedBackup> {
  const segment = parseBackupName(name)?.segment
  const id = segment === undefined ? undefined : parseSegmentName(segment, segmentSize)
  const names = () => [...backups, ...unfinished].map((each) => each.name)
  const place = {
    name,
    timeline: id?.timeline,
    segno: id && Number(id.segno),
    folder: noFolder,
    state: 'young' as const,
  }
  try {
    const { delta } = await new BackupArchive(storage).readSentinel(name, call)
    return { ...place, parentNames: delta ? [delta.parentName] : [] }
  } catch (error) {
    if (!hasCode(error, 'WALRX_OBJECT_DAMAGED') && !hasCode(error, 'WALRX_BACKUP_NOT_FOUND')) throw error
    return { ...place, parentNames: possibleParents({ name, isParentKnown: false, parentName: undefined }, names) }
  }
}
