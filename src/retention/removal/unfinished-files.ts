/** Files of a directory that a killed writer left before it could rename them to objects. */
import type { Storage, StorageCallOptions, SweptFiles } from '../../storage/storage.ts'
import { foreignExpiryMs } from '../contents/read-unfinished.ts'

/**
 * Removes those that nobody has changed for a day. Undefined where a storage has none.
 * @param nowMs milliseconds since 1970, by the earlier of the clocks of this machine and of the storage
 */
export async function sweep(
  storage: Storage,
  nowMs: number,
  { signal }: StorageCallOptions,
): Promise<SweptFiles | undefined> {
  const options = { beforeMs: nowMs - foreignExpiryMs, removes: true, ...(signal && { signal }) }
  return storage.sweepUnfinished?.(options)
}
