/** Waits for a promise with a limit. */
import type { Clock } from './clock.ts'

/**
 * The promise's outcome, or the reason of the first signal that aborts. The listeners never outlive the call, so they
 * do not accumulate on signals that live as long as the process (AbortSignal.any and Promise.race leave 500 bytes on
 * each of them for every call). A promise that fails after the abort is not an unhandled rejection.
 */
export function orAborted<T>(promise: Promise<T>, ...signals: readonly AbortSignal[]): Promise<T> {
  return new Promise<T>((resolve, reject) => {
    const release = () => {
      for (const signal of signals) signal.removeEventListener('abort', onAbort)
    }
    const onAbort = () => {
      release()
      reject(signals.find((signal) => signal.aborted)?.reason as Error)
    }
    for (const signal of signals) signal.addEventListener('abort', onAbort)
    if (signals.some((signal) => signal.aborted)) onAbort()
    promise.then(resolve, reject).finally(release)
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
