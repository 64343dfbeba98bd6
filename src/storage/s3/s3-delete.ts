/** Removes objects in batches of a thousand, or one by one where a store has no batches. */
import type { _Error as KeyError } from '@aws-sdk/client-s3'
import { hasCode, type WalrxError } from '../../primitives/errors.ts'
import type { S3Attempt, S3Retries } from './s3-retries.ts'
import type { S3Shared } from './s3-client.ts'
import { type S3Task, codeOf, explainFailure, statusOf } from './s3-errors.ts'

/** The most keys in one request: the limit of S3. */
const BATCH_KEYS = 1000

/** Objects to remove. */
export interface S3DeleteOptions {
  readonly caller: S3Retries
  readonly bucket: string
  /** Full keys, the folder of the archive included. */
  readonly keys: readonly string[]
  readonly task: S3Task
  readonly signal: AbortSignal | undefined
  /** What is known of the bucket: the first answer shows whether it keeps versions. */
  readonly shared: Pick<S3Shared, 'keepsVersions'>
  /** Called with each full key that the store does not let us remove. */
  readonly onRefused?: ((key: string, error: WalrxError) => void) | undefined
}

/**
 * Removes objects. Only the keys of a batch that failed are tried again.
 * @throws WalrxError with the first key that can't be removed, where nobody is to be called with it
 */
export async function deleteObjects(options: S3DeleteOptions): Promise<void> {
  if (options.keys.length === 1) {
    await deleteOne(options, options.keys[0]!)
    return
  }
  for (let index = 0; index < options.keys.length; index += BATCH_KEYS) {
    await deleteBatch(options, options.keys.slice(index, index + BATCH_KEYS))
  }
}

/** Uploads to abort. */
export interface S3AbortOptions extends Omit<S3DeleteOptions, 'keys' | 'onRefused' | 'shared'> {
  /** Full prefix. */
  readonly prefix: string
}

/**
 * Aborts multipart uploads that no process will complete: their parts cost money, and no listing of objects shows them.
 * Does nothing where the store cannot list them.
 */
export async function abortUploads({ bucket, caller, prefix, signal, task }: S3AbortOptions): Promise<void> {
  await caller.call(task, signal, async ({ sdk, send }) => {
    let from: { KeyMarker?: string | undefined; UploadIdMarker?: string | undefined } = {}
    for (;;) {
      let page
      try {
        page = await send(new sdk.ListMultipartUploadsCommand({ Bucket: bucket, Prefix: prefix, ...from }))
      } catch (error) {
        if (isUnsupported(error)) return
        throw error
      }
      for (const { Key, UploadId } of page.Uploads ?? []) {
        // Some stores ignore the prefix.
        if (!Key?.startsWith(prefix) || UploadId === undefined) continue
        await send(new sdk.AbortMultipartUploadCommand({ Bucket: bucket, Key, UploadId })).catch((error: unknown) => {
          if (codeOf(error) !== 'NoSuchUpload') throw error
        })
      }
      if (page.IsTruncated !== true || page.NextKeyMarker === undefined) return
      from = { KeyMarker: page.NextKeyMarker, UploadIdMarker: page.NextUploadIdMarker }
    }
  })
}

async function deleteBatch(options: S3DeleteOptions, keys: readonly string[]): Promise<void> {
  const { caller, onRefused, signal, task } = options
  let left = keys
  let hasBatches: boolean
  try {
    hasBatches = await caller.call(task, signal, async (attempt) => {
      try {
        const errors = passRefused(options, await sendBatch(attempt, options, left))
        left = errors.map(({ Key }) => Key ?? '')
        if (errors.length > 0) throw keyError(errors)
        return true
      } catch (error) {
        if (!isUnsupported(error)) throw error
        return false
      }
    })
  } catch (error) {
    if (onRefused === undefined || !isRefusal(error)) throw error
    await deleteHalves(options, left)
    return
  }
  if (!hasBatches) for (const key of left) await deleteOne(options, key)
}

/** Some stores refuse a whole batch for one object that is locked: each half again, down to single keys. */
async function deleteHalves(options: S3DeleteOptions, keys: readonly string[]): Promise<void> {
  const middle = Math.ceil(keys.length / 2)
  for (const half of [keys.slice(0, middle), keys.slice(middle)]) {
    if (half.length > 0) await deleteObjects({ ...options, keys: half })
  }
}

/** The errors that may pass: those of locks and policies go to the caller that wants to know of them. */
function passRefused({ onRefused, task }: S3DeleteOptions, errors: readonly KeyError[]): readonly KeyError[] {
  if (onRefused === undefined) return errors
  return errors.filter((each) => {
    const { error } = explainFailure(keyError([each]), { ...task, key: each.Key ?? task.key })
    if (!isRefusal(error)) return true
    onRefused(each.Key ?? '', error)
    return false
  })
}

/** True where the store has answered that it does not remove an object: not for keys that it does not accept. */
function isRefusal(error: unknown): error is WalrxError {
  return hasCode(error, 'WALRX_STORAGE_DENIED') && codesOfNoLock.every((code) => codeOf(error.cause) !== code)
}

/** Denials that say nothing of an object: wrong access keys, a clock that is wrong. */
const codesOfNoLock = [
  ...['InvalidAccessKeyId', 'XAdminUserNotFound', 'SignatureDoesNotMatch', 'AuthorizationHeaderMalformed'],
  ...['InvalidToken', 'ExpiredToken', 'ExpiredTokenException', 'TokenRefreshRequired', 'RequestTimeTooSkewed'],
  'CredentialsProviderError',
]

/** The keys that were not removed, with the reasons. */
async function sendBatch(
  { sdk, send }: S3Attempt,
  { bucket, shared }: S3DeleteOptions,
  keys: readonly string[],
): Promise<KeyError[]> {
  const Objects = keys.map((Key) => ({ Key }))
  // A quiet answer has the errors alone.
  const Quiet = shared.keepsVersions !== undefined
  const answer = await send(new sdk.DeleteObjectsCommand({ Bucket: bucket, Delete: { Quiet, Objects } }))
  const { Deleted = [], Errors = [] } = answer
  if (!Quiet && Deleted.length > 0) shared.keepsVersions = Deleted.some(({ DeleteMarker }) => DeleteMarker === true)
  return Errors.filter(({ Code }) => Code !== 'NoSuchKey')
}

async function deleteOne(
  { bucket, caller, onRefused, shared, signal, task }: S3DeleteOptions,
  key: string,
): Promise<void> {
  try {
    await caller.call(task, signal, async ({ sdk, send }) => {
      try {
        const { DeleteMarker } = await send(new sdk.DeleteObjectCommand({ Bucket: bucket, Key: key }))
        shared.keepsVersions = DeleteMarker === true || shared.keepsVersions === true
      } catch (error) {
        // For a missing object S3 answers 204, some stores 404.
        if (codeOf(error) !== 'NoSuchKey') throw error
      }
    })
  } catch (error) {
    if (onRefused === undefined || !isRefusal(error)) throw error
    onRefused(key, error)
  }
}

/** An error of one key, in the form of an error of a whole request, so that it is translated in the same way. */
function keyError(errors: readonly KeyError[]): Error {
  const { Code = 'Unknown', Key = '', Message = '' } = errors[0]!
  const error = new Error(`${Key}${errors.length > 1 ? ` and ${errors.length - 1} more` : ''}: ${Message}`)
  // The request itself was answered with 200, so the status comes from the code.
  return Object.assign(error, { name: Code, $metadata: { httpStatusCode: Code === 'AccessDenied' ? 403 : 400 } })
}

/** True where the store does not support the request (as GCS for a long time). */
function isUnsupported(error: unknown): boolean {
  const status = statusOf(error)
  return status === 501 || status === 405 || codeOf(error) === 'NotImplemented'
}
