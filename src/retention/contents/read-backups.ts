/** Reads the backups of an archive: one listing of all their folders, and of each its sentinel and metadata.json. */
import { knownTime } from '../../catalog/backup-order.ts'
import { type BackupDetail, isPermanent, readDetail } from '../../catalog/backups.ts'
import { mapInParallel } from '../../catalog/map-in-parallel.ts'
import { isTempName } from '../../storage/temp-name.ts'
import type { Storage, StorageCallOptions } from '../../storage/storage.ts'
import type { BackupArchive, ListedBackup } from '../../walg/backup/backup-archive.ts'
import { nameOfSentinel } from '../../walg/backup/backup-names.ts'
import { backupObjects, basebackupsFolder } from '../../walg/names.ts'
import { type ArchivedBackup, type BackupFolder, noFolder } from './archived-backup.ts'

/** What was found. */
export interface FoundBackups {
  /** In the order of their names, without timeline and segment. */
  readonly found: readonly ArchivedBackup[]
  /** By name, those of backups without a sentinel too. */
  readonly folders: ReadonlyMap<string, BackupFolder>
}

/** What a listing of all backups shows. */
export interface ListedFolders {
  /** Those with a sentinel, in the order of their names. */
  readonly listed: readonly ListedBackup[]
  /** By name, those of backups without a sentinel too. */
  readonly folders: ReadonlyMap<string, BackupFolder>
}

/** Lists all backups. Throws what the storage says. */
export async function listFolders(storage: Pick<Storage, 'list'>, options: StorageCallOptions): Promise<ListedFolders> {
  const listed: ListedBackup[] = []
  const folders = new Map<string, BackupFolder>()
  for await (const { key, lastModifiedMs, size } of storage.list(basebackupsFolder, options)) {
    const slash = key.indexOf('/', basebackupsFolder.length)
    if (slash < 0) {
      const name = nameOfSentinel(key)
      if (name !== undefined) listed.push({ name, lastModifiedMs })
      continue
    }
    const name = key.slice(basebackupsFolder.length, slash)
    const { bytes, hasControl, hasEmptyPart, newestMs, objects, partBytes } = folders.get(name) ?? noFolder
    const part =
      key.startsWith(backupObjects.parts, slash + 1) && !isTempName(key)
        ? key.slice(key.lastIndexOf('/') + 1)
        : undefined
    folders.set(name, {
      objects: objects + 1,
      bytes: bytes + size,
      hasControl: hasControl || part?.startsWith('pg_control.tar') === true,
      partBytes: partBytes + (part === undefined ? 0 : size),
      hasEmptyPart: hasEmptyPart || (part !== undefined && size === 0),
      newestMs: Math.max(newestMs, lastModifiedMs),
    })
  }
  return { listed, folders }
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
  const startTime = knownTime(sentinel?.startTime) ?? knownTime(metadata?.startTime)
  const finishTime = knownTime(sentinel?.finishTime) ?? knownTime(metadata?.finishTime)
  const inMs = (time: bigint | undefined) => (time === undefined ? lastModifiedMs : Number(time / 1_000_000n))
  return {
    name,
    lastModifiedMs,
    startTime,
    startLsn: sentinel?.startLsn ?? metadata?.startLsn ?? 0n,
    systemId: sentinel?.systemIdentifier ?? metadata?.systemIdentifier,
    timeline: undefined,
    segno: undefined,
    finishLsn: sentinel?.finishLsn ?? metadata?.finishLsn,
    startMs: inMs(startTime),
    finishMs: inMs(finishTime),
    parentName: sentinel?.delta?.parentName,
    isParentKnown: sentinel !== undefined,
    isPermanent: isPermanent(detail.permanence),
    problem: problems[0]?.message,
    userData: sentinel?.userData ?? metadata?.userData,
    folder,
    compressedSize: sentinel?.compressedSize ?? 0,
  }
}
