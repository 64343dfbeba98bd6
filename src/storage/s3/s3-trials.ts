/** Requests that show what a key may do in a bucket: a multipart upload of one small piece, an abort, and what a HEAD says. */
import type { HeadObjectCommandInput, PutObjectCommandInput } from '@aws-sdk/client-s3'
import type { BucketObject, BucketTrials } from '../storage.ts'
import { type S3Operation, type S3Task, codeOf, statusOf } from './s3-errors.ts'
import type { S3Attempt, S3Retries } from './s3-retries.ts'

/** How the storage addresses an object. */
export interface S3TrialObjects {
  /** Bucket, key and the settings of a new object. */
  made(key: string): PutObjectCommandInput
  /** Bucket, key and the customer-provided key. */
  read(key: string): HeadObjectCommandInput
}

/** Milliseconds for the abort of an upload that failed. */
const abortMs = 3_000

/** See {@link BucketTrials}. */
export function bucketTrials(
  caller: S3Retries,
  taskOf: (operation: S3Operation, key: string) => S3Task,
  objects: S3TrialObjects,
): BucketTrials {
  const abort = async (key: string, UploadId: string, signal: AbortSignal | undefined) => {
    await caller.call(taskOf('abort of an upload', key), signal, async ({ sdk, send }) => {
      try {
        await send(new sdk.AbortMultipartUploadCommand({ ...objects.read(key), UploadId }))
      } catch (error) {
        if (codeOf(error) !== 'NoSuchUpload') throw error
      }
    })
  }
  return {
    async putInPieces(key, bytes, { signal } = {}) {
      const task = taskOf('put in pieces', key)
      const { UploadId = '' } = await caller.call(task, signal, ({ sdk, send }) =>
        send(new sdk.CreateMultipartUploadCommand(objects.made(key))),
      )
      const upload = { ...objects.read(key), UploadId }
      try {
        await caller.call(task, signal, async ({ sdk, send }) => {
          const { ETag } = await send(new sdk.UploadPartCommand({ ...upload, PartNumber: 1, Body: bytes }))
          const MultipartUpload = { Parts: [{ PartNumber: 1, ETag }] }
          await send(new sdk.CompleteMultipartUploadCommand({ ...upload, MultipartUpload }))
        })
        return UploadId
      } catch (error) {
        // Also after a signal: nobody else would abort it.
        await abort(key, UploadId, AbortSignal.timeout(abortMs)).catch(() => {})
        throw error
      }
    },
    abortUpload: (key, uploadId, { signal } = {}) => abort(key, uploadId, signal),
    describe: (key, { signal } = {}) =>
      caller.call(taskOf('head', key), signal, (attempt) => describe(attempt, objects.read(key))),
  }
}

async function describe({ sdk, send }: S3Attempt, object: HeadObjectCommandInput): Promise<BucketObject | undefined> {
  const command = new sdk.HeadObjectCommand(object)
  let date: string | undefined
  command.middlewareStack.add(
    (next) => async (given) => {
      const result = await next(given)
      date = (result.response as { readonly headers?: Readonly<Record<string, string>> }).headers?.['date']
      return result
    },
    { step: 'deserialize', name: 'walrxDateOfAnswer' },
  )
  try {
    const { ObjectLockRetainUntilDate, VersionId } = await send(command)
    const storeTimeMs = Date.parse(date ?? '')
    return {
      storeTimeMs: Number.isNaN(storeTimeMs) ? undefined : storeTimeMs,
      lockedUntilMs: ObjectLockRetainUntilDate?.getTime(),
      // A bucket whose versions are suspended says "null".
      hasVersions: VersionId !== undefined && VersionId !== 'null' && VersionId !== '',
    }
  } catch (error) {
    if (statusOf(error) === 404) return undefined
    throw error
  }
}
