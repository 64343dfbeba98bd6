/** Requests to S3 with bounded retries, and their failures as WalrxErrors. */
import type { S3Client } from '@aws-sdk/client-s3'
import { type Clock, sleep, systemClock } from '../../primitives/clock.ts'
import { Backoff } from '../../primitives/backoff.ts'
import { abortable } from '../abortable.ts'
import { SourceError } from '../source.ts'
import type { S3Connection } from './s3-client.ts'
import { type S3Task, explainFailure } from './s3-errors.ts'
import { type S3StorageOptions, s3Defaults } from './s3-options.ts'

/** The SDK, and a function that sends one of its commands under the signal of the call. */
export interface S3Attempt {
  readonly sdk: S3Connection['sdk']
  readonly send: S3Client['send']
}

/** The retry limits of a call. */
export interface S3Patience {
  readonly maxRetries: number
  readonly retryTimeMaxMs: number
}

/** Makes attempts until one succeeds, one fails for good, or a retry limit is reached. */
export class S3Caller {
  readonly #connect: () => Promise<S3Connection>
  readonly #clock: Clock
  readonly #patience: S3Patience
  readonly #newBackoff: () => Backoff

  constructor(connect: () => Promise<S3Connection>, options: S3StorageOptions) {
    this.#connect = connect
    this.#clock = options.clock ?? systemClock
    this.#patience = {
      maxRetries: options.maxRetries ?? s3Defaults.maxRetries,
      retryTimeMaxMs: options.retryTimeMaxMs ?? s3Defaults.retryTimeMaxMs,
    }
    this.#newBackoff = () =>
      new Backoff({
        firstMs: options.retryDelayFirstMs ?? s3Defaults.retryDelayFirstMs,
        maxMs: options.retryDelayMaxMs ?? s3Defaults.retryDelayMaxMs,
        random: options.random ?? Math.random,
      })
  }

  /**
   * The result of the first attempt that succeeds. The retry time starts with the first attempt; only the client's own
   * time-outs or the signal end a running attempt.
   * @param patience overrides the limits of the options
   * @throws WalrxError of {@link explainFailure}; the signal's reason as soon as it aborts
   */
  async call<T>(
    task: S3Task,
    signal: AbortSignal | undefined,
    attempt: (attempt: S3Attempt) => Promise<T>,
    patience: Partial<S3Patience> = {},
  ): Promise<T> {
    signal?.throwIfAborted()
    const { maxRetries, retryTimeMaxMs } = { ...this.#patience, ...patience }
    const deadlineMs = this.#clock.now() + retryTimeMaxMs
    const backoff = this.#newBackoff()
    for (;;) {
      try {
        return await abortable(this.#attempt(attempt, signal), signal)
      } catch (error) {
        signal?.throwIfAborted()
        if (error instanceof SourceError) throw error.error
        const failure = explainFailure(error, task)
        if (!failure.shouldRetry || backoff.attempt >= maxRetries) throw failure.error
        const delayMs = backoff.next()
        if (this.#clock.now() + delayMs > deadlineMs) throw failure.error
        await sleep(this.#clock, delayMs, signal)
      }
    }
  }

  async #attempt<T>(attempt: (attempt: S3Attempt) => Promise<T>, signal: AbortSignal | undefined): Promise<T> {
    const { sdk, client } = await this.#connect()
    const options = signal ? { abortSignal: signal } : {}
    const send = (command: Parameters<S3Client['send']>[0]) => client.send(command, options)
    return await attempt({ sdk, send: send as S3Client['send'] })
  }
}
