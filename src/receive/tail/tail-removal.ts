/** Removes chunks that are not needed any more, many at a time, one request after the other. */
import type { Logger } from '../../observe/log.ts'
import type { Clock } from '../../primitives/clock.ts'
import { toWalrxError } from '../../primitives/errors.ts'
import { Backoff } from '../../primitives/backoff.ts'
import type { TailSink } from '../ports.ts'

/** What removing needs. */
export interface TailKeysOptions {
  readonly archive: Pick<TailSink, 'deleteTailChunks'>
  readonly clock: Clock
  readonly random: () => number
  readonly log: Logger
}

/** Keys that may wait: more are left to the next start, which looks for them. */
const waitingMax = 10_000

/** See the file's header. */
export class TailKeys {
  readonly #options: TailKeysOptions
  readonly #abort = new AbortController()
  #waiting: string[] = []
  #isRunning = false
  #idle: Promise<void> = Promise.resolve()

  constructor(options: TailKeysOptions) {
    this.#options = options
  }

  /** Removes them some time soon. What is not removed when the process ends is found by the next one. */
  remove(keys: readonly string[]): void {
    if (this.#waiting.length + keys.length > waitingMax) {
      this.#options.log.warn('too many chunks wait for their removal: they are left to the next start', {
        chunks: keys.length,
      })
      return
    }
    this.#waiting.push(...keys)
    if (!this.#isRunning) this.#idle = this.#run()
  }

  /** Resolves when nothing waits for its removal, or nothing is removed any more. */
  idle(): Promise<void> {
    return this.#idle
  }

  /** Removes nothing any more. */
  destroy(): void {
    this.#abort.abort()
  }

  async #run(): Promise<void> {
    const { archive, clock, log, random } = this.#options
    const { signal } = this.#abort
    const backoff = new Backoff({ firstMs: 500, maxMs: 60_000, random })
    this.#isRunning = true
    while (this.#waiting.length > 0 && !signal.aborted) {
      const keys = this.#waiting.slice(0, 1000)
      try {
        await archive.deleteTailChunks(keys, { signal })
        this.#waiting = this.#waiting.slice(keys.length)
        backoff.reset()
      } catch (error) {
        if (signal.aborted) break
        log.warn('could not remove chunks, trying again', { chunks: keys.length, error: toWalrxError(error).message })
        await backoff.wait(clock, signal).catch(() => {})
      }
    }
    this.#isRunning = false
  }
}
