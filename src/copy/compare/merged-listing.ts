/**
 * The listings of two storages, side by side in the order of their keys: what one of them lacks shows without a request
 * for each object, and nothing is held but the two objects at hand.
 */
import { compareKeys } from '../../storage/keys.ts'
import type { ObjectInfo, Storage, StorageCallOptions } from '../../storage/storage.ts'
import { isTempName } from '../../storage/temp-name.ts'

/** A part of the keys of an archive. */
export interface KeyRange {
  /** What all of them begin with. */
  readonly prefix: string
  /** Only keys that sort after this one. */
  readonly after?: string | undefined
  /** Only keys that sort before this one. */
  readonly until?: string | undefined
  /** Leaves out keys of the range; default none. */
  readonly has?: ((key: string) => boolean) | undefined
}

/** A key that one of the two has, or both. */
export interface ListedPair {
  readonly key: string
  readonly source: ObjectInfo | undefined
  readonly target: ObjectInfo | undefined
}

/** All keys of a range that the source or the target has. Throws what the storages say. */
export async function* mergeListings(
  source: Pick<Storage, 'list'>,
  target: Pick<Storage, 'list'>,
  range: KeyRange,
  options: StorageCallOptions = {},
): AsyncGenerator<ListedPair, undefined> {
  const left = listRange(source, range, options)
  const right = listRange(target, range, options)
  try {
    let [ours, theirs] = await Promise.all([nextOf(left), nextOf(right)])
    while (ours || theirs) {
      const order = !ours ? 1 : !theirs ? -1 : compareKeys(ours.key, theirs.key)
      const pair = { source: order <= 0 ? ours : undefined, target: order >= 0 ? theirs : undefined }
      yield { key: (pair.source ?? pair.target)?.key ?? '', ...pair }
      const [a, b] = await Promise.all([pair.source ? nextOf(left) : ours, pair.target ? nextOf(right) : theirs])
      ours = a
      theirs = b
    }
  } finally {
    await Promise.allSettled([left.return(undefined), right.return(undefined)])
  }
}

/** The objects of a range. */
export async function* listRange(
  storage: Pick<Storage, 'list'>,
  { after, has, prefix, until }: KeyRange,
  options: StorageCallOptions = {},
): AsyncGenerator<ObjectInfo, undefined> {
  for await (const info of storage.list(prefix, { ...options, ...(after !== undefined && { startAfter: after }) })) {
    if (until !== undefined && compareKeys(info.key, until) >= 0) return
    if (!isTempName(info.key) && (has?.(info.key) ?? true)) yield info
  }
}

async function nextOf(objects: AsyncGenerator<ObjectInfo, undefined>): Promise<ObjectInfo | undefined> {
  const next = await objects.next()
  return next.done ? undefined : next.value
}
