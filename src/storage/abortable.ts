/** Calls that end when their signal aborts, although the work itself can't be cancelled. */
import { orAborted } from '../primitives/wait.ts'

/**
 * The result of `work`, or the signal's reason as soon as `signal` aborts. The work then continues without a listener:
 * it must clean up after itself and have no further effect.
 */
export function abortable<T>(work: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  return signal === undefined ? work : orAborted(work, signal)
}
