/**
 * A slot that another process uses: another receiver, or the server's end of a connection that is dead, which holds it
 * until wal_sender_timeout. That is said once, and waited out quietly.
 */
import type { Logger } from '../../observe/log.ts'
import { hasCode, type WalrxError } from '../../primitives/errors.ts'

/** See the file's header. */
export class BusySlot {
  readonly #log: Logger
  readonly #quietLog: Logger
  readonly #slot: string | undefined
  #isBusy = false
  #hasWaited = false

  constructor(log: Logger, slot: string | undefined) {
    this.#log = log
    this.#quietLog = quiet(log)
    this.#slot = slot
  }

  /** True once it was waited for: meanwhile others may have moved the slot. */
  get hasWaited(): boolean {
    return this.#hasWaited
  }

  /** For what every attempt says: nobody is to read that again and again while the slot is in use. */
  get log(): Logger {
    return this.#isBusy ? this.#quietLog : this.#log
  }

  /**
   * Whether an attempt failed because the slot is in use. The first time this is logged.
   * @param host where that was
   */
  isReason(failure: WalrxError, host: string | undefined): boolean {
    if (!hasCode(failure, 'WALRX_SLOT_ACTIVE')) {
      this.#isBusy = false
      return false
    }
    if (!this.#isBusy) {
      // Only for people: the server has no field for it.
      const pid = /\bPID (\d+)/.exec(failure.message)?.[1]
      const by = pid === undefined ? 'by another process' : `by PID ${pid}`
      this.#log.warn(`the slot is in use ${by}: waiting until it is free`, {
        slot: this.#slot,
        host,
        error: failure.message,
        hint: failure.hint,
      })
    }
    this.#isBusy = true
    this.#hasWaited = true
    return true
  }

  /** The server streams. */
  isOver(): void {
    this.#isBusy = false
  }
}

/** The same log, with what is only informative at the level for debugging. */
function quiet(log: Logger): Logger {
  return {
    debug: (message, fields) => log.debug(message, fields),
    info: (message, fields) => log.debug(message, fields),
    warn: (message, fields) => log.warn(message, fields),
    error: (message, fields) => log.error(message, fields),
    child: (fields) => quiet(log.child(fields)),
  }
}
