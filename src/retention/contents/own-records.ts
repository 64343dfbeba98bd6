/**
 * Small objects of walrx that outlive what they are about: results of checks of backups that are gone, by whatever tool,
 * and what a writer wrote to test the storage and was killed before it could remove.
 */
import type { Storage, StorageCallOptions } from '../../storage/storage.ts'
import { nameOfVerification } from '../../walg/backup/verification.ts'
import { archiveFolders, verifiedFolder } from '../../walg/names.ts'
import { foreignExpiryMs } from './read-unfinished.ts'

/** One of them. */
export interface OwnRecord {
  readonly key: string
  readonly bytes: number
  readonly kind: 'verification' | 'probe'
  /** Of a verification: name of the backup. */
  readonly backup: string | undefined
}

/**
 * All results of checks, and the test objects that are a day old: a test takes seconds.
 * @param nowMs milliseconds since 1970
 * @throws what the storage says
 */
export async function readOwnRecords(
  storage: Storage,
  nowMs: number,
  options?: StorageCallOptions,
): Promise<OwnRecord[]> {
  const records: OwnRecord[] = []
  for await (const { key, size } of storage.list(verifiedFolder, options)) {
    const backup = nameOfVerification(key)
    if (backup !== undefined) records.push({ key, bytes: size, kind: 'verification', backup })
  }
  for await (const { key, lastModifiedMs, size } of storage.list(`${archiveFolders.probe}/`, options)) {
    if (nowMs - lastModifiedMs >= foreignExpiryMs) records.push({ key, bytes: size, kind: 'probe', backup: undefined })
  }
  return records
}
