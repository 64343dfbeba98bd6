/**
 * The archive service of one cluster, opened again for as long as it takes: what keeps one cluster from starting, or
 * ends its receiver, concerns no other.
 */
import type { Logger } from '../observe/log.ts'
import { Backoff } from '../primitives/backoff.ts'
import { type Clock, sleep } from '../primitives/clock.ts'
import { type ErrorCode, hasCode, toWalrxError, type WalrxError } from '../primitives/errors.ts'
import { ArchiveService } from '../service/archive-service.ts'
import type { ServiceSettings } from '../service/service-settings.ts'
import type { BindingObserver } from '../service/watched-archive.ts'
import type { JobEffect } from './jobs/job-rules.ts'

/** What {@link ClusterService} needs. */
export interface ClusterServiceOptions {
  readonly cluster: string
  /** Called before every start. */
  readonly settings: () => Promise<ServiceSettings>
  readonly clock: Clock
  /** Random number in [0, 1), for the waits between starts. */
  readonly random: () => number
  readonly log: Logger
  /** Called when a start or a run has failed. */
  readonly onFailure: () => void
  /** Called when jobs may begin that {@link ClusterService.holdOf} has held, or the other way round. */
  readonly onHold?: () => void
  /** Opens a service; default {@link ArchiveService.open}. */
  readonly open?: typeof ArchiveService.open
}

/** State of the service of a cluster, in plain values. */
export interface ServiceSnapshot {
  /**
   * - `starting`: the archive is being opened
   * - `running`: the receiver works; `ready` says whether WAL streams
   * - `waiting`: the last start has failed, the next one follows soon
   * - `stopped`: going on would archive something wrong, or needs other settings; tried again after an hour, and when the
   *   configuration is read again
   * - `closed`: it is gone from the configuration, or walrx ends
   */
  readonly state: 'starting' | 'running' | 'waiting' | 'stopped' | 'closed'
  readonly ready: boolean
  readonly reason: string | undefined
  readonly code: ErrorCode | undefined
  readonly hint: string | undefined
  /** What the receiver says. */
  readonly details: Readonly<Record<string, unknown>>
}

/** What no further attempt changes, as long as archive, server and settings are what they are. */
const stopping: ReadonlySet<ErrorCode> = new Set<ErrorCode>([
  ...(['WALRX_ARCHIVE_CONFLICT', 'WALRX_WAL_INVALID', 'WALRX_OTHER_CLUSTER', 'WALRX_INTERNAL'] as const),
  ...(['WALRX_KEY_MISSING', 'WALRX_KEY_WRONG', 'WALRX_USAGE', 'WALRX_OPTION_UNSUPPORTED'] as const),
  ...(['WALRX_SERVER_UNSUPPORTED'] as const),
])

/** After these, nobody knows whether the archive is what it should be: jobs leave it as it is. */
const doubtful: ReadonlySet<ErrorCode> = new Set<ErrorCode>([
  ...(['WALRX_ARCHIVE_CONFLICT', 'WALRX_WAL_INVALID', 'WALRX_OTHER_CLUSTER'] as const),
])

const waitMs = { first: 1_000, max: 60_000, stopped: 3600_000 } as const

/** A run of at least this length counts as a success: the next wait is a short one again. */
const goodRunMs = 60_000

/** See the file's header. */
export class ClusterService {
  readonly #options: ClusterServiceOptions
  readonly #drain = new AbortController()
  readonly #now = new AbortController()
  #poke = new AbortController()
  #state: ServiceSnapshot['state'] = 'starting'
  #service: ArchiveService | undefined
  #failure: WalrxError | undefined
  #drainFailure: WalrxError | undefined
  #memoryBytes: number | undefined
  #running: Promise<void> | undefined
  #startedMs = 0
  /** True when the receiver of the last start has run. */
  #hasRun = false
  /** True when the archive was found to be the cluster's own, with the present settings. */
  #isBound = false
  /** Why the archive may not be what it should be. */
  #doubt: WalrxError | undefined

  constructor(options: ClusterServiceOptions) {
    this.#options = options
  }

  /** Begins. Called once. */
  start(): void {
    this.#running ??= this.#run()
  }

  /** Tries again at once, where it waits. */
  retry(): void {
    this.#poke.abort()
  }

  /** Changes the memory for WAL; the stream goes on. */
  resizeMemory(bytes: number): void {
    this.#memoryBytes = bytes
    try {
      this.#service?.resizeMemory(bytes)
    } catch (error) {
      this.#options.log.error('the memory for WAL cannot be changed: it stays as it is', { error: toWalrxError(error) })
    }
  }

  /** Gives memory for WAL back that was of no use since the last time. */
  trimMemory(): void {
    this.#service?.trimMemory()
  }

  /** The present state. */
  snapshot(): ServiceSnapshot {
    const readiness = this.#state === 'running' ? this.#service?.readiness() : undefined
    const isReady = readiness?.ready === true
    const failure = isReady ? undefined : this.#failure
    const reason = readiness ? readiness.reason : (failure?.message ?? `the service of the cluster is ${this.#state}`)
    return {
      state: this.#state,
      ready: isReady,
      reason,
      code: failure?.code,
      hint: failure?.hint,
      details: readiness?.details ?? {},
    }
  }

  /**
   * Why a job may not begin now; undefined where it may. What deletes waits until the receiver has found the archive to be
   * the cluster's own. What writes waits while the receiver has found it to be another's, or with other content.
   */
  holdOf(effect: JobEffect): string | undefined {
    if (effect === 'reads') return undefined
    const { cluster, clock } = this.#options
    if (this.#doubt && this.#isBound && this.#state === 'running') {
      const isOver = this.#service?.readiness().ready === true && clock.now() - this.#startedMs >= goodRunMs
      if (isOver) this.#doubt = undefined
    }
    if (this.#doubt) return `the archive is in doubt: ${this.#doubt.message}`
    if (effect !== 'deletes' || this.#isBound) return undefined
    return `the receiver has not found yet that the archive belongs to ${cluster}`
  }

  /**
   * Finishes: stops receiving, archives what is whole, acknowledges it.
   * @param now drops everything
   * @returns the error of a drain that was not complete, or found something wrong
   */
  async close(now?: AbortSignal): Promise<WalrxError | undefined> {
    const onNow = () => this.#now.abort()
    now?.addEventListener('abort', onNow, { once: true })
    if (now?.aborted) onNow()
    // Its settings may be others from now on.
    this.#isBound = false
    this.#drain.abort()
    await this.#running
    now?.removeEventListener('abort', onNow)
    this.#state = 'closed'
    return this.#drainFailure
  }

  async #run(): Promise<void> {
    const { clock, log, onFailure, random } = this.#options
    const backoff = new Backoff({ firstMs: waitMs.first, maxMs: waitMs.max, random })
    while (!this.#drain.signal.aborted) {
      this.#startedMs = clock.now()
      this.#state = 'starting'
      const failure = await this.#serve()
      if (failure) this.#failure = failure
      if (this.#drain.signal.aborted) {
        if (failure) log.error(failure.message, { code: failure.code, hint: failure.hint })
        // A start that the stop found under way has received nothing.
        if (this.#hasRun) this.#drainFailure = failure
        return
      }
      onFailure()
      if (clock.now() - this.#startedMs >= goodRunMs) backoff.reset()
      if (failure && doubtful.has(failure.code)) this.#refused(failure)
      const isStopped = failure !== undefined && stopping.has(failure.code)
      this.#state = isStopped ? 'stopped' : 'waiting'
      const delayMs = isStopped ? waitMs.stopped : backoff.next()
      const message = isStopped
        ? 'the cluster is stopped: this needs somebody to look at it'
        : 'the cluster is tried again'
      log.error(message, {
        error: failure?.message,
        code: failure?.code,
        hint: failure?.hint,
        inSeconds: Math.round(delayMs / 1000),
      })
      await this.#pause(delayMs)
    }
  }

  readonly #binding: BindingObserver = {
    bound: () => {
      if (this.#drain.signal.aborted) return
      const wasHolding = !this.#isBound
      this.#isBound = true
      if (hasCode(this.#doubt, 'WALRX_OTHER_CLUSTER')) this.#doubt = undefined
      if (wasHolding) this.#options.onHold?.()
    },
    refused: (error) => {
      if (hasCode(error, 'WALRX_OTHER_CLUSTER')) this.#refused(error)
    },
  }

  #refused(error: WalrxError): void {
    this.#doubt = error
    if (hasCode(error, 'WALRX_OTHER_CLUSTER')) this.#isBound = false
    this.#options.onHold?.()
  }

  /** One service from its start to its end. Returns what ended it. */
  async #serve(): Promise<WalrxError | undefined> {
    const { open = ArchiveService.open, settings } = this.#options
    this.#hasRun = false
    try {
      const values = await settings()
      const memoryBytes = this.#memoryBytes ?? values.memoryBytes
      this.#service = await open({ ...values, memoryBytes, binding: this.#binding }, { signal: this.#drain.signal })
      this.#state = 'running'
      this.#hasRun = true
      await this.#service.run(this.#drain.signal, this.#now.signal)
      return undefined
    } catch (error) {
      return this.#isOurStop(error) ? undefined : toWalrxError(error)
    } finally {
      await this.#service?.close()
      this.#service = undefined
    }
  }

  /** True for what a stop itself throws out of anything that it interrupts. */
  #isOurStop(error: unknown): boolean {
    const reasons = [this.#drain.signal, this.#now.signal]
      .filter(({ aborted }) => aborted)
      .map(({ reason }) => reason as unknown)
    for (let each = error; each instanceof Error && reasons.length > 0; each = each.cause) {
      if (reasons.includes(each) || each.name === 'AbortError') return true
    }
    return false
  }

  async #pause(ms: number): Promise<void> {
    this.#poke = new AbortController()
    const either = AbortSignal.any([this.#poke.signal, this.#drain.signal])
    await sleep(this.#options.clock, ms, either).catch(() => {})
  }
}
