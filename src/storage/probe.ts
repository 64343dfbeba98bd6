/** The proof that a storage can be written, read, listed and written to conditionally: the same for both backends. */
import { randomBytes } from 'node:crypto'
import { WalrxError, hasCode } from '../primitives/errors.ts'
import { type Storage, type StorageCallOptions, readObject } from './storage.ts'

/** What a probe needs of its storage. */
export interface ProbeTarget extends Pick<Storage, 'location' | 'put' | 'get' | 'list' | 'delete'> {
  /** A conditional put, bare: `unsupported` when the store refuses the condition itself. */
  createBare(key: string, body: Uint8Array, options: StorageCallOptions): Promise<'created' | 'exists' | 'unsupported'>
}

/**
 * Creates an object of a fresh random key twice, reads it, lists it and removes it.
 * @param folder where; without a slash at its end
 * @returns true when the second creation was refused: conditional puts are believed only when they were seen to refuse
 * @throws what the storage throws; WALRX_STORAGE_UNAVAILABLE when it gives back other bytes. That the object may not be
 * removed is no error: a key that may add but not delete is a good one for an archive
 */
export async function proveStorage(target: ProbeTarget, folder: string, options: StorageCallOptions): Promise<boolean> {
  const key = `${folder}/${randomBytes(8).toString('hex')}`
  const body = Buffer.from(`walrx was here to see whether it can write, and may be removed: ${key}\n`)
  let isRefused = false
  if ((await target.createBare(key, body, options)) === 'unsupported') await target.put(key, body, options)
  else isRefused = (await target.createBare(key, body, options)) === 'exists'
  const stored = await readObject(target, key, options)
  if (!stored.equals(body)) {
    throw new WalrxError('WALRX_STORAGE_UNAVAILABLE', `${key} at ${target.location} came back with other bytes`, {
      transient: false,
    })
  }
  for await (const object of target.list(key, options)) void object
  try {
    await target.delete([key], options)
  } catch (error) {
    if (!hasCode(error, 'WALRX_STORAGE_DENIED')) throw error
  }
  return isRefused
}
