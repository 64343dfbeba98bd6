/** Lists the keys of a bucket, page by page. */
import type { ListObjectsV2CommandOutput } from '@aws-sdk/client-s3'
import { WalrxError } from '../../primitives/errors.ts'
import { compareKeys } from '../keys.ts'
import type { ObjectInfo } from '../storage.ts'
import type { S3Retries } from './s3-retries.ts'
import { type S3Task, describeTask } from './s3-errors.ts'

/** Selects the keys. */
export interface S3ListingOptions {
  readonly caller: S3Retries
  readonly bucket: string
  /** Folder of the archive with its `/`, or empty: removed from the keys. */
  readonly root: string
  /** Beginning of the keys, without the root. */
  readonly prefix: string
  readonly startAfter: string | undefined
  readonly signal: AbortSignal | undefined
  readonly task: S3Task
}

/**
 * The objects with keys that begin with `prefix`, in the byte order that S3 promises. Leaves out keys that walrx never
 * makes (empty, or the marker of a folder, which ends in `/`).
 * @throws WALRX_STORAGE_UNAVAILABLE for a store that lists in another order: readers rely on the order
 */
export async function* listObjects(options: S3ListingOptions): AsyncGenerator<ObjectInfo, void> {
  const { caller, root, startAfter, task, signal } = options
  let last = startAfter === undefined ? undefined : root + startAfter
  let token: string | undefined
  for (;;) {
    const position = { token, startAfter: last }
    const page = await caller.call(task, signal, ({ sdk, send }) =>
      send(
        new sdk.ListObjectsV2Command({
          Bucket: options.bucket,
          Prefix: root + options.prefix,
          // Keys with characters that XML can't hold arrive intact only with this encoding.
          EncodingType: 'url',
          ...(position.token !== undefined
            ? { ContinuationToken: position.token }
            : position.startAfter !== undefined && { StartAfter: position.startAfter }),
        }),
      ),
    )
    for (const { Key, Size, LastModified } of page.Contents ?? []) {
      const fullKey = decodeKey(Key ?? '', page)
      // A store that ignores StartAfter begins with the first key.
      if (startAfter !== undefined && compareKeys(fullKey, root + startAfter) <= 0) continue
      if (last !== undefined && compareKeys(fullKey, last) <= 0) throw disorder(task, last, fullKey)
      last = fullKey
      const key = fullKey.slice(root.length)
      if (!fullKey.startsWith(root) || key === '' || key.endsWith('/')) continue
      yield { key, size: Size ?? 0, lastModifiedMs: LastModified?.getTime() ?? 0 }
      signal?.throwIfAborted()
    }
    if (!page.IsTruncated) return
    // Without a token the next page begins after the last key; a page without either would repeat for ever.
    if (page.NextContinuationToken === undefined ? !page.Contents?.length : page.NextContinuationToken === token) {
      throw new WalrxError(
        'WALRX_STORAGE_UNAVAILABLE',
        `${describeTask(task)} failed: the store announced a next page without a position for it`,
      )
    }
    token = page.NextContinuationToken
  }
}

/** A store that does not support the encoding does not echo it, and sends keys as they are. */
function decodeKey(key: string, { EncodingType }: ListObjectsV2CommandOutput): string {
  return EncodingType === 'url' ? decodeURIComponent(key.replaceAll('+', ' ')) : key
}

function disorder(task: S3Task, before: string, after: string): WalrxError {
  return new WalrxError(
    'WALRX_STORAGE_UNAVAILABLE',
    `${describeTask(task)} failed: the store lists ${after} after ${before}, which is not the order of S3`,
    { transient: false, hint: 'walrx needs a store that lists keys in the order of their bytes' },
  )
}
