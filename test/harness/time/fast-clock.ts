/** The real clock, but faster: for timeouts of minutes with real files and processes. */
import { type Clock, systemClock, type Timer } from '../../../src/primitives/clock.ts'

/** See the file's header. */
export class FastClock implements Clock {
  #factor: number
  #sinceMs = performance.now()
  #passedMs = 0

  /** @param factor how many milliseconds pass in a real one */
  constructor(factor: number) {
    this.#factor = factor
  }

  /** Changes the speed; timers that are set already keep theirs. */
  setFactor(factor: number): void {
    this.#passedMs = this.now()
    this.#sinceMs = performance.now()
    this.#factor = factor
  }

  now(): number {
    return this.#passedMs + (performance.now() - this.#sinceMs) * this.#factor
  }

  setTimer(ms: number, fire: () => void): Timer {
    return systemClock.setTimer(ms / this.#factor, fire)
  }
}
