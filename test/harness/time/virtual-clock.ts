/** A clock that jumps from timer to timer, so that hours of time-outs pass in milliseconds, the same way every time. */
import { setImmediate } from 'node:timers/promises'
import type { Clock, Timer } from '../../../src/primitives/clock.ts'

interface Pending {
  readonly atMs: number
  readonly order: number
  readonly fire: () => void
}

/** How long something outside the clock's reach may take, in true time: far longer than any body is read in. */
const busyMsMax = 30_000

/** See the file's header. */
export class VirtualClock implements Clock {
  #nowMs = 1_700_000_000_000
  #order = 0
  #pending: Pending[] = []

  now(): number {
    return this.#nowMs
  }

  setTimer(ms: number, fire: () => void): Timer {
    const timer = { atMs: this.#nowMs + Math.max(0, ms), order: this.#order++, fire }
    let low = 0
    let high = this.#pending.length
    while (low < high) {
      const middle = (low + high) >>> 1
      const other = this.#pending[middle] as Pending
      if (other.atMs < timer.atMs || (other.atMs === timer.atMs && other.order < timer.order)) low = middle + 1
      else high = middle
    }
    this.#pending.splice(low, 0, timer)
    return {
      cancel: () => {
        const index = this.#pending.indexOf(timer)
        if (index >= 0) this.#pending.splice(index, 1)
      },
    }
  }

  /** Waits `ms` of this clock's time. */
  sleep(ms: number): Promise<void> {
    return new Promise((resolve) => this.setTimer(ms, resolve))
  }

  /** Fires what is due within `ms`, and comes back when they have passed. */
  async pass(ms: number): Promise<void> {
    let isOver = false
    this.setTimer(ms, () => (isOver = true))
    await this.run(
      () => isOver,
      () => false,
      ms + 1,
    )
  }

  /**
   * Fires timers in order, letting everything that one sets off happen before the next, until `isDone`.
   * @param isBusy true while something outside the clock's reach is under way (a body being read)
   * @throws when nothing is left to fire, `limitMs` of virtual time passed, or it stays busy for ever
   */
  async run(isDone: () => boolean, isBusy: () => boolean, limitMs: number): Promise<void> {
    const endMs = this.#nowMs + limitMs
    for (;;) {
      await setImmediate()
      const busySince = performance.now()
      while (isBusy()) {
        if (performance.now() - busySince > busyMsMax)
          throw new Error('something is under way that never ends, such as a body that nobody reads')
        await setImmediate()
      }
      if (isDone()) return
      const next = this.#pending.shift()
      if (!next) throw new Error('nothing will ever happen again')
      if (next.atMs > endMs) throw new Error(`no end within ${limitMs / 1000} s of virtual time`)
      this.#nowMs = next.atMs
      next.fire()
    }
  }
}
