/**
 * How much WAL the slot makes the server keep, and what is done when that becomes too much. A receiver that cannot
 * archive fills the server's disk, slowly and silently. The server's own limit is max_slot_wal_keep_size; --max-slot-lag
 * is walrx's, for servers where nobody has set the other one, and it warns early.
 *
 * While WAL streams, the lag is known from what the server sends and what was reported to it. While it doesn't, because the
 * storage is out and no buffer is free, the server is asked now and then, over a separate connection.
 */
import type { Logger } from '../../observe/log.ts'
import { bytesBetween, formatLsn, type Lsn } from '../../postgres/lsn.ts'
import type { ReplicationServer, ReplicationSession } from '../../postgres/protocol/session.ts'
import type { Clock, Timer } from '../../primitives/clock.ts'
import { hasCode, isAbort, toWalrxError, WalrxError } from '../../primitives/errors.ts'
import { Backoff } from '../../primitives/backoff.ts'

/** How often the server is asked while nothing streams. */
export const slotProbeMs = 15_000

/** Attempts to drop a slot that an ending walsender still holds: some 20 s in all. */
const dropAttemptsMax = 15

/** A lag must fall below this part of a threshold before it can cross that again: the slot moves by whole segments. */
const hysteresis = 0.75

/** Why the WAL after a dropped slot's position is lost, for the record of the gap. */
export const overBudgetReason = 'walrx dropped the slot, which kept more WAL than --max-slot-lag allows'

/** What {@link SlotLagLimit} needs. */
export interface SlotLagLimitOptions {
  readonly slot: string
  readonly server: ReplicationServer
  /** Bytes of WAL that the slot may keep; undefined without a limit: the lag is reported, nothing else. */
  readonly limitBytes: number | undefined
  /** What is done above the limit. */
  readonly action: 'warn' | 'drop'
  readonly clock: Clock
  /** Random number in [0, 1) for back-off jitter. */
  readonly random: () => number
  readonly log: Logger
  /** Called with every lag, in bytes from the slot's restart_lsn to the server's end of WAL. */
  readonly onLag: (lagBytes: number, isOverBudget: boolean) => void
}

/** The server at the beginning of a stream. */
export interface GuardedServer {
  readonly session: Pick<ReplicationSession, 'host'>
  /** Its flush position when we asked. */
  readonly serverEnd: Lsn
  /** The slot's restart_lsn; undefined where it cannot be read. */
  readonly slotRestart: Lsn | undefined
}

/** See the file's header. */
export class SlotLagLimit {
  readonly #options: SlotLagLimitOptions
  #host = ''
  #restartLsn: Lsn | undefined
  #serverEnd: Lsn | undefined
  #stage: 'low' | 'half' | 'over' = 'low'
  /** Lag above which the slot is dropped, in bytes. */
  #dropAboveBytes: number
  /** True from a drop until the next slot's lag is known. */
  #isFresh = false
  #wasDropped = false
  #exceeded: AbortController | undefined
  /** Until the next probe; undefined while one is under way. */
  #timer: Timer | undefined
  #isProbing = false
  #probing: Promise<void> = Promise.resolve()
  readonly #stopped = new AbortController()

  constructor(options: SlotLagLimitOptions) {
    this.#options = options
    this.#dropAboveBytes = options.limitBytes ?? Infinity
  }

  /** The least position that may be reported to the server: a report below it would move a new slot back again. */
  floor({ slotRestart }: Pick<GuardedServer, 'slotRestart'>): Lsn | undefined {
    const { action, limitBytes } = this.#options
    return action === 'drop' && limitBytes !== undefined ? slotRestart : undefined
  }

  /**
   * A stream begins on this server.
   * @param startLsn where it does: the slot's position, where that cannot be read
   * @returns aborts with WALRX_SLOT_OVER_BUDGET when the stream must end, so that the slot can be dropped
   */
  streamBegan({ serverEnd, session, slotRestart }: GuardedServer, startLsn: Lsn): AbortSignal {
    this.#timer?.cancel()
    this.#timer = undefined
    this.#host = session.host
    this.#exceeded = new AbortController()
    this.#restartLsn = slotRestart ?? startLsn
    this.heard(serverEnd)
    return this.#exceeded.signal
  }

  /** The stream, or a connection beside it, reported the server's end of WAL. */
  heard(serverEnd: Lsn): void {
    this.#serverEnd = serverEnd
    this.#lookAtStream()
  }

  /** A flush position went to the server: the slot is there. */
  reported(lsn: Lsn): void {
    this.#restartLsn = lsn
    this.#lookAtStream()
  }

  /** Nothing streams any more: the server is asked from time to time, where there is a limit. */
  streamEnded(): void {
    this.#exceeded = undefined
    this.#scheduleProbe()
  }

  /** Ends for good. */
  stop(): void {
    this.#stopped.abort()
    this.#timer?.cancel()
    this.#timer = undefined
  }

  /** Ends for good, and waits until no connection is open. */
  async close(): Promise<void> {
    this.stop()
    await this.#probing
  }

  /** True once after every drop: the caller records why WAL may be lost. */
  takeDropped(): boolean {
    const wasDropped = this.#wasDropped
    this.#wasDropped = false
    return wasDropped
  }

  /**
   * Drops the slot after the stream was closed. The server may take a moment to notice that.
   * @returns false when it could not be dropped: the next stream tries again
   * @throws the signal's reason
   */
  async drop(signal: AbortSignal): Promise<boolean> {
    const { clock, log, random, slot } = this.#options
    const backoff = new Backoff({ firstMs: 50, maxMs: 2_000, random })
    for (;;) {
      try {
        await this.#withSession(signal, (session) => this.#dropIn(session))
        return true
      } catch (error) {
        if (signal.aborted || isAbort(error)) throw error
        if (!hasCode(error, 'WALRX_SLOT_ACTIVE') || backoff.attempt >= dropAttemptsMax) {
          log.error('the slot could not be dropped', { slot, host: this.#host, error: toWalrxError(error).message })
          return false
        }
        await backoff.wait(clock, signal)
      }
    }
  }

  async #dropIn(session: ReplicationSession): Promise<void> {
    const { limitBytes, log, slot } = this.#options
    await session.dropSlot(slot)
    log.error('dropped the replication slot: it kept more WAL than --max-slot-lag allows, some of that will be lost', {
      slot,
      host: session.host,
      limitBytes,
      restartLsn: this.#restartLsn === undefined ? undefined : formatLsn(this.#restartLsn),
    })
    this.#restartLsn = undefined
    this.#isFresh = true
    this.#wasDropped = true
    this.#options.onLag(0, false)
  }

  #lookAtStream(): void {
    if (!this.#exceeded || this.#restartLsn === undefined || this.#serverEnd === undefined) return
    const lagBytes = Math.max(0, bytesBetween(this.#restartLsn, this.#serverEnd))
    if (!this.#judge(lagBytes)) return
    const { limitBytes, slot } = this.#options
    const message = `slot "${slot}" on ${this.#host} keeps ${lagBytes} bytes of WAL, --max-slot-lag is ${limitBytes}`
    this.#exceeded.abort(new WalrxError('WALRX_SLOT_OVER_BUDGET', message))
  }

  /** Reports the lag and what it means. Returns true when the slot is to be dropped. */
  #judge(lagBytes: number): boolean {
    const { action, limitBytes = Infinity, onLag } = this.#options
    onLag(lagBytes, lagBytes > limitBytes)
    this.#enter(lagBytes)
    if (lagBytes <= limitBytes) this.#dropAboveBytes = limitBytes
    else if (this.#isFresh) {
      // A new slot begins at the last checkpoint. Dropping it again would change nothing before the next one.
      this.#dropAboveBytes = lagBytes + limitBytes
      this.#options.log.error('the WAL since the last checkpoint alone is more than --max-slot-lag: raise it', {
        lagBytes,
        limitBytes,
      })
    }
    this.#isFresh = false
    return action === 'drop' && lagBytes > this.#dropAboveBytes
  }

  /** Warns once for each time that the lag crosses half of the limit, or all of it. */
  #enter(lagBytes: number): void {
    const { action, limitBytes = Infinity, log, slot } = this.#options
    const facts = { slot, host: this.#host, lagBytes, limitBytes }
    if (lagBytes > limitBytes) {
      if (this.#stage !== 'over') log.error('the slot keeps more WAL than --max-slot-lag allows', { ...facts, action })
      this.#stage = 'over'
    } else if (this.#stage === 'over' && lagBytes > limitBytes * hysteresis) return
    else if (lagBytes > limitBytes / 2) {
      if (this.#stage === 'low') log.warn('the slot keeps more WAL than half of --max-slot-lag', facts)
      this.#stage = 'half'
    } else if (lagBytes < (limitBytes / 2) * hysteresis || this.#stage === 'over') this.#stage = 'low'
  }

  /** Sets the timer, unless it runs or a probe is under way, which sets it when it ends. */
  #scheduleProbe(): void {
    const { clock, limitBytes } = this.#options
    if (limitBytes === undefined || this.#stopped.signal.aborted || this.#timer || this.#isProbing) return
    this.#timer = clock.setTimer(slotProbeMs, () => {
      this.#probing = this.#probe()
    })
  }

  /** Asks the server, with nothing streaming; whatever goes wrong is tried again. */
  async #probe(): Promise<void> {
    const { log, slot } = this.#options
    const { signal } = this.#stopped
    this.#timer = undefined
    this.#isProbing = true
    try {
      await this.#withSession(signal, (session) => this.#look(session))
    } catch (error) {
      if (!signal.aborted) log.debug('the lag of the slot is not known', { slot, error: toWalrxError(error).message })
    }
    this.#isProbing = false
    if (!this.#exceeded) this.#scheduleProbe()
  }

  async #look(session: ReplicationSession): Promise<void> {
    const { onLag, slot } = this.#options
    const { xlogpos } = await session.identifySystem()
    const reading = await session.readSlot(slot)
    // A stream that has begun meanwhile knows better.
    if (this.#exceeded) return
    if (reading.kind === 'missing') return onLag(0, false)
    if (reading.kind === 'physical') this.#restartLsn = reading.restartLsn
    if (this.#restartLsn === undefined) return
    if (this.#judge(Math.max(0, bytesBetween(this.#restartLsn, xlogpos)))) await this.#dropIn(session)
  }

  /** On the host that streamed last, for that is where our slot is: a former primary may still answer beside it. */
  async #withSession(signal: AbortSignal, use: (session: ReplicationSession) => Promise<void>): Promise<void> {
    const session = await this.#options.server.connect(signal, ({ host }) => {
      if (this.#host === '' || host === this.#host) return Promise.resolve()
      return Promise.reject(new WalrxError('WALRX_CONNECT_FAILED', `${host} is not ${this.#host}, where the slot is`))
    })
    try {
      await use(session)
    } finally {
      await session.close()
    }
  }
}
