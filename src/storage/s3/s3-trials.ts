/** Requests that show what a key may do in a bucket: a multipart upload of one small piece, an abort, and what a HEAD says. */
import type { HeadObjectCommandInput, PutObjectCommandInput } from '@aws-sdk/client-s3'
import type { BucketObject, BucketTrials } from '../storage.ts'
import { type S3Operation, type S3Task, statusOf } from './s3-errors.ts'
import type { S3Attempt, S3Retries } from './s3-retries.ts'

/** How the storage addresses an object. */
export interface S3TrialObjects {
  /** Bucket, key and the settings of a new object. */
  made(key: string): PutObjectCommandInput
  /** Bucket, key and the customer-provided key. */
  read(key: string): HeadObjectCommandInput
}

/** See {@link BucketTrials}. */
export function bucketTrials(
  caller: S3Retries,
  taskOf: (operation: S3Operation, key: string) => S3Task,
  objects: S3TrialObjects,
): BucketTrials {
  const begin = async (key: string, signal: AbortSignal | undefined) => {
    return await caller.call(taskOf('put in pieces', key), signal, async ({ sdk, send }) => {
      const { UploadId } = await send(new sdk.CreateMultipartUploadCommand(objects.made(key)))
      return { ...objects.read(key), UploadId }
    })
  }
  type Upload = Awaited<ReturnType<typeof begin>>
  const abort = async (key: string, upload: Upload, signal: AbortSignal | undefined) => {
    await caller.call(taskOf('abort of an upload', key), signal, ({ sdk, send }) =>
      send(new sdk.AbortMultipartUploadCommand(upload)),
    )
  }
  return {
    async putInPieces(key, bytes, { signal } = {}) {
      const upload = await begin(key, signal)
      try {
        await caller.call(taskOf('put in pieces', key), signal, async ({ sdk, send }) => {
          const { ETag } = await send(new sdk.UploadPartCommand({ ...upload, PartNumber: 1, Body: bytes }))
          const MultipartUpload = { Parts: [{ PartNumber: 1, ETag }] }
          await send(new sdk.CompleteMultipartUploadCommand({ ...upload, MultipartUpload }))
        })
      } catch (error) {
        signal?.throwIfAborted()
        await abort(key, upload, signal).catch(() => {})
        throw error
      }
    },
    abortUpload: async (key, { signal } = {}) => abort(key, await begin(key, signal), signal),
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
