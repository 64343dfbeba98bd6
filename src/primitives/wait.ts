/** Waiting for a promise, but not for ever. */
import type { Clock } from './clock.ts'

/** The promise's outcome, or the signal's reason if it aborts first; the listener never outlives the call. */
export function orAborted<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise<T>((resolve, reject) => {
    const onAbort = () => reject(signal.reason as Error)
    if (signal.aborted) {
      onAbort()
      return
    }
    signal.addEventListener('abort', onAbort, { once: true })
    promise.then(resolve, reject).finally(() => signal.removeEventListener('abort', onAbort))
  })
}

/** True when the promise settled (either way) within `ms` milliseconds; the timer never outlives the call. */
export function settledWithin(promise: Promise<unknown>, ms: number, clock: Clock): Promise<boolean> {
  return new Promise((resolve) => {
    const timer = clock.setTimer(ms, () => resolve(false))
    const onSettled = () => {
      timer.cancel()
      resolve(true)
    }
    promise.then(onSettled, onSettled)
  })
}
