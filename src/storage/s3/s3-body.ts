/** The bytes of an object as they arrive, resumed when a connection breaks. */
import type { Readable } from 'node:stream'
import { Backoff } from '../../primitives/backoff.ts'
import { type Clock, sleep, systemClock } from '../../primitives/clock.ts'
import { WalrxError } from '../../primitives/errors.ts'
import { abortable } from '../abortable.ts'
import { type S3Task, describeTask, explainFailure } from './s3-errors.ts'
import { type S3StorageOptions, s3Defaults } from './s3-options.ts'

/** How long a body without a new byte is resumed, and how often. */
export type S3BodyOptions = Pick<
  S3StorageOptions,
  'clock' | 'maxRetries' | 'random' | 'retryDelayFirstMs' | 'retryDelayMaxMs' | 'retryTimeMaxMs'
>

/** An answer to a GET. */
export interface S3Answer {
  readonly stream: Readable
  /** Size of the object in bytes; undefined where the store doesn't send it: then the end of the stream counts. */
  readonly size: number | undefined
  /** Identifies the version of the object; undefined where the store sends none: then nothing is resumed. */
  readonly etag: string | undefined
}

/**
 * Requests the bytes from `offset` on of the version `etag`, with the retries of any request. Throws
 * WALRX_STORAGE_UNAVAILABLE when the object was replaced meanwhile.
 */
export type S3Resume = (offset: number, etag: string) => Promise<Readable>

/**
 * Iterates over an object. A connection that breaks, stalls or ends early is replaced by one for the rest. The stream
 * is destroyed at the end, at an error, when the caller stops early and when `signal` aborts.
 */
export class S3Body implements AsyncIterableIterator<Uint8Array> {
  readonly #answer: S3Answer
  readonly #resume: S3Resume
  readonly #task: S3Task
  readonly #signal: AbortSignal | undefined
  readonly #onAbort = () => this.#close()
  #stream: Readable
  #chunks: AsyncIterator<Uint8Array>
  #offset = 0
  readonly #clock: Clock
  readonly #patienceMs: number
  readonly #resumesMax: number
  readonly #backoff: Backoff
  /** Since when it is taken up again without a byte more; undefined while bytes come. */
  #fruitlessSinceMs: number | undefined
  #isClosed = false

  constructor(
    answer: S3Answer,
    resume: S3Resume,
    task: S3Task,
    signal: AbortSignal | undefined,
    options: S3BodyOptions,
  ) {
    this.#answer = answer
    this.#resume = resume
    this.#task = task
    this.#signal = signal
    this.#clock = options.clock ?? systemClock
    this.#resumesMax = options.maxRetries ?? Infinity
    this.#patienceMs = options.retryTimeMaxMs ?? s3Defaults.retryTimeMaxMs
    this.#backoff = new Backoff({
      firstMs: options.retryDelayFirstMs ?? s3Defaults.retryDelayFirstMs,
      maxMs: options.retryDelayMaxMs ?? s3Defaults.retryDelayMaxMs,
      random: options.random ?? Math.random,
    })
    this.#stream = answer.stream
    this.#chunks = this.#read(answer.stream)
    signal?.addEventListener('abort', this.#onAbort, { once: true })
  }

  [Symbol.asyncIterator](): this {
    return this
  }

  async next(): Promise<IteratorResult<Uint8Array, undefined>> {
    this.#signal?.throwIfAborted()
    try {
      while (!this.#isClosed) {
        const chunk = await this.#nextChunk()
        if (chunk === undefined) break
        if (chunk.length === 0) continue
        this.#offset += chunk.length
        this.#fruitlessSinceMs = undefined
        this.#backoff.reset()
        const size = this.#answer.size
        if (size !== undefined && this.#offset > size) throw this.#failure(`the store sent more than ${size} bytes`)
        return { done: false, value: chunk }
      }
    } catch (error) {
      this.#close()
      throw error
    }
    return await this.return()
  }

  return(): Promise<IteratorReturnResult<undefined>> {
    this.#close()
    return Promise.resolve({ done: true, value: undefined })
  }

  /** The next bytes; undefined after the last ones. */
  async #nextChunk(): Promise<Uint8Array | undefined> {
    for (;;) {
      let cause: unknown
      try {
        const result = await abortable(this.#chunks.next(), this.#signal)
        if (!result.done) return result.value
        if (this.#answer.size === undefined) return undefined
      } catch (error) {
        this.#signal?.throwIfAborted()
        cause = error
      }
      if (this.#offset === this.#answer.size && cause === undefined) return undefined
      await this.#resumeAfter(cause)
    }
  }

  async #resumeAfter(cause: unknown): Promise<void> {
    this.#stream.destroy()
    const { etag, size } = this.#answer
    // An error after the last byte comes from the SDK's checksum check: there are no further bytes to request.
    if (etag === undefined || this.#offset === size || !(await this.#mayResume())) {
      if (cause !== undefined) throw explainFailure(cause, this.#task).error
      throw this.#failure(`the answer ended after ${this.#offset} of ${size} bytes`)
    }
    this.#stream = await this.#resume(this.#offset, etag)
    this.#chunks = this.#read(this.#stream)
    // The signal may have aborted before the new stream was stored here.
    if (this.#isClosed) this.#stream.destroy()
  }

  /** At once after bytes have come; else after a wait, while the patience lasts. */
  async #mayResume(): Promise<boolean> {
    const now = this.#clock.now()
    if (this.#fruitlessSinceMs === undefined) {
      this.#fruitlessSinceMs = now
      return true
    }
    if (this.#backoff.attempt >= this.#resumesMax) return false
    const delayMs = this.#backoff.next()
    if (now + delayMs > this.#fruitlessSinceMs + this.#patienceMs) return false
    await sleep(this.#clock, delayMs, this.#signal)
    return true
  }

  #read(stream: Readable): AsyncIterator<Uint8Array> {
    // The next read throws an error that occurs between two reads. Node's own streams stay silent without a listener,
    // but the stream in which the SDK checks a checksum would end the process.
    stream.on('error', () => {})
    return stream[Symbol.asyncIterator]() as AsyncIterator<Uint8Array>
  }

  #failure(problem: string): WalrxError {
    return new WalrxError('WALRX_STORAGE_UNAVAILABLE', `${describeTask(this.#task)} failed: ${problem}`)
  }

  #close(): void {
    this.#isClosed = true
    this.#signal?.removeEventListener('abort', this.#onAbort)
    this.#stream.destroy()
  }
}
