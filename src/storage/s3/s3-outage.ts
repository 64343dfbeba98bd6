/** Reports when requests of a storage wait for the store, and when they do no longer. */
import type { Clock } from '../../primitives/clock.ts'
import type { StorageTrouble } from '../storage.ts'

/** A request that fails for longer than this is reported, */
const reportAfterMs = 3_000
/** and again at this distance. */
const reportEveryMs = 60_000

/** What {@link S3Outage} needs. */
export interface S3OutageOptions {
  readonly clock: Clock
  readonly onTrouble: ((trouble: StorageTrouble) => void) | undefined
}

/** Gathers the failures of all requests: one report for as many as wait. */
export class S3Outage {
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
