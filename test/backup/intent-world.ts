/** A storage with a clock of its own beside ours, and time that passes on demand. */
import type { Clock } from '../../src/primitives/clock.ts'
import { MemoryStorage } from '../harness/store/memory-storage.ts'
import { VirtualClock } from '../harness/time/virtual-clock.ts'
import { settle } from './parts/watched-storage.ts'

/** Minutes and hours in milliseconds. */
export const minute = 60_000
export const hour = 60 * minute

/** See the file's header. */
export class IntentWorld {
  /** Ours, and that of the whole virtual world. */
  readonly clock = new VirtualClock()
  /** How far the store's clock is ahead of ours, in milliseconds. */
  storeAheadMs = 0
  readonly storage: MemoryStorage
  readonly signal = new AbortController().signal

  constructor() {
    const clock: Clock = {
      now: () => this.clock.now() + this.storeAheadMs,
      setTimer: (ms, fire) => this.clock.setTimer(ms, fire),
    }
    this.storage = new MemoryStorage({ clock })
  }

  /** Lets time pass, with everything that happens meanwhile. */
  async pass(ms: number): Promise<void> {
    let isOver = false
    this.clock.setTimer(ms, () => {
      isOver = true
    })
    await this.clock.run(
      () => isOver,
      () => this.storage.openBodies > 0,
      ms + 1,
    )
    await settle()
  }

  /** Waits for a promise, letting time pass as long as it takes, `limitMs` at most. */
  async await<T>(promise: Promise<T>, limitMs: number): Promise<T> {
    let isOver = false
    const over = () => {
      isOver = true
    }
    promise.then(over, over)
    await this.clock.run(
      () => isOver,
      () => this.storage.openBodies > 0,
      limitMs,
    )
    return promise
  }

  /** Keys that begin so, in order. */
  keys(prefix = ''): string[] {
    return [...this.storage.objects.keys()].filter((key) => key.startsWith(prefix)).sort()
  }
}
