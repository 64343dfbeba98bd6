/** Removes chunks that are not needed any more, many at a time, one request after the other. */
import type { Logger } from '../../observe/log.ts'
import type { Clock } from '../../primitives/clock.ts'
import type { TailSink } from '../ports.ts'
import { untilStored } from '../until-stored.ts'

/** What removing needs. */
export interface TailRemovalOptions {
  readonly archive: Pick<TailSink, 'deleteTailChunks'>
  readonly clock: Clock
  readonly random: () => number
  readonly log: Logger
}

/** Keys that may wait: more are left to the next start, which looks for them. */
const waitingMax = 10_000

/** See the file's header. */
export class TailRemoval {
  readonly #options: TailRemovalOptions
  readonly #abort = new AbortController()
  #waiting: string[] = []
  #isRunning = false
  #idle: Promise<void> = Promise.resolve()

  constructor(options: TailRemovalOptions) {
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
    this.#isRunning = true
    try {
      while (this.#waiting.length > 0) {
        const keys = this.#waiting.slice(0, 1000)
        await untilStored(() => archive.deleteTailChunks(keys, { signal }), {
          clock,
          random,
          firstMs: 500,
          maxMs: 60_000,
          signal,
          onFailure: ({ message }) =>
            log.warn('could not remove chunks, trying again', { chunks: keys.length, error: message }),
          isWorthRetrying: () => true,
        })
        this.#waiting = this.#waiting.slice(keys.length)
      }
    } catch {
      // Nothing is removed any more: what is left is found by the next start.
    }
    this.#isRunning = false
  }
}
