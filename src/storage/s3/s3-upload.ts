/** Stores a stream of unknown length as one object: one PUT when it is short, else a multipart upload. */
import { createHash } from 'node:crypto'
import { Readable } from 'node:stream'
import type {
  CompleteMultipartUploadCommand,
  PutObjectCommandInput,
  S3Client,
  UploadPartCommand,
} from '@aws-sdk/client-s3'
import { WalrxError } from '../../primitives/errors.ts'
import { SourceError, readSource } from '../source.ts'
import type { StorageBody } from '../storage.ts'
import type { S3Retries } from './s3-retries.ts'
import type { S3Connection, S3Shared } from './s3-client.ts'
import { isCompleted, type SentPart } from './s3-completion.ts'
import { type S3Task, codeOf } from './s3-errors.ts'
import { PART_COUNT_MAX } from './s3-options.ts'

/** Parts sent at the same time; each is in memory, and so is the one being filled. */
const PARALLEL_PART_COUNT = 2
/** Retry limits for the removal of a failed upload's parts: the store may be unreachable. */
const ABORT_PATIENCE = { maxRetries: 2, retryTimeMaxMs: 5000 }

/** Part size for a stream with a known limit: large enough for throughput, and three parts are in memory. */
const SMALL_PART_BYTES = 6 * 1024 * 1024

/**
 * Part size for a stream of at most `sizeMaxBytes`: small, unless there would be too many parts.
 * @param largest the configured part size
 */
export function smallPartBytes(sizeMaxBytes: number, largest: number): number {
  return Math.max(Math.ceil(sizeMaxBytes / (PART_COUNT_MAX - 1)), Math.min(largest, SMALL_PART_BYTES))
}

/** One streamed put. */
export interface S3UploadOptions {
  readonly connection: S3Connection
  readonly caller: S3Retries
  /** Bucket, key and the settings of a new object, without the body. */
  readonly params: PutObjectCommandInput
  readonly body: StorageBody
  readonly partSizeBytes: number
  readonly task: S3Task
  readonly signal: AbortSignal | undefined
  /** SHA-256 of what was sent; see {@link S3Shared}. */
  readonly hashes: S3Shared['hashes']
}

type Send = (command: { readonly constructor: { readonly name: string } }) => Promise<unknown>

/**
 * Uploads a stream. Each request is retried by the caller's rules. After the first one that fails for good, nothing
 * more is read or sent, and the parts that the store has are removed.
 * @throws WalrxError; what the stream throws; the signal's reason. All of them after the parts have been removed
 */
export async function uploadStream(options: S3UploadOptions): Promise<void> {
  const { connection, caller, task, partSizeBytes } = options
  const { Upload } = await import('@aws-sdk/lib-storage')
  const stop = new AbortController()
  const { signal } = stop
  // Not AbortSignal.any: it leaves memory on the caller's signal, which may live as long as the process.
  const onAbort = () => stop.abort(options.signal?.reason)
  options.signal?.addEventListener('abort', onAbort, { once: true })
  if (options.signal?.aborted) onAbort()
  const sent = new Map<number, SentPart>()
  const send: Send = async (command) => {
    const { sdk } = connection
    // Without the signal, which has already aborted.
    if (command instanceof sdk.AbortMultipartUploadCommand) return await removeParts(options, command)
    try {
      if (command instanceof sdk.CompleteMultipartUploadCommand) return await complete(options, command, sent, signal)
      const answer = await caller.call(task, signal, (attempt) => attempt.send(command as never))
      if (command instanceof sdk.UploadPartCommand) noteSent(command, sent, options.hashes)
      return answer
    } catch (error) {
      stop.abort(error)
      throw error
    }
  }
  const source = Readable.from(limitSize(readSource(options.body, signal), PART_COUNT_MAX * partSizeBytes), {
    objectMode: false,
  })
  const upload = new Upload({
    client: Object.create(connection.client, { send: { value: send } }) as S3Client,
    params: { ...options.params, Body: source },
    partSize: partSizeBytes,
    queueSize: PARALLEL_PART_COUNT,
  })
  try {
    await upload.done()
  } catch (error) {
    options.signal?.throwIfAborted()
    const first = stop.signal.aborted ? (stop.signal.reason as unknown) : error
    throw first instanceof SourceError ? first.error : first
  } finally {
    options.signal?.removeEventListener('abort', onAbort)
  }
}

/** Completes the upload. An attempt whose answer was lost may have done it. */
async function complete(
  { caller, params, task }: S3UploadOptions,
  command: CompleteMultipartUploadCommand,
  sent: ReadonlyMap<number, SentPart>,
  signal: AbortSignal,
): Promise<object> {
  return await caller.call(task, signal, async (attempt) => {
    try {
      return await attempt.sendSlow(command)
    } catch (error) {
      const parts = command.input.MultipartUpload?.Parts ?? []
      if (codeOf(error) === 'NoSuchUpload' && (await isCompleted(params, parts, sent, attempt, signal))) return {}
      throw error
    }
  })
}

/** Keeps what a part was, to know it again in the object. */
function noteSent({ input }: UploadPartCommand, sent: Map<number, SentPart>, hashes: S3Shared['hashes']): void {
  const { Body, PartNumber = 0 } = input
  if (!(Body instanceof Uint8Array)) return
  const sha256 = hashes.get(Body) ?? createHash('sha256').update(Body).digest('hex')
  sent.set(PartNumber, { size: Body.length, sha256 })
}

/** Removes the parts of an unfinished upload. Its own failure is ignored: the upload's failure is the one to report. */
async function removeParts(options: S3UploadOptions, command: object): Promise<object> {
  const task = { ...options.task, operation: 'abort' }
  await options.caller.call(task, undefined, ({ send }) => send(command as never), ABORT_PATIENCE).catch(() => {})
  return {}
}

async function* limitSize(chunks: AsyncIterable<Uint8Array>, sizeMax: number): AsyncGenerator<Uint8Array, void> {
  let size = 0
  for await (const chunk of chunks) {
    size += chunk.length
    if (size > sizeMax) {
      throw new WalrxError(
        'WALRX_USAGE',
        `the object has more than ${sizeMax} bytes, which S3's limit of ${PART_COUNT_MAX} parts does not allow`,
        {
          hint: 'raise S3_MAX_PART_SIZE',
        },
      )
    }
    yield chunk
  }
}
