/** Objects that only show what a storage does: their bytes are stored as they are, and are read by nobody else. */
import { readObject, type Storage, type StorageCallOptions } from './storage.ts'

/** Stores an object of a trial; see {@link Storage.put}. */
export async function storeTrial(
  storage: Pick<Storage, 'put'>,
  key: string,
  bytes: Uint8Array,
  options: StorageCallOptions,
): Promise<void> {
  await storage.put(key, bytes, options)
}

/** All bytes of an object of a trial. Throws WALRX_OBJECT_NOT_FOUND. */
export function readTrial(storage: Pick<Storage, 'get'>, key: string, options: StorageCallOptions): Promise<Buffer> {
  return readObject(storage, key, options)
}
