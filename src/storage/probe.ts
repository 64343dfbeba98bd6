/** Proves that a storage can be written, read and listed, and supports conditional puts: the same for both storages. */
import { randomBytes } from 'node:crypto'
import { WalrxError, hasCode } from '../primitives/errors.ts'
import { type Storage, type StorageCallOptions, type StorageTraits, readObject } from './storage.ts'

/** The methods of a storage that a probe needs. */
export interface ProbeTarget extends Pick<Storage, 'location' | 'put' | 'get' | 'list' | 'delete'> {
  /** A conditional put without a fallback: `unsupported` when the store refuses the condition itself. */
  createBare(key: string, body: Uint8Array, options: StorageCallOptions): Promise<'created' | 'exists' | 'unsupported'>
  /**
   * Tests a listing of two objects, page by page and after a key that does not exist. Undefined where a storage lists
   * for itself.
   * @param first also the prefix of `second`
   * @returns what its listings lack, for people; undefined for nothing
   */
  testListing?(first: string, second: string, options: StorageCallOptions): Promise<string | undefined>
}

/**
 * Creates an object with a random key twice, reads it, lists it and removes it. Where listings are tested, there is a
 * second object. A listing comes before all that: SeaweedFS creates a bucket that is missing at the first put.
 * @param folder of the objects; without a slash at its end
 * @returns conditional puts work where the second creation was refused
 * @throws what the storage throws; WALRX_STORAGE_UNAVAILABLE when it returns other bytes. A refused removal is not an
 * error: an access key that may add but not delete is a good one for an archive
 */
export async function proveStorage(
  target: ProbeTarget,
  folder: string,
  options: StorageCallOptions,
): Promise<StorageTraits> {
  const key = `${folder}/${randomBytes(8).toString('hex')}`
  const body = Buffer.from(`written by walrx to test the storage, may be removed: ${key}\n`)
  let isRefused = false
  await isListed(target, key, options)
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
  const keys = [key]
  let problem: string | undefined
  let isTested = false
  // A store that shows an object only after a while proves nothing: each listing then checks for itself.
  if ((await isListed(target, key, options)) && target.testListing) {
    const second = `${key}-2`
    keys.push(second)
    await target.put(second, body, options)
    problem = await target.testListing(key, second, options)
    isTested = true
  }
  try {
    for (const one of keys) await target.delete([one], options)
  } catch (error) {
    if (!hasCode(error, 'WALRX_STORAGE_DENIED')) throw error
  }
  if (problem !== undefined) return { conditionalPut: isRefused, listingProblem: problem }
  return isTested ? { conditionalPut: isRefused, isListingProven: true } : { conditionalPut: isRefused }
}

async function isListed(target: ProbeTarget, key: string, options: StorageCallOptions): Promise<boolean> {
  for await (const object of target.list(key, options)) return object.key === key
  return false
}
