/**
 * `walrx_005/deletion/<name>_backup_stop_sentinel.json`: the sentinels that a deletion removes, byte for byte, until the
 * rest of the backup is gone. A delta may come just when its parent is being deleted: then the parent gets its sentinel
 * back, by this run, or by the next one where this one was killed.
 */
import { namesAfter } from '../../catalog/backup-order.ts'
import { putOvertaken } from '../../catalog/sentinel-order.ts'
import type { Clock } from '../../primitives/clock.ts'
import { hasCode } from '../../primitives/errors.ts'
import type { DeleteOptions, Storage, StorageCallOptions } from '../../storage/storage.ts'
import { BackupArchive } from '../../walg/backup/backup-archive.ts'
import { parseSentinel } from '../../walg/backup/sentinel.ts'
import { deletedFolder, sentinelSuffix } from '../../walg/names.ts'
import { readDocument } from '../../walg/stored/stored-reader.ts'
import { putDocument } from '../../walg/stored/stored-writer.ts'

/** Where the sentinel of a backup is saved. */
export function savedKey(name: string): string {
  return `${deletedFolder}${name}${sentinelSuffix}`
}

/** Saves a sentinel before it is removed. Throws what the storage says. */
export async function saveSentinel(
  storage: Storage,
  name: string,
  bytes: Uint8Array,
  call: StorageCallOptions,
): Promise<void> {
  await putDocument(storage, savedKey(name), bytes, call)
}

/** Removes saved sentinels of backups that are gone, or are there again. What the storage keeps is in nobody's way. */
export async function forgetSaved(storage: Storage, names: readonly string[], call: DeleteOptions): Promise<void> {
  if (names.length > 0) await storage.delete(names.map(savedKey), { ...call, onRefused: () => {} })
}

/**
 * Puts a sentinel back. To WAL-G and WAL-RUS the newest object is LATEST: newer sentinels are put again after this one.
 * @returns false where none was saved
 */
export async function putBack(
  { clock, storage }: { readonly clock: Clock; readonly storage: Storage },
  name: string,
  call: StorageCallOptions,
): Promise<boolean> {
  const archive = new BackupArchive(storage)
  let bytes: Buffer
  try {
    bytes = await readDocument(storage, savedKey(name), call)
  } catch (error) {
    if (hasCode(error, 'WALRX_OBJECT_NOT_FOUND')) return false
    throw error
  }
  const newer = await namesNewer(archive, name, bytes, call)
  const writing = { storage, archive, clock, ...call }
  await putOvertaken(writing, name, newer, () => archive.putSentinelBytes(name, bytes, call))
  await forgetSaved(storage, [name], call)
  return true
}

/** A sentinel that cannot be read says nothing of its place. */
async function namesNewer(
  archive: BackupArchive,
  name: string,
  bytes: Buffer,
  call: StorageCallOptions,
): Promise<string[]> {
  try {
    return await namesAfter(archive, { name, ...parseSentinel(bytes, savedKey(name)) }, call)
  } catch (error) {
    if (hasCode(error, 'WALRX_OBJECT_DAMAGED')) return []
    throw error
  }
}
