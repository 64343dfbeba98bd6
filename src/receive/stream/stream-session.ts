/**
 * One stream from its first byte to its end: takes WAL into the assembler, keeps the server informed, and notices when
 * nothing moves. Three clocks run beside the bytes, all derived from wal_sender_timeout (stream-timings.ts):
 *   status     a message at least every statusMs, also while reading is paused
 *   liveness   nothing heard for a while: ask; no answer: the connection is dead
 *   pool       no buffer free and nothing new durable for 15 s: give the connection up, for a paused reader hangs the
 *              server's shutdown (its pings go unread); the slot keeps the WAL
 */
import type { Clock, Timer } from '../../primitives/clock.ts'
import { WalrxError } from '../../primitives/errors.ts'
import { encodeStandbyStatus, type StandbyStatus, type StartOptions } from '../../postgres/protocol/frames.ts'
import { type Lsn } from '../../postgres/lsn.ts'
import type { ByteSocket } from '../../postgres/protocol/session.ts'
import { type StreamEnd, type WalSink, WalStream } from '../../postgres/protocol/wal-stream.ts'
import type { ReceiveMeter } from '../ports.ts'
import type { SegmentAssembler } from '../segment/segment-assembler.ts'
import type { SegmentPool } from '../segment/segment-pool.ts'
import type { UploadQueue } from '../segment/upload-queue.ts'
import type { StreamTimings } from './stream-timings.ts'
import type { Acknowledger } from './acknowledger.ts'

/** How long the pool may be full without anything becoming durable before the connection is given up. */
export const poolFullMsMax = 15_000

/** How long the server may take to begin: it looks for the slot, and perhaps for a history file. */
const startMsMax = 60_000

/** What a session needs. */
export interface StreamSessionOptions {
  readonly host: string
  readonly socket: ByteSocket
  readonly assembler: SegmentAssembler
  readonly queue: UploadQueue
  readonly pool: SegmentPool
  readonly clock: Clock
  readonly timings: StreamTimings
  readonly meter: ReceiveMeter
  /** Decides what is reported; made for this stream. */
  readonly acknowledger: Acknowledger
  /** Called when the server has begun to stream: it may still lack the WAL. Default nobody. */
  readonly onStarted?: () => void
  /** Called when WAL was taken. */
  readonly onReceived: () => void
  /** Called with the server's end of WAL whenever it is heard. */
  readonly onServerEnd: (serverEnd: Lsn) => void
  /** Called with every flush position that was sent. */
  readonly onReported: (durable: Lsn) => void
  /** Called when the durable end has moved or a buffer came back. */
  readonly onProgress: () => void
}

/** How a session ended without an error. */
export type SessionEnd = StreamEnd | { readonly kind: 'pool full' }

/** See the file's header. */
export class StreamSession implements WalSink {
  readonly #options: StreamSessionOptions
  readonly #stream: WalStream
  readonly #timers = new Map<string, Timer>()
  #lastHeardMs: number
  #askedAtMs: number | undefined
  #lastSentMs = 0
  #pausedSinceMs: number | undefined
  #isPoolFull = false
  #isStopped = false
  #hasSlot = false
  #hasTaken = false
  #deadReason: WalrxError | undefined

  constructor(options: StreamSessionOptions) {
    this.#options = options
    this.#stream = new WalStream(options.socket, options.host, this)
    this.#lastHeardMs = options.clock.now()
  }

  /** True when WAL was taken: the connection is good for something. */
  get hasTaken(): boolean {
    return this.#hasTaken
  }

  /**
   * Streams from `start` until the stream ends. The assembler must have been given the same position.
   * @throws WalrxError: what the server said, what the assembler refused, or WALRX_CONNECTION_LOST
   */
  async run(start: StartOptions): Promise<SessionEnd> {
    const { queue, pool, timings } = this.#options
    this.#hasSlot = start.slot !== undefined
    queue.onDurable(() => this.#onProgress())
    pool.onFree(() => this.#onProgress())
    try {
      // Only the beginning is waited for in this way: afterwards silence is no proof, see checkLiveness.
      this.#after('start', startMsMax, () => this.#giveUp('did not begin to stream', startMsMax))
      this.#stream.start(start)
      await this.#stream.started
      this.#cancel('start')
      this.#options.onStarted?.()
      this.#every('status', timings.statusMs, () => this.#sendStatus())
      this.#every('liveness', timings.probeAfterMs / 2, () => this.#checkLiveness())
      this.#onProgress()
      return await this.#stream.ended
    } catch (error) {
      if (this.#isPoolFull) return { kind: 'pool full' }
      throw this.#deadReason ?? error
    } finally {
      queue.onDurable(() => {})
      pool.onFree(() => {})
      this.#options.acknowledger.close()
      for (const timer of this.#timers.values()) timer.cancel()
      this.#timers.clear()
    }
  }

  /** Stops taking WAL; statuses and pulses go on until {@link close} or {@link destroy}. */
  stopReading(): void {
    this.#isStopped = true
  }

  /** Ends the stream in good order: resolves when the server has read what was reported before, or is gone. */
  async close(): Promise<void> {
    this.#stream.close()
    await this.#stream.ended.catch(() => {})
  }

  /** Sends a status at once. */
  send(status: StandbyStatus): void {
    this.#send([status])
  }

  /** Drops the connection. */
  destroy(): void {
    this.#stream.destroy()
  }

  onWal(lsn: Lsn, bytes: Uint8Array): number {
    const { assembler, clock, meter } = this.#options
    this.#lastHeardMs = clock.now()
    this.#askedAtMs = undefined
    const taken = this.#isStopped ? 0 : assembler.write(lsn, bytes)
    if (taken > 0) {
      this.#hasTaken = true
      this.#options.onReceived()
      this.#acknowledge()
    }
    meter.received(taken)
    if (taken < bytes.length) this.#onPoolFull()
    return taken
  }

  onServerEnd(serverEnd: Lsn, replyRequested: boolean): void {
    const { clock, onServerEnd, timings } = this.#options
    this.#lastHeardMs = clock.now()
    this.#askedAtMs = undefined
    onServerEnd(serverEnd)
    if (!replyRequested) return
    this.#options.acknowledger.asked(serverEnd, this.#options.assembler.nextLsn)
    const wait = this.#lastSentMs + timings.replySpacingMs - clock.now()
    if (wait <= 0) this.#sendStatus()
    else if (!this.#timers.has('reply')) this.#after('reply', wait, () => this.#sendStatus())
  }

  #onPoolFull(): void {
    const now = this.#options.clock.now()
    this.#pausedSinceMs ??= now
    if (!this.#isStopped && !this.#timers.has('pool')) {
      this.#after('pool', poolFullMsMax, () => {
        this.#isPoolFull = true
        this.#stream.destroy()
      })
    }
  }

  /** Something became durable, or a buffer came back. */
  #onProgress(): void {
    this.#acknowledge()
    const { pool, clock, meter, onProgress } = this.#options
    onProgress()
    if (!this.#stream.paused || pool.free === 0 || this.#isStopped) return
    if (this.#pausedSinceMs !== undefined) meter.poolFull(clock.now() - this.#pausedSinceMs)
    this.#pausedSinceMs = undefined
    this.#cancel('pool')
    // While paused, silence says nothing about the server.
    this.#lastHeardMs = clock.now()
    this.#stream.resume()
  }

  /** Reports that the durable run has advanced, and gives a full pool another 15 s. */
  #acknowledge(): void {
    const { acknowledger, assembler, meter, onReported } = this.#options
    const news = acknowledger.progress(assembler.nextLsn)
    if (!news) return
    // Without a slot a flush position moves nothing, it would only make us a candidate for synchronous replication.
    if (this.#hasSlot) {
      // Before the copy has begun nothing can be sent: run() comes here again.
      if (!this.#send(news.statuses)) return
      meter.flushed(news.durable)
      onReported(news.durable)
    }
    acknowledger.sent(news)
    if (this.#timers.has('pool')) {
      this.#cancel('pool')
      this.#onPoolFull()
    }
  }

  #sendStatus(replyRequested = false): void {
    const { acknowledger, assembler } = this.#options
    this.#send([{ ...acknowledger.status(assembler.nextLsn), replyRequested }])
  }

  /** Returns false when no stream flows. */
  #send(statuses: readonly StandbyStatus[]): boolean {
    const now = this.#options.clock.now()
    this.#lastSentMs = now
    return this.#stream.send(encodeStandbyStatus(statuses, now))
  }

  #checkLiveness(): void {
    const { clock, timings } = this.#options
    if (this.#stream.paused) return
    const now = clock.now()
    if (this.#askedAtMs !== undefined) {
      if (now - this.#askedAtMs >= timings.deadAfterMs) this.#giveUp('did not answer', now - this.#lastHeardMs)
    } else if (now - this.#lastHeardMs >= timings.probeAfterMs) {
      this.#askedAtMs = now
      this.#sendStatus(true)
    }
  }

  #giveUp(what: string, ms: number): void {
    const seconds = Math.round(ms / 1000)
    this.#deadReason = new WalrxError('WALRX_CONNECTION_LOST', `${this.#options.host} ${what} for ${seconds} s`)
    this.#stream.destroy()
  }

  #after(name: string, ms: number, fire: () => void): void {
    this.#timers.set(
      name,
      this.#options.clock.setTimer(ms, () => {
        this.#timers.delete(name)
        fire()
      }),
    )
  }

  #every(name: string, ms: number, fire: () => void): void {
    this.#after(name, ms, () => {
      this.#every(name, ms, fire)
      fire()
    })
  }

  #cancel(name: string): void {
    this.#timers.get(name)?.cancel()
    this.#timers.delete(name)
  }
}
