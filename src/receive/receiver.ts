/**
 * The receiver: connect, prepare, stream, and again, for as long as it takes.
 *
 * Until the first stream has begun, every error but a busy slot or a starting server ends the start, so that a wrong
 * password is reported at once. Afterwards everything is tried again, with an error in the log, except a contradiction between archive and
 * server, which stops us: going on would archive something wrong.
 */
import { hasCode, toWalrxError, WalrxError } from '../primitives/errors.ts'
import { Backoff } from '../primitives/backoff.ts'
import { orAborted, settledWithin } from '../primitives/wait.ts'
import { formatLsn, invalidLsn, type Lsn, maxLsn, type Timeline } from '../postgres/lsn.ts'
import type { ReplicationServer, ReplicationSession } from '../postgres/protocol/session.ts'
import { streamTimings } from './stream/stream-timings.ts'
import { type Acknowledger, PulseAcknowledger, SynchronousAcknowledger } from './stream/acknowledger.ts'
import { refusedHosts } from './source/host-choice.ts'
import { type PreparedSource, prepareSource } from './source/prepared-source.ts'
import { describePosition } from './source/start-position.ts'
import { ReceiveRun, type ReceiveRunOptions } from './receive-run.ts'
import { BusySlot } from './slot/busy-slot.ts'
import { overBudgetReason, type SlotLagLimit } from './slot/slot-lag-limit.ts'
import { type SessionEnd, StreamSession } from './stream/stream-session.ts'

/** Options of {@link Receiver}. */
export interface ReceiverOptions extends ReceiveRunOptions {
  readonly server: ReplicationServer
  /** Undefined streams without a slot. */
  readonly slot: string | undefined
  readonly allowStandby: boolean
  /** Stop when all WAL up to here is durable. */
  readonly endpos: Lsn | undefined
  /** How long commits are kept waiting while the storage is out, in milliseconds; undefined for ever. */
  readonly syncOutageMs: number | undefined
  /** How long a drain may take before what is left is given up. */
  readonly drainTimeoutMs: number
  /** Looks at the slot beside the stream; default nobody. */
  readonly watch?: { start(session: ReplicationSession): void; stop(): void }
  /** Watches what the slot costs the server; default nobody. */
  readonly guard?: SlotLagLimit
}

/** What a receiver says about itself. */
export interface ReceiverSnapshot {
  readonly state: 'connecting' | 'streaming' | 'waiting' | 'draining' | 'stopped'
  readonly host: string | undefined
  readonly timeline: Timeline | undefined
  readonly receivedLsn: Lsn
  readonly durableLsn: Lsn
  /** Milliseconds since the oldest byte was received that is not durable; 0 when all is. */
  readonly oldestMs: number
  /** True while commits wait for us. */
  readonly isSynchronous: boolean
  /** The server's end of WAL, as last heard. */
  readonly serverEnd: Lsn
  readonly poolFree: number
  readonly poolCapacity: number
  /** Files received but not durable. */
  readonly queued: number
  readonly lastError: string | undefined
}

/** How long a server that is starting up is waited for at the start. A slot that is in use is waited for as long as it takes. */
const startPatienceMs = 60_000

/** How long the server may take to end the stream with us. */
const goodbyeMs = 2_000

/** See the file's header. */
export class Receiver {
  readonly #options: ReceiverOptions
  readonly #archivedHistories = new Map<Timeline, Buffer>()
  readonly #startedAtMs: number
  #state: ReceiverSnapshot['state'] = 'connecting'
  #run: ReceiveRun | undefined
  #source: PreparedSource | undefined
  #session: StreamSession | undefined
  #hasStreamed = false
  #serverEnd: Lsn = invalidLsn
  #lastError: string | undefined
  /** The host on which the slot is to be created again: on another host the slot may be as good as it looks. */
  #uselessSlotOn: string | undefined
  #hasRemadeSlot = false
  readonly #busy: BusySlot
  #isCandidate = false

  constructor(options: ReceiverOptions) {
    this.#options = options
    this.#startedAtMs = options.clock.now()
    this.#busy = new BusySlot(options.log, options.slot)
  }

  /** The present state, as plain values. */
  snapshot(): ReceiverSnapshot {
    const { arrivals, pool, assembler, queue, durableLsn = invalidLsn } = this.#run ?? {}
    return {
      state: this.#state,
      host: this.#source?.session.host,
      timeline: assembler?.timeline,
      receivedLsn: assembler?.nextLsn ?? invalidLsn,
      durableLsn,
      oldestMs: arrivals?.age(durableLsn) ?? 0,
      isSynchronous: this.#isCandidate,
      serverEnd: this.#serverEnd,
      poolFree: pool?.free ?? 0,
      poolCapacity: pool?.capacity ?? 0,
      queued: queue?.length ?? 0,
      lastError: this.#lastError,
    }
  }

  /**
   * Receives until `endpos` is durable or a signal stops it.
   * @param drain first signal: stop receiving, archive what is whole, acknowledge, return
   * @param now second signal: stop at once
   * @throws WalrxError that ends the start, WALRX_ARCHIVE_CONFLICT, WALRX_WAL_INVALID, or WALRX_DRAIN_INCOMPLETE
   */
  async run(drain: AbortSignal, now: AbortSignal): Promise<void> {
    const backoff = new Backoff({ firstMs: 100, maxMs: 10_000, random: this.#options.random })
    try {
      while (!this.#isStopping(drain)) {
        const shouldWait = await this.#attempt(drain, backoff)
        if (shouldWait) await this.#pause(backoff, drain)
      }
      await this.#drain(now)
    } finally {
      // What a fatal error has left unfinished must not keep the process alive.
      this.#run?.destroy()
      await this.#disconnect()
      this.#options.guard?.stop()
      this.#state = 'stopped'
    }
  }

  #isStopping(drain: AbortSignal): boolean {
    const { endpos } = this.#options
    return drain.aborted || (endpos !== undefined && this.#run?.isDurable(endpos) === true)
  }

  async #disconnect(): Promise<void> {
    this.#options.watch?.stop()
    this.#session?.destroy()
    this.#options.guard?.streamEnded()
    await this.#source?.session.close()
    this.#session = undefined
    this.#source = undefined
  }

  /** One connection. Returns true when the next one should wait a little. Throws what ends the receiver. */
  async #attempt(drain: AbortSignal, backoff: Backoff): Promise<boolean> {
    const { log, meter } = this.#options
    this.#state = 'connecting'
    let outcome: SessionEnd | WalrxError
    try {
      outcome = await this.#connectAndStream(drain)
    } catch (error) {
      outcome = toWalrxError(error)
    }
    if (this.#isStopping(drain)) return false
    if (this.#session?.hasTaken) backoff.reset()
    const failed = this.#run?.queue.failed
    if (failed?.aborted) throw toWalrxError(failed.reason)
    if (outcome instanceof WalrxError && this.#isFatal(outcome)) throw outcome
    await this.#disconnect()
    this.#state = 'waiting'
    if (this.#hasStreamed) meter.reconnected()
    try {
      if (!(outcome instanceof WalrxError)) return await this.#afterEnd(outcome, drain)
      this.#lastError = outcome.message
      if (this.#busy.isReason(outcome, this.#run?.host)) return true
      log.error('the stream broke', { error: outcome.message, code: outcome.code, hint: outcome.hint })
      return await this.#afterFailure(outcome, drain)
    } catch (error) {
      if (drain.aborted) return false
      throw error
    }
  }

  /** Streams until the connection ends or the receiver is to stop; then the session is left open for the drain. */
  async #connectAndStream(drain: AbortSignal): Promise<SessionEnd> {
    const { archive, allowStandby, clock, everyHost, guard, log, meter, server, slot } = this.#options
    let source: PreparedSource | undefined
    const refused = await refusedHosts({ archive, everyHost, log, signal: drain })
    const connection = await server.connect(drain, async (session) => {
      const refusal = refused.get(session.host)
      if (refusal) throw refusal
      const tools = { archive, archivedHistories: this.#archivedHistories, log: this.#busy.log, signal: drain }
      const prepare = { ...tools, allowStandby, slot }
      const remakeSlot = session.host === this.#uselessSlotOn
      const known = { newestTimeline: this.#run?.newestTimeline ?? 0, remakeSlot }
      source = await orAborted(prepareSource(session, { ...prepare, ...known }), drain)
    })
    if (!source) throw new Error('a server was connected to and not examined')
    this.#source = source
    this.#uselessSlotOn = undefined
    this.#serverEnd = source.serverEnd
    this.#run ??= new ReceiveRun(this.#options, source)
    const run = this.#run
    if (guard?.takeDropped()) run.gaps.because(overBudgetReason)
    const start = await run.begin(source, drain)
    const stop = new AbortController()
    const onProgress = () => this.#isStopping(drain) && stop.abort()
    this.#session = new StreamSession({
      host: connection.host,
      socket: connection.takeOver(),
      assembler: run.assembler,
      queue: run.queue,
      pool: run.pool,
      clock,
      meter,
      timings: streamTimings(source.walSenderTimeoutMs),
      acknowledger: this.#acknowledger(run, source),
      onStarted: () => {
        this.#state = 'streaming'
        this.#busy.isOver()
        this.#options.watch?.start(connection)
        log.info('streaming', { ...describePosition(start), host: connection.host })
      },
      onReceived: () => run.noteReceived(),
      onServerEnd: (lsn) => this.#onServerEnd(lsn),
      onReported: (lsn) => {
        run.noteReported(lsn)
        guard?.reported(lsn)
      },
      onProgress,
    })
    const overBudget = guard ? [guard.streamBegan(source, start.startLsn)] : []
    return await orAborted(this.#session.run({ ...start, slot }), drain, stop.signal, run.queue.failed, ...overBudget)
  }

  #acknowledger({ queue, tails }: ReceiveRun, source: PreparedSource): Acknowledger {
    const { clock, guard, log, syncOutageMs, tailPace } = this.#options
    const runStart = maxLsn(queue.runStart, guard?.floor(source) ?? invalidLsn)
    if (!tailPace.isSynchronous) return new PulseAcknowledger(() => queue.durableLsn, runStart)
    return new SynchronousAcknowledger({
      durable: () => tails.durableLsn,
      runStart,
      outageMs: syncOutageMs,
      clock,
      log,
      send: (status) => this.#session?.send(status),
      onCandidate: (isCandidate) => (this.#isCandidate = isCandidate),
    })
  }

  #onServerEnd(lsn: Lsn): void {
    this.#serverEnd = lsn
    this.#options.guard?.heard(lsn)
    this.#hasStreamed = true
    this.#lastError = undefined
  }

  /** After an end without error. Returns true when the next connection should wait a little. */
  async #afterEnd(end: SessionEnd, drain: AbortSignal): Promise<boolean> {
    const { log } = this.#options
    const run = this.#run
    if (!run) throw new Error('a stream ended before it began')
    if (end.kind === 'timeline') {
      await run.endTimeline(end.nextTimeline, end.switchpoint, drain)
      return false
    }
    if (end.kind === 'shutdown') {
      log.warn('the server shuts down', { receivedUpTo: formatLsn(run.assembler.nextLsn) })
      return true
    }
    log.warn('no buffer became free: the connection is closed until the storage takes segments again', {
      queued: run.queue.length,
      durable: formatLsn(run.queue.durableLsn),
    })
    await orAborted(run.halfFree(), drain, run.queue.failed)
    return false
  }

  /** After a failure that is tried again. Returns true when the next connection should wait a little. */
  async #afterFailure(failure: WalrxError, drain: AbortSignal): Promise<boolean> {
    if (hasCode(failure, 'WALRX_SLOT_OVER_BUDGET')) return !(await this.#options.guard?.drop(drain))
    const isRunOver = hasCode(failure, 'WALRX_WAL_DIVERGED') || hasCode(failure, 'WALRX_SLOT_INVALIDATED')
    if (isRunOver) await this.#run?.restart(drain)
    if (this.#isSlotUseless(failure)) {
      this.#uselessSlotOn = this.#run?.host
      this.#hasRemadeSlot = true
    }
    if (hasCode(failure, 'WALRX_WAL_REMOVED')) return !(await this.#run?.skipRemoved(drain))
    return true
  }

  /** True when the failure shows that the slot keeps nothing, so that streaming from it again would end the same way. */
  #isSlotUseless(failure: WalrxError): boolean {
    if (hasCode(failure, 'WALRX_WAL_REMOVED')) return this.#run?.isSlotUseless === true
    // Of a slot that could not be read (14 without SQL) the same error says that it is a logical one.
    return hasCode(failure, 'WALRX_SLOT_INVALIDATED') && this.#run?.hasReadSlot === true
  }

  #isFatal(failure: WalrxError): boolean {
    const { code, transient } = failure
    // One host contradicts the archive, and the right one does not answer just now: that may pass.
    if (code === 'WALRX_ARCHIVE_CONFLICT' && transient && this.#hasStreamed) return false
    if (code === 'WALRX_ARCHIVE_CONFLICT' || code === 'WALRX_WAL_INVALID' || code === 'WALRX_INTERNAL') return true
    // Somebody else writes with another key, or none: no other attempt ends in another way.
    if (code === 'WALRX_KEY_WRONG' || code === 'WALRX_KEY_MISSING') return true
    // Who has waited for a slot has come to the right server.
    if (this.#hasStreamed || this.#busy.hasWaited || code === 'WALRX_SLOT_ACTIVE') return false
    const waitedMs = this.#options.clock.now() - this.#startedAtMs
    if (code === 'WALRX_SERVER_STARTING' || code === 'WALRX_CONNECTION_LOST') return waitedMs > startPatienceMs
    // Once a server has let us in, one that is gone a moment later is restarting: its address is right.
    if (code === 'WALRX_CONNECT_FAILED' && this.#run) return waitedMs > startPatienceMs
    // Without a slot a checkpoint may remove the first segment before it is asked for.
    if (code === 'WALRX_WAL_REMOVED' && (this.#run?.hasFallback === true || !this.#options.slot)) return false
    return this.#hasRemadeSlot || !this.#isSlotUseless(failure)
  }

  async #pause(backoff: Backoff, drain: AbortSignal): Promise<void> {
    try {
      await backoff.wait(this.#options.clock, drain)
    } catch (error) {
      if (!drain.aborted) throw error
    }
  }

  /** Archives what is whole, acknowledges it, and says goodbye; gives up at the deadline or at the second signal. */
  async #drain(now: AbortSignal): Promise<void> {
    const { clock, drainTimeoutMs, log } = this.#options
    if (!this.#run) return
    const { queue, tails } = this.#run
    this.#state = 'draining'
    this.#session?.stopReading()
    const deadline = new AbortController()
    const timer = clock.setTimer(drainTimeoutMs, () => deadline.abort())
    const giveUp = [now, deadline.signal] as const
    if (queue.length > 0) log.info('finishing uploads', { queued: queue.length, timeoutMs: drainTimeoutMs })
    const tailSent = tails.flush(deadline.signal, now).catch((error: unknown) => {
      const reason = giveUp.some((signal) => signal.aborted) ? undefined : toWalrxError(error).message
      log.warn('the tail of the last segment is not archived: the server still has that WAL', { error: reason })
    })
    try {
      await orAborted(queue.drained(), ...giveUp)
      await tailSent
    } catch (error) {
      if (!giveUp.some((signal) => signal.aborted)) throw error
      const files = queue.length === 1 ? '1 file' : `${queue.length} files`
      throw new WalrxError('WALRX_DRAIN_INCOMPLETE', `stopped with ${files} not archived`, {
        hint: 'the replication slot still holds that WAL: start walrx again',
      })
    } finally {
      timer.cancel()
    }
    if (this.#session) await settledWithin(this.#session.close(), goodbyeMs, clock)
    log.info('stopped', { durable: formatLsn(this.#run.durableLsn) })
  }
}
