/**
 * Two ways to report to the server what is durable; flush-rule.ts says why the first is the usual one.
 *
 * By pulse: only the end of whole segments is reported, for the slot's sake, and taken back at once. Synchronous: the end
 * of the durable tail is reported as soon as it moves, as write and flush alike, and stays valid: commits wait for it.
 * `remote_write` then waits for the archive as well, for nothing in memory counts, and `remote_apply` waits for ever.
 *
 * A synchronous standby steps down by reporting flush = 0: the server then asks others, or lets commits wait if there
 * are none. We do so when nothing became durable for as long as commits may be kept waiting, and when the
 * server shuts down while the storage is out: it would wait for our flush for ever, asking hundreds of times a second
 * (WalSndDone in walsender.c).
 */
import type { Logger } from '../../observe/log.ts'
import type { StandbyStatus } from '../../postgres/protocol/frames.ts'
import { formatLsn, invalidLsn, type Lsn, minLsn } from '../../postgres/lsn.ts'
import type { Clock, Timer } from '../../primitives/clock.ts'
import { pulse, quietStatus } from './flush-rule.ts'

/** What goes out because the durable end has moved. */
export interface Acknowledgement {
  /** To be sent in one write. */
  readonly statuses: readonly StandbyStatus[]
  /** The flush position that they report. */
  readonly durable: Lsn
}

/** Decides what one stream reports. */
export interface Acknowledger {
  /** To be called when WAL was received or became durable: what to send now, if anything. */
  progress(received: Lsn): Acknowledgement | undefined
  /** The acknowledgement went out. */
  sent(acknowledgement: Acknowledgement): void
  /** The status that goes out at intervals and as an answer. */
  status(received: Lsn): StandbyStatus
  /** The server sent its end of WAL and asked for an answer. */
  asked(serverEnd: Lsn, received: Lsn): void
  /** The stream is over. */
  close(): void
}

/** The usual way; see {@link Acknowledger}. */
export class PulseAcknowledger implements Acknowledger {
  readonly #durable: () => Lsn
  #reported: Lsn

  /**
   * @param durable end of the unbroken run of whole segments that are durable
   * @param runStart where that run begins: it needs no report
   */
  constructor(durable: () => Lsn, runStart: Lsn) {
    this.#durable = durable
    this.#reported = runStart
  }

  progress(received: Lsn): Acknowledgement | undefined {
    const durable = this.#durable()
    if (durable <= this.#reported || durable > received) return undefined
    return { statuses: pulse(received, durable), durable }
  }

  sent({ durable }: Acknowledgement): void {
    this.#reported = durable
  }

  status(received: Lsn): StandbyStatus {
    return quietStatus(received)
  }

  asked(): void {}

  close(): void {}
}

/** What {@link SynchronousAcknowledger} needs. */
export interface SynchronousOptions {
  /** End of what is durable without a hole, chunks included. */
  readonly durable: () => Lsn
  readonly runStart: Lsn
  /** How long commits are kept waiting when nothing becomes durable, in milliseconds; undefined for ever. */
  readonly outageMs: number | undefined
  readonly clock: Clock
  readonly log: Logger
  /** Sends a status at once. */
  readonly send: (status: StandbyStatus) => void
  /** Called when we begin or cease to be a candidate. */
  readonly onCandidate: (isCandidate: boolean) => void
}

/** Pings that come faster than this after each other are those of a server that waits for our flush to end. */
const stormMs = 100
/** So many of them, for so long, mean that it shuts down. */
const stormPings = 5
const stormLastsMs = 500

/** Commits wait for the archive; see {@link Acknowledger}. */
export class SynchronousAcknowledger implements Acknowledger {
  readonly #options: SynchronousOptions
  #reported: Lsn
  #steppedDown: 'outage' | 'shutdown' | undefined
  #outage: Timer | undefined
  /** The durable end when the outage's timer was set. */
  #durableThen: Lsn = invalidLsn
  #received: Lsn = invalidLsn
  /** After an outage: what had been received at some time, to see how long it takes to become durable. */
  #mark: { readonly lsn: Lsn; readonly ms: number } = { lsn: invalidLsn, ms: 0 }
  #pings = 0
  #firstPingMs = 0
  #lastPingMs = -Infinity
  #serverEnd: Lsn = invalidLsn

  constructor(options: SynchronousOptions) {
    this.#options = options
    this.#reported = options.runStart
  }

  progress(received: Lsn): Acknowledgement | undefined {
    const durable = minLsn(this.#options.durable(), received)
    this.#received = received
    this.#watchOutage(durable)
    if (this.#steppedDown === 'outage' && this.#isOutageOver(durable)) this.#comeBack(durable)
    if (durable <= this.#reported) return undefined
    if (this.#steppedDown) return undefined
    return { statuses: [{ write: durable, flush: durable, apply: invalidLsn, replyRequested: false }], durable }
  }

  sent({ durable }: Acknowledgement): void {
    if (this.#reported === this.#options.runStart) this.#options.onCandidate(true)
    this.#reported = durable
  }

  status(received: Lsn): StandbyStatus {
    if (this.#steppedDown || this.#reported <= this.#options.runStart) return quietStatus(received)
    return { write: this.#reported, flush: this.#reported, apply: invalidLsn, replyRequested: false }
  }

  asked(serverEnd: Lsn, received: Lsn): void {
    const { clock, durable } = this.#options
    const now = clock.now()
    const isStorm = serverEnd <= received && durable() < received && now - this.#lastPingMs < stormMs
    if (serverEnd > this.#serverEnd && this.#steppedDown === 'shutdown') this.#comeBack(durable())
    this.#serverEnd = serverEnd
    this.#lastPingMs = now
    if (!isStorm) {
      this.#pings = 0
      this.#firstPingMs = now
      return
    }
    this.#pings++
    if (this.#steppedDown || this.#pings < stormPings || now - this.#firstPingMs < stormLastsMs) return
    this.#stepDown('shutdown', received)
  }

  close(): void {
    this.#outage?.cancel()
    this.#outage = undefined
    this.#options.onCandidate(false)
  }

  /** Keeps a timer while something waits; it starts again whenever something becomes durable. */
  #watchOutage(durable: Lsn): void {
    const { clock, outageMs } = this.#options
    if (outageMs === undefined || this.#steppedDown) return
    const isWaiting = durable < this.#received
    if (this.#outage && isWaiting && durable <= this.#durableThen) return
    this.#outage?.cancel()
    this.#outage = undefined
    if (!isWaiting) return
    this.#durableThen = durable
    this.#outage = clock.setTimer(outageMs, () => {
      this.#outage = undefined
      this.#stepDown('outage', this.#received)
    })
  }

  /**
   * True when all is durable, or what had arrived became so in less time than commits are kept waiting: under load
   * something is always on its way.
   */
  #isOutageOver(durable: Lsn): boolean {
    if (durable >= this.#received) return true
    if (durable < this.#mark.lsn) return false
    const now = this.#options.clock.now()
    const isQuick = now - this.#mark.ms < (this.#options.outageMs ?? 0)
    this.#mark = { lsn: this.#received, ms: now }
    return isQuick
  }

  #stepDown(why: 'outage' | 'shutdown', received: Lsn): void {
    const { log, onCandidate, outageMs, send } = this.#options
    this.#steppedDown = why
    this.#mark = { lsn: received, ms: -Infinity }
    onCandidate(false)
    const facts = { received: formatLsn(received), durable: formatLsn(this.#options.durable()) }
    if (why === 'shutdown')
      log.warn('the server shuts down while the storage is unavailable: it need not wait for walrx', facts)
    else
      log.error('commits have waited too long for the storage: stepping down as synchronous standby', {
        ...facts,
        outageMs,
      })
    send(quietStatus(received))
  }

  #comeBack(durable: Lsn): void {
    const { log, onCandidate } = this.#options
    this.#steppedDown = undefined
    onCandidate(true)
    log.warn('commits can wait for the archive again', { durable: formatLsn(durable) })
  }
}
