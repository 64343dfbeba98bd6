/** Calls that end when their signal aborts, although what they wait for can't be cancelled. */
import { orAborted } from '../primitives/wait.ts'

/**
 * The result of `work`, or the signal's reason as soon as `signal` aborts. The work then goes on unheard: it must clean
 * up after itself, and do nothing more that counts.
 */
export function abortable<T>(work: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  return signal === undefined ? work : orAborted(work, signal)
}
