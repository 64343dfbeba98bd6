/** Proves that a storage can be written, read and listed, and supports conditional puts: the same for both storages. */
import { randomBytes } from 'node:crypto'
import { WalrxError, hasCode } from '../primitives/errors.ts'
import { type Storage, type StorageCallOptions, readObject } from './storage.ts'

/** The methods of a storage that a probe needs. */
export interface ProbeTarget extends Pick<Storage, 'location' | 'put' | 'get' | 'list' | 'delete'> {
  /** A conditional put without a fallback: `unsupported` when the store refuses the condition itself. */
  createBare(key: string, body: Uint8Array, options: StorageCallOptions): Promise<'created' | 'exists' | 'unsupported'>
}

/**
 * Creates an object with a random key twice, reads it, lists it and removes it.
 * @param folder of the object; without a slash at its end
 * @returns true when the second creation was refused, which proves that conditional puts work
 * @throws what the storage throws; WALRX_STORAGE_UNAVAILABLE when it returns other bytes. A refused removal is not an
 * error: an access key that may add but not delete is a good one for an archive
 */
export async function proveStorage(target: ProbeTarget, folder: string, options: StorageCallOptions): Promise<boolean> {
  const key = `${folder}/${randomBytes(8).toString('hex')}`
  const body = Buffer.from(`written by walrx to test the storage, may be removed: ${key}\n`)
  let isRefused = false
  if ((await target.createBare(key, body, options)) === 'unsupported') await target.put(key, body, options)
  else isRefused = (await target.createBare(key, body, options)) === 'exists'
  const stored = await readObject(target, key, options)
  if (!stored.equals(body)) {
    throw new WalrxError(
      'WALRX_STORAGE_UNAVAILABLE',
      `${key} at ${target.location} was read back with other bytes than were written`,
      {
        transient: false,
      },
    )
  }
  for await (const object of target.list(key, options)) void object
  try {
    await target.delete([key], options)
  } catch (error) {
    if (!hasCode(error, 'WALRX_STORAGE_DENIED')) throw error
  }
  return isRefused
}
