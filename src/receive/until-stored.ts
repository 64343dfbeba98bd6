/** The one loop in which a request to the archive is made again until the archive has carried it out. */
import { Backoff } from '../primitives/backoff.ts'
import type { Clock } from '../primitives/clock.ts'
import { hasCode, isAbort, isKeyOutage, toWalrxError, type WalrxError } from '../primitives/errors.ts'

/** How long to wait, and what to do between two attempts. */
export interface Perseverance {
  readonly clock: Clock
  /** Random number in [0, 1) for back-off jitter. */
  readonly random: () => number
  /** The first delay and the longest, in milliseconds. */
  readonly firstMs: number
  readonly maxMs: number
  /** Ends the attempts. */
  readonly signal: AbortSignal
  /** Called after every failure after which another attempt follows; `attempt` counts from 1. */
  readonly onFailure: (error: WalrxError, attempt: number) => void
  /** Whether another attempt may succeed; default: after whatever the storage says, or a key service that does not answer. */
  readonly isWorthRetrying?: (error: unknown) => boolean
}

/**
 * Calls until a call succeeds: for hours if need be.
 * @returns what that call returned
 * @throws the signal's reason, and at once what no other attempt will change
 */
export async function untilStored<T>(call: () => Promise<T>, options: Perseverance): Promise<T> {
  const { clock, isWorthRetrying = mayPass, onFailure, signal } = options
  const backoff = new Backoff(options)
  for (;;) {
    signal.throwIfAborted()
    try {
      return await call()
    } catch (error) {
      if (signal.aborted || isAbort(error) || !isWorthRetrying(error)) throw error
      onFailure(toWalrxError(error), backoff.attempt + 1)
      await backoff.wait(clock, signal)
    }
  }
}

/** What the storage says may be over at the next attempt, as a key service's silence; a contradiction or a defect is not. */
function mayPass(error: unknown): boolean {
  return (
    hasCode(error, 'WALRX_STORAGE_UNAVAILABLE') ||
    hasCode(error, 'WALRX_STORAGE_DENIED') ||
    hasCode(error, 'WALRX_STORAGE_MISSING') ||
    hasCode(error, 'WALRX_OBJECT_NOT_FOUND') ||
    isKeyOutage(error)
  )
}
