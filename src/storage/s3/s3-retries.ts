/** Requests to S3 with bounded retries, and their failures as WalrxErrors. */
import type { S3Client } from '@aws-sdk/client-s3'
import { type Clock, sleep, systemClock } from '../../primitives/clock.ts'
import { Backoff } from '../../primitives/backoff.ts'
import { abortable } from '../abortable.ts'
import { SourceError } from '../source.ts'
import type { StorageTrouble } from '../storage.ts'
import type { S3Connection, S3Shared } from './s3-client.ts'
import { type S3Failure, type S3Task, explainFailure } from './s3-errors.ts'
import { type S3StorageOptions, s3Defaults } from './s3-options.ts'

/** The SDK, and a function that sends one of its commands under the signal of the call. */
export interface S3Attempt {
  readonly sdk: S3Connection['sdk']
  readonly send: S3Client['send']
  /** The same with the time that the completion of a multipart upload may take. */
  readonly sendSlow: S3Client['send']
}

/** The retry limits of a call. */
export interface S3Patience {
  readonly maxRetries: number
  readonly retryTimeMaxMs: number
}

/** Distance of reports that the keys are read again. */
const keyReportMs = 60_000

/** One call through all its attempts. */
interface Call {
  readonly startedMs: number
  readonly deadlineMs: number
  /** Where the source of the keys fails: it may take longer than a wrong endpoint. */
  readonly sourceDeadlineMs: number
}

/** Makes attempts until one succeeds, one fails for good, or a retry limit is reached. */
export class S3Retries {
  readonly #connect: () => Promise<S3Connection>
  readonly #reconnect: () => void
  readonly #shared: S3Shared
  readonly #options: S3StorageOptions
  readonly #clock: Clock
  readonly #patience: S3Patience
  readonly #outage: S3Outage
  /** True once the store has carried a request out: keys that worked were not misspelt. */
  #hasSucceeded = false
  #keysReportedMs = -Infinity

  /**
   * @param connect the present connection
   * @param reconnect has the next `connect` make another one, with keys that are read again
   */
  constructor(
    connect: () => Promise<S3Connection>,
    reconnect: () => void,
    shared: S3Shared,
    options: S3StorageOptions,
  ) {
    this.#shared = shared
    this.#connect = connect
    this.#reconnect = reconnect
    this.#options = options
    this.#clock = options.clock ?? systemClock
    this.#patience = {
      maxRetries: options.maxRetries ?? Infinity,
      retryTimeMaxMs: options.retryTimeMaxMs ?? s3Defaults.retryTimeMaxMs,
    }
    this.#outage = new S3Outage({ clock: this.#clock, onTrouble: options.onTrouble })
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
    const startedMs = this.#clock.now()
    const sourceDeadlineMs = startedMs + (this.#options.sourceTimeMaxMs ?? s3Defaults.retryTimeMaxMs)
    const call = { startedMs, deadlineMs: startedMs + retryTimeMaxMs, sourceDeadlineMs }
    const backoff = this.#newBackoff()
    let hasSucceeded = false
    try {
      for (;;) {
        const connecting = this.#connect()
        const hadChecksum = this.#shared.demandsChecksums
        try {
          const result = await abortable(this.#attempt(connecting, attempt, signal), signal)
          hasSucceeded = this.#hasSucceeded = true
          return result
        } catch (error) {
          signal?.throwIfAborted()
          if (error instanceof SourceError) throw error.error
          const failure = explainFailure(error, task)
          const mayPass = await abortable(this.#mayPass(failure, connecting, hadChecksum), signal)
          if (!mayPass || backoff.attempt >= maxRetries) throw failure.error
          await this.#wait(call, failure, backoff, signal)
        }
      }
    } finally {
      this.#outage.over(call, hasSucceeded)
    }
  }

  async #wait(call: Call, failure: S3Failure, backoff: Backoff, signal: AbortSignal | undefined): Promise<void> {
    const delayMs = backoff.next()
    const deadlineMs = failure.isOfSource ? Math.max(call.deadlineMs, call.sourceDeadlineMs) : call.deadlineMs
    if (this.#clock.now() + delayMs > deadlineMs) throw failure.error
    this.#outage.failed(call, call.startedMs, deadlineMs, failure.error.message)
    await sleep(this.#clock, delayMs, signal)
  }

  /** True when another attempt may succeed: by itself, or because of what is changed here. */
  async #mayPass(
    { error, shouldRetry, wants }: S3Failure,
    connecting: Promise<S3Connection>,
    hadChecksum: boolean,
  ): Promise<boolean> {
    if (shouldRetry || wants === undefined) return shouldRetry
    if (wants === 'checksum') {
      this.#shared.demandsChecksums = true
      return !hadChecksum
    }
    const connection = await connecting.catch(() => undefined)
    if (!connection) return false
    if (this.#options.accessKeyId !== undefined) return false
    const isCurrent = (await this.#connect().catch(() => undefined)) === connection
    // Another call has had the keys read again since.
    if (!isCurrent) return true
    this.#reconnect()
    this.#reportKeys(error.message)
    if (wants === 'expired' || this.#hasSucceeded) return true
    return (await accessKeyOf(this.#connect())) !== (await accessKeyOf(connecting))
  }

  /** At most one report a minute: keys that have expired may take a while to be replaced. */
  #reportKeys(reason: string): void {
    const now = this.#clock.now()
    if (now - this.#keysReportedMs < keyReportMs) return
    this.#keysReportedMs = now
    this.#options.onTrouble?.({ kind: 'credentials', reason })
  }

  #newBackoff(): Backoff {
    return new Backoff({
      firstMs: this.#options.retryDelayFirstMs ?? s3Defaults.retryDelayFirstMs,
      maxMs: this.#options.retryDelayMaxMs ?? s3Defaults.retryDelayMaxMs,
      random: this.#options.random ?? Math.random,
    })
  }

  async #attempt<T>(
    connecting: Promise<S3Connection>,
    attempt: (attempt: S3Attempt) => Promise<T>,
    signal: AbortSignal | undefined,
  ): Promise<T> {
    const { client, sdk, slowClient } = await connecting
    const options = signal ? { abortSignal: signal } : {}
    const send = (command: Parameters<S3Client['send']>[0]) => client.send(command, options)
    const sendSlow = (command: Parameters<S3Client['send']>[0]) => slowClient().send(command, options)
    return await attempt({ sdk, send: send as S3Client['send'], sendSlow: sendSlow as S3Client['send'] })
  }
}

/** The access key that a connection signs with; undefined where none can be had. */
async function accessKeyOf(connecting: Promise<S3Connection>): Promise<string | undefined> {
  try {
    return (await (await connecting).client.config.credentials()).accessKeyId
  } catch {
    return undefined
  }
}

/** A request that fails for longer than this is reported, */
const reportAfterMs = 3_000
/** and again at this distance. */
const reportEveryMs = 60_000

interface S3OutageOptions {
  readonly clock: Clock
  readonly onTrouble: ((trouble: StorageTrouble) => void) | undefined
}

/** Gathers the failures of all requests: one report for as many as wait. */
class S3Outage {
  readonly #options: S3OutageOptions
  /** Requests that are reported to wait. */
  readonly #waiting = new Set<object>()
  #sinceMs = 0
  #reportedMs = -Infinity

  constructor(options: S3OutageOptions) {
    this.#options = options
  }

  /**
   * A request failed and is sent again.
   * @param call stands for the request through all its attempts
   * @param sinceMs when its first attempt began
   * @param untilMs when it gives up
   * @param reason what the last attempt ended with
   */
  failed(call: object, sinceMs: number, untilMs: number, reason: string): void {
    const { clock, onTrouble } = this.#options
    const now = clock.now()
    if (now - sinceMs < reportAfterMs) return
    if (this.#waiting.size === 0) this.#sinceMs = sinceMs
    this.#waiting.add(call)
    if (now - this.#reportedMs < reportEveryMs) return
    this.#reportedMs = now
    onTrouble?.({ kind: 'waiting', reason, forMs: now - this.#sinceMs, leftMs: Math.max(0, untilMs - now) })
  }

  /** A request is over. */
  over(call: object, hasSucceeded: boolean): void {
    if (!this.#waiting.delete(call) || this.#waiting.size > 0) return
    const { clock, onTrouble } = this.#options
    this.#reportedMs = -Infinity
    onTrouble?.({ kind: 'over', hasSucceeded, forMs: clock.now() - this.#sinceMs })
  }
}
