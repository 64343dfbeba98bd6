/** A clock that advances at once by the time of each wait. */
import type { Clock, Timer } from '../../../src/primitives/clock.ts'

/** See the file's header. */
export class SteppingClock implements Clock {
  /** Milliseconds since 1970. */
  nowMs = 1_700_000_000_000

  now(): number {
    return this.nowMs
  }

  setTimer(ms: number, fire: () => void): Timer {
    let isCancelled = false
    queueMicrotask(() => {
      if (isCancelled) return
      this.nowMs += ms
      fire()
    })
    return { cancel: () => void (isCancelled = true) }
  }
}
