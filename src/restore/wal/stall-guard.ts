/**
 * Aborts an attempt that makes no progress, or when the command is stopped. The reason says what it waited for: the store, or what
 * the key comes from.
 */
import { type Clock, systemClock, type Timer } from '../../primitives/clock.ts'
import { WalrxError } from '../../primitives/errors.ts'
import type { Storage } from '../../storage/storage.ts'

/** What {@link StallGuard} needs: options of a fetch. */
export interface StallGuardOptions {
  readonly storage: Pick<Storage, 'keyring' | 'location'>
  readonly isStandby: boolean
  readonly retryTimeoutMs: number
  readonly signal: AbortSignal
  /** Default the real clock. */
  readonly clock?: Clock
}

/** An attempt without progress for this long has failed: the lower and the upper limit, whatever the retry timeout. */
const stalledMsMin = 5_000
const stalledMsMax = 30_000

/** See the file's header. */
export class StallGuard {
  readonly #clock: Clock
  readonly #stalledMs: number
  readonly #storage: Pick<Storage, 'keyring' | 'location'>
  readonly #abort = new AbortController()
  readonly #outer: AbortSignal
  readonly #onOuterAbort = () => this.#abort.abort(this.#outer.reason)
  #timer: Timer

  constructor({ clock = systemClock, isStandby, retryTimeoutMs, signal, storage }: StallGuardOptions) {
    this.#clock = clock
    this.#stalledMs = isStandby ? stalledMsMin : Math.min(stalledMsMax, Math.max(stalledMsMin, retryTimeoutMs))
    this.#storage = storage
    this.#outer = signal
    signal.addEventListener('abort', this.#onOuterAbort, { once: true })
    if (signal.aborted) this.#onOuterAbort()
    this.#timer = this.#set()
  }

  get signal(): AbortSignal {
    return this.#abort.signal
  }

  progress(): void {
    this.#timer.cancel()
    this.#timer = this.#set()
  }

  close(): void {
    this.#timer.cancel()
    this.#outer.removeEventListener('abort', this.#onOuterAbort)
  }

  #set(): Timer {
    return this.#clock.setTimer(this.#stalledMs, () => this.#abort.abort(this.#reason()))
  }

  #reason(): WalrxError {
    const seconds = this.#stalledMs / 1000
    const { keyring, location } = this.#storage
    const waited = keyring?.waitsFor
    if (waited === undefined) {
      return new WalrxError('WALRX_STORAGE_UNAVAILABLE', `${location} did not answer for ${seconds} s`)
    }
    // The next attempt waits for the same answer.
    return new WalrxError('WALRX_KEY_UNAVAILABLE', `${waited} has given no key for ${seconds} s`, { transient: true })
  }
}
