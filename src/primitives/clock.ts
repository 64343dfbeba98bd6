/**
 * Time as an argument. Everything that waits takes a {@link Clock}, so that a simulation can run hours of timeouts in
 * milliseconds and replay them exactly.
 */

/** A timer that has been set. */
export interface Timer {
  /** Cancels the timer; does nothing when it has fired or was cancelled before. */
  cancel(): void
}

/** Source of time and timers. */
export interface Clock {
  /** Milliseconds since the epoch of 1970. */
  now(): number
  /** Calls `fire` once after `ms` milliseconds. */
  setTimer(ms: number, fire: () => void): Timer
}

/** The real clock. Timers keep the process alive until they fire or are cancelled. */
export const systemClock: Clock = {
  now: () => Date.now(),
  setTimer(ms, fire) {
    const handle = setTimeout(fire, ms)
    return { cancel: () => clearTimeout(handle) }
  },
}

/**
 * Waits `ms` milliseconds.
 * @throws the signal's reason as soon as `signal` aborts
 */
export function sleep(clock: Clock, ms: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal?.aborted) {
      reject(signal.reason as Error)
      return
    }
    const onAbort = () => {
      timer.cancel()
      reject(signal?.reason as Error)
    }
    const timer = clock.setTimer(ms, () => {
      signal?.removeEventListener('abort', onAbort)
      resolve()
    })
    signal?.addEventListener('abort', onAbort, { once: true })
  })
}
