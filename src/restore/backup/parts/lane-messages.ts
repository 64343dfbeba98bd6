/** What passes between a restore and the threads of its lanes. */
import type { Handing } from '../../../walg/stored/handed-object.ts'
import { type ErrorCode, WalrxError } from '../../../primitives/errors.ts'
import type { EntryHead, EntryPlan, EntryResult, PartSum } from './part-reading.ts'

/** An error on its way to another thread. */
export interface SentError {
  readonly name: string
  readonly message: string
  readonly stack: string | undefined
  readonly code: ErrorCode | undefined
  readonly hint: string | undefined
  /** The number under which the restore keeps the error that this one is, or was made of. */
  readonly id: number | undefined
  readonly isItself: boolean
}

/** From the restore to a lane. */
export type ToLane =
  | { readonly kind: 'part'; readonly handing: Handing }
  /** Stored bytes; `buffer` goes back when they are used. */
  | { readonly kind: 'bytes'; readonly buffer: ArrayBuffer; readonly length: number }
  | { readonly kind: 'end of bytes' }
  | { readonly kind: 'no more bytes'; readonly error: SentError }
  /** For some of the entries, from the first on. */
  | { readonly kind: 'plans'; readonly plans: readonly EntryPlan[] }
  | { readonly kind: 'no plan'; readonly error: SentError }
  /** Make all files durable. */
  | { readonly kind: 'end' }

/** From a lane to the restore. */
export type FromLane =
  /** Bytes are used. */
  | { readonly kind: 'used'; readonly buffer: ArrayBuffer }
  /** The next entries; `before` is the end of those before them that were not skipped. */
  | { readonly kind: 'entries'; readonly entries: readonly EntryHead[]; readonly before: readonly EntryResult[] }
  | { readonly kind: 'read'; readonly sum: PartSum; readonly before: readonly EntryResult[] }
  | { readonly kind: 'not read'; readonly error: SentError }
  | { readonly kind: 'ended' }
  | { readonly kind: 'not ended'; readonly error: SentError }

/** What a lane gets to begin with. */
export interface LaneData {
  readonly fsync: boolean
  /** Of the compile cache; undefined for none. */
  readonly cacheDirectory: string | undefined
}

const ids = new WeakMap<Error, number>()

/** Prepares an error for its way. @param id see {@link SentError.id}; by default that with which it came */
export function sentError(thrown: unknown, id?: number): SentError {
  const error = thrown instanceof Error ? thrown : new Error(String(thrown))
  const isWalrx = error instanceof WalrxError
  const own = id ?? ids.get(error)
  const cause = error.cause instanceof Error ? ids.get(error.cause) : undefined
  return {
    name: error.name,
    message: error.message,
    stack: error.stack,
    code: isWalrx ? error.code : undefined,
    hint: isWalrx ? error.hint : undefined,
    id: own ?? cause,
    isItself: own !== undefined,
  }
}

/** The error that came. @param kept that with its number, where this thread has it */
export function receivedError({ code, hint, id, isItself, message, name, stack }: SentError, kept?: unknown): Error {
  if (isItself && kept instanceof Error) return kept
  const options = { ...(hint !== undefined && { hint }), ...(kept !== undefined && { cause: kept }) }
  const error = code === undefined ? new Error(message, options) : new WalrxError(code, message, options)
  if (code === undefined) error.name = name
  if (stack !== undefined) error.stack = stack
  if (id !== undefined) ids.set(error, id)
  return error
}
