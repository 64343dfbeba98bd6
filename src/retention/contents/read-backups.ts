/** Reads the backups of an archive: one listing of all their folders, and of each its sentinel and metadata.json. */
import { placeOf } from '../../catalog/backup-order.ts'
import { type BackupDetail, isPermanent, readDetail } from '../../catalog/backups.ts'
import { mapInParallel } from '../../catalog/map-in-parallel.ts'
import type { Storage, StorageCallOptions } from '../../storage/storage.ts'
import type { BackupArchive } from '../../walg/backup/backup-archive.ts'
import { type BackupFolder, lackOf, listFolders, noFolder } from '../../walg/backup/backup-listing.ts'
import { knownTime } from '../../walg/backup/backup-time.ts'
import type { ArchivedBackup } from './archived-backup.ts'

/** What was found. */
export interface FoundBackups {
  /** In the order of their names, without timeline and segment. */
  readonly found: readonly ArchivedBackup[]
  /** By name, those of backups without a sentinel too. */
  readonly folders: ReadonlyMap<string, BackupFolder>
}

/** Throws what the storage says. */
export async function readBackups(
  archive: BackupArchive,
  storage: Storage,
  options: StorageCallOptions,
): Promise<FoundBackups> {
  const { folders, listed } = await listFolders(storage, options)
  // One after the other, a thousand backups of WAL-E with their lists of files would not fit into memory.
  const found = await mapInParallel(listed, async (backup) => {
    const detail = await readDetail(archive, backup, options)
    return archivedBackup(detail, folders.get(backup.name) ?? noFolder)
  })
  return { found: found.filter((each) => each !== undefined), folders }
}

/** What is kept of the documents; undefined for a backup that went since the listing. */
function archivedBackup(detail: BackupDetail, folder: BackupFolder): ArchivedBackup | undefined {
  const { lastModifiedMs, metadata, name, problems, sentinel } = detail
  if (problems.some(({ code }) => code === 'WALRX_BACKUP_NOT_FOUND')) return undefined
  const place = placeOf(sentinel, metadata)
  const finishTime = knownTime(sentinel?.finishTime) ?? knownTime(metadata?.finishTime)
  const inMs = (time: bigint | undefined) => (time === undefined ? lastModifiedMs : Number(time / 1_000_000n))
  return {
    name,
    lastModifiedMs,
    ...place,
    timeline: undefined,
    segno: undefined,
    finishLsn: sentinel?.finishLsn ?? metadata?.finishLsn,
    startMs: inMs(place.startTime),
    finishMs: inMs(finishTime),
    parentName: sentinel?.delta?.parentName,
    isParentKnown: sentinel !== undefined,
    isPermanent: isPermanent(detail.permanence),
    isMarkKnown: isPermanent(detail.permanence) || detail.permanence.inMetadata !== undefined,
    problem: problems[0]?.message,
    userData: sentinel?.userData ?? metadata?.userData,
    folder,
    lack: sentinel && lackOf(sentinel, folder),
  }
}
