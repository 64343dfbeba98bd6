/**
 * Reads of single objects, and what their refusals mean. A bare 404 proves nothing, and neither does a 403: S3 answers it
 * for what is missing, too, where the key may not list.
 */
import type { Readable } from 'node:stream'
import type { GetObjectCommandInput, GetObjectCommandOutput } from '@aws-sdk/client-s3'
import { WalrxError, hasCode } from '../../primitives/errors.ts'
import type { ListOptions, ObjectInfo } from '../storage.ts'
import { md5Of } from './s3-etag.ts'
import type { S3Retries } from './s3-retries.ts'
import { type S3Task, denialOfMissing, describeTask, isDenial, namesNoReason, statusOf } from './s3-errors.ts'

/** What reads need of their storage. */
export interface S3ReadSource {
  readonly caller: S3Retries
  task(operation: 'get' | 'head', key: string): S3Task
  /** Bucket, key and the customer-provided key. */
  object(key: string): Pick<GetObjectCommandInput, 'SSECustomerAlgorithm' | 'SSECustomerKey'> & {
    readonly Bucket: string
    readonly Key: string
  }
  list(prefix: string, options: ListOptions): AsyncIterable<ObjectInfo>
}

/** See the file's header. */
export class S3Reads {
  readonly #source: S3ReadSource

  constructor(source: S3ReadSource) {
    this.#source = source
  }

  /** The answer of a HEAD; undefined for a 404 of any cause. */
  async headBare(key: string, signal: AbortSignal | undefined): Promise<ObjectInfo | undefined> {
    try {
      return await this.#source.caller.call(this.#source.task('head', key), signal, async ({ sdk, send }) => {
        try {
          return infoOf(key, await send(new sdk.HeadObjectCommand(this.#source.object(key))))
        } catch (error) {
          if (statusOf(error) === 404) return undefined
          if (!namesNoReason(error)) throw error
          // An answer to a HEAD has no body, and so no code: a GET says why.
          const answer = await send(new sdk.GetObjectCommand(this.#source.object(key)))
          ;(answer.Body as Readable).destroy()
          return infoOf(key, answer)
        }
      })
    } catch (error) {
      throw isDenial(error) ? await this.#namedDenial(error, key, signal) : error
    }
  }

  /** What a GET answers, without reading the body; undefined only when the store says that there is no such object. */
  async headByGet(key: string, signal: AbortSignal | undefined): Promise<ObjectInfo | undefined> {
    try {
      const answer = await this.getObject(key, {}, signal)
      ;(answer.Body as Readable).destroy()
      return infoOf(key, answer)
    } catch (error) {
      if (hasCode(error, 'WALRX_OBJECT_NOT_FOUND')) return undefined
      throw error
    }
  }

  async getObject(
    key: string,
    range: Pick<GetObjectCommandInput, 'Range' | 'IfMatch'>,
    signal: AbortSignal | undefined,
  ): Promise<GetObjectCommandOutput> {
    try {
      return await this.#source.caller.call(this.#source.task('get', key), signal, ({ sdk, send }) =>
        send(new sdk.GetObjectCommand({ ...this.#source.object(key), ...range })),
      )
    } catch (error) {
      throw isDenial(error) ? await this.#namedDenial(error, key, signal) : error
    }
  }

  /** What is missing is denied too where the key may not list: a listing shows which right is lacking. */
  async #namedDenial(error: WalrxError, key: string, signal: AbortSignal | undefined): Promise<unknown> {
    try {
      for await (const _ of this.#source.list(key, { firstPageKeys: 1, ...(signal && { signal }) })) break
      return error
    } catch (other) {
      return isDenial(other) ? denialOfMissing(other, error) : error
    }
  }

  /** The bytes of an object from `offset` on, while it is still the version `etag`. */
  async getRest(key: string, offset: number, etag: string, signal: AbortSignal | undefined): Promise<Readable> {
    const task = this.#source.task('get', key)
    return await this.#source.caller.call(task, signal, async ({ sdk, send }) => {
      const range = { Range: `bytes=${offset}-`, IfMatch: etag }
      try {
        const answer = await send(new sdk.GetObjectCommand({ ...this.#source.object(key), ...range }))
        const stream = answer.Body as Readable
        // s3rver answers with another version all the same: it ignores IfMatch.
        if (answer.ETag === etag && answer.ContentRange?.startsWith(`bytes ${offset}-`)) return stream
        stream.destroy()
      } catch (error) {
        if (statusOf(error) !== 412) throw error
      }
      const problem = `the connection broke after ${offset} bytes, and the store cannot send the rest of that version`
      throw new WalrxError('WALRX_STORAGE_UNAVAILABLE', `${describeTask(task)} failed: ${problem}`)
    })
  }
}

function infoOf(
  key: string,
  answer: { ContentLength?: number | undefined; LastModified?: Date | undefined; ETag?: string | undefined },
): ObjectInfo {
  const lastModifiedMs = answer.LastModified?.getTime() ?? 0
  return { key, size: answer.ContentLength ?? 0, lastModifiedMs, ...md5Of(answer.ETag) }
}
