/** One step of a check: it ends in time, and its failure is a result. */
import type { Clock } from '../primitives/clock.ts'
import { type ErrorCode, toWalrxError, WalrxError } from '../primitives/errors.ts'
import { orAborted, settledWithin } from '../primitives/wait.ts'

/** What a step has found, or why it has found nothing. */
export type Attempt<T> =
  { readonly value: T; readonly error?: undefined } | { readonly value?: undefined; readonly error: WalrxError }

/** How steps are done. */
export interface AttemptOptions {
  readonly clock: Clock
  /** The operator ends the command. */
  readonly signal: AbortSignal
  /** Milliseconds that one step may take. */
  readonly stepMs: number
}

/** What a step that took too long is called. */
export interface Lateness {
  readonly code: ErrorCode
  /** Who did not answer, and what: completes "… did not answer within 20 s". */
  readonly what: string
  readonly hint: string
}

/**
 * Does a step, for so long at most. Work that does not end is left alone: its signal has aborted.
 * @throws only the operator's signal's reason
 */
export async function attempt<T>(
  { clock, signal, stepMs }: AttemptOptions,
  { code, hint, what }: Lateness,
  work: (signal: AbortSignal) => Promise<T>,
): Promise<Attempt<T>> {
  signal.throwIfAborted()
  const limit = new AbortController()
  const late = new WalrxError(code, `${what} did not answer within ${stepMs / 1000} s`, { hint })
  const onAbort = () => limit.abort(signal.reason)
  signal.addEventListener('abort', onAbort, { once: true })
  const timer = clock.setTimer(stepMs, () => limit.abort(late))
  try {
    return { value: await orAborted(work(limit.signal), limit.signal) }
  } catch (error) {
    signal.throwIfAborted()
    return { error: limit.signal.aborted ? late : toWalrxError(error) }
  } finally {
    timer.cancel()
    signal.removeEventListener('abort', onAbort)
  }
}

/** Milliseconds for a look at a file: a dead mount never answers. */
const lookMs = 5_000

/** What a call of the file system answers; undefined where it fails, or does not answer soon. */
export async function ifSoon<T>(answer: Promise<T>, clock: Clock): Promise<T | undefined> {
  return (await settledWithin(answer, lookMs, clock)) ? await answer.catch(() => undefined) : undefined
}
