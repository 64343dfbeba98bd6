/** Removes what a listing shows, a thousand objects in a request, without holding more names than that. */
import { Readable } from 'node:stream'
import type { ObjectInfo, Storage, StorageCallOptions } from '../../storage/storage.ts'
import type { OwnRecord } from '../contents/own-records.ts'
import type { Refusals } from './refusals.ts'

/** The most keys in one request to a bucket. */
export const batchKeys = 1000

/** What has been done. */
export interface Removed {
  readonly objects: number
  readonly bytes: number
  /** How many were refused. */
  readonly refused: number
}

/** Options of {@link removeListed}. */
export interface RemoveOptions extends StorageCallOptions {
  readonly refusals: Refusals
  /** What becomes of an object: `end` neither removes it nor looks at any that follow. Default: all go. */
  readonly judge?: (object: ObjectInfo) => 'remove' | 'keep' | 'end'
  /** True: ends after a batch of which nothing could be removed, since what follows is newer. */
  readonly endsRefused?: boolean
}

/** Removes objects in the order of the listing. Throws what the storage says, but for what it refuses. */
export async function removeListed(
  storage: Pick<Storage, 'delete'>,
  objects: AsyncIterable<ObjectInfo>,
  { endsRefused, judge, refusals, signal }: RemoveOptions,
): Promise<Removed> {
  const removed = { objects: 0, bytes: 0, refused: 0 }
  let batch: ObjectInfo[] = []
  const flush = async (): Promise<boolean> => {
    const sizes = new Map(batch.map(({ key, size }) => [key, size]))
    const count = batch.length
    batch = []
    const onRefused = (...[key, error]: Parameters<Refusals['add']>) => {
      sizes.delete(key)
      refusals.add(key, error)
    }
    if (count > 0) await storage.delete([...sizes.keys()], { onRefused, ...(signal && { signal }) })
    for (const size of sizes.values()) removed.bytes += size
    removed.objects += sizes.size
    removed.refused += count - sizes.size
    return count > 0 && sizes.size === 0
  }
  for await (const object of objects) {
    const fate = judge?.(object) ?? 'remove'
    if (fate === 'end') break
    if (fate === 'keep') continue
    batch.push(object)
    if (batch.length === batchKeys && (await flush()) && endsRefused === true) return removed
  }
  await flush()
  return removed
}

/** Removes records by their keys. Throws what the storage says, but for what it refuses. */
export async function removeRecords(
  storage: Pick<Storage, 'delete'>,
  records: readonly OwnRecord[],
  options: Pick<RemoveOptions, 'refusals' | 'signal'>,
): Promise<Removed> {
  const objects = records.map(({ bytes, key }) => ({ key, size: bytes, lastModifiedMs: 0 }))
  return removeListed(storage, Readable.from(objects), options)
}
