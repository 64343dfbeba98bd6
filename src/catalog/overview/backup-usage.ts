/** What lies in the folder of base backups: one listing of all its objects, summed up by backup as they come. */
import type { Storage, StorageCallOptions } from '../../storage/storage.ts'
import { nameOfSentinel } from '../../walg/backup/backup-names.ts'
import type { ListedBackup } from '../../walg/backup/backup-archive.ts'
import { basebackupsFolder } from '../../walg/names.ts'

/** What a backup takes in the storage. */
export interface BackupUsage {
  /** Of all its objects, its sentinel included. */
  storedBytes: number
  objectCount: number
  /** When the last of its objects was written, in milliseconds since 1970 by the clock of the storage. */
  newestMs: number
}

/** The whole folder. */
export interface UsageByBackup {
  /** Backups that have a sentinel, in byte order of their names. */
  readonly finished: readonly ListedBackup[]
  /** By name, of those without a sentinel too. */
  readonly usage: ReadonlyMap<string, BackupUsage>
  /** Bytes of objects that belong to no backup. */
  readonly otherBytes: number
}

/** Reads the listing. Throws what the storage says. */
export async function readUsage(storage: Pick<Storage, 'list'>, options?: StorageCallOptions): Promise<UsageByBackup> {
  const usage = new Map<string, BackupUsage>()
  const finished: ListedBackup[] = []
  let otherBytes = 0
  for await (const { key, lastModifiedMs, size } of storage.list(basebackupsFolder, options)) {
    const sentinelOf = nameOfSentinel(key)
    const slash = key.indexOf('/', basebackupsFolder.length)
    const name = sentinelOf ?? (slash < 0 ? undefined : key.slice(basebackupsFolder.length, slash))
    if (sentinelOf !== undefined) finished.push({ name: sentinelOf, lastModifiedMs })
    if (name === undefined) {
      otherBytes += size
      continue
    }
    const known = usage.get(name) ?? { storedBytes: 0, objectCount: 0, newestMs: 0 }
    usage.set(name, known)
    known.storedBytes += size
    known.objectCount++
    known.newestMs = Math.max(known.newestMs, lastModifiedMs)
  }
  return { finished, usage, otherBytes }
}
