/** Copies of objects in their stored form: nothing is decoded, so no codec or key is needed. */
import type { Storage, StorageCallOptions } from '../../storage/storage.ts'
import { compareStreams } from './compare-streams.ts'

/** Copies an object's stored bytes to another key, in place of what is there. Throws what the storage says. */
export function copyStored(
  storage: Pick<Storage, 'get' | 'put'>,
  from: string,
  to: string,
  options?: StorageCallOptions,
): Promise<void> {
  return storage.put(to, storedBytes(storage, from, options), options)
}

/** Stores bytes as they are, which were encoded for another key, if there is nothing under this one. */
export function keepStored(
  storage: Pick<Storage, 'putIfAbsent'>,
  key: string,
  stored: Uint8Array,
  options?: StorageCallOptions,
): Promise<'created' | 'exists'> {
  return storage.putIfAbsent(key, stored, options)
}

/** True where two objects are stored as the same bytes. Throws what the storage says. */
export async function isSameStored(
  storage: Pick<Storage, 'get'>,
  key: string,
  other: string,
  options?: StorageCallOptions,
): Promise<boolean> {
  return (await compareStreams(storedBytes(storage, key, options), storedBytes(storage, other, options))).equal
}

/** Opens the object when it is read: what fails before it reads, a put or another get, would leave it open. */
async function* storedBytes(
  storage: Pick<Storage, 'get'>,
  key: string,
  options?: StorageCallOptions,
): AsyncGenerator<Uint8Array> {
  yield* await storage.get(key, options)
}
