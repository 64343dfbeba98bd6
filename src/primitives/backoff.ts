/** Waits between attempts: exponential with jitter, limited, reset by success. */
import { type Clock, sleep } from './clock.ts'

/** Options of {@link Backoff}. */
export interface BackoffOptions {
  /** First delay in milliseconds. Default 100. */
  readonly firstMs?: number
  /** Longest delay in milliseconds. Default 10,000. */
  readonly maxMs?: number
  /** Random number in [0, 1), for jitter; a simulation passes its seeded one. Default Math.random. */
  readonly random?: () => number
}

/** Delays that double from `firstMs` to `maxMs`, each drawn from the upper half of its range. */
export class Backoff {
  readonly #firstMs: number
  readonly #maxMs: number
  readonly #random: () => number
  #attempt = 0

  constructor(options: BackoffOptions = {}) {
    this.#firstMs = options.firstMs ?? 100
    this.#maxMs = options.maxMs ?? 10_000
    this.#random = options.random ?? Math.random
  }

  /** Attempts since the last reset. */
  get attempt(): number {
    return this.#attempt
  }

  /** The next delay in milliseconds. */
  next(): number {
    const ceiling = Math.min(this.#maxMs, this.#firstMs * 2 ** Math.min(this.#attempt, 30))
    this.#attempt++
    return ceiling / 2 + (ceiling / 2) * this.#random()
  }

  /** Starts again at the first delay: call it once an attempt has succeeded. */
  reset(): void {
    this.#attempt = 0
  }

  /** Waits the next delay. Throws the signal's reason when it aborts. */
  async wait(clock: Clock, signal?: AbortSignal): Promise<void> {
    await sleep(clock, this.next(), signal)
  }
}
