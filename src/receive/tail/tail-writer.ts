/**
 * Sends the tail to the archive: the segment that is filling, chunk by chunk, before it is whole.
 *
 * Two paces. By interval: at most once per interval one chunk, from the base of the open part on, so that each replaces
 * the one before; when it has grown to `bytesMax` the base moves on. So a segment that takes hours has no more chunks
 * than a busy one. Synchronous: what is new goes at once, in several puts at a time, which start spread over the time
 * that one takes; one put covers all that has arrived before it began. When many small ones have gathered, one
 * chunk takes their place.
 *
 * The bytes are copied out of the segment's buffer, for the whole segment is compressed inside it.
 */
import type { Logger } from '../../observe/log.ts'
import { addBytes, formatLsn, type Lsn } from '../../postgres/lsn.ts'
import { segmentNameAt } from '../../postgres/wal/wal-file.ts'
import type { Clock, Timer } from '../../primitives/clock.ts'
import { hasCode, toWalrxError, type WalrxError } from '../../primitives/errors.ts'
import { orAborted } from '../../primitives/wait.ts'
import type { ReceiveMeter, TailSink } from '../ports.ts'
import type { ReceivedSegment, SegmentAssembler } from '../segment/segment-assembler.ts'
import { untilStored } from '../until-stored.ts'
import { ChunkBuffers } from './chunk-buffers.ts'
import { TailHoles } from './tail-holes.ts'
import { TailRemoval } from './tail-removal.ts'
import { buffersAtMost, lanesOf, spacingOfPuts, type TailPace } from './tail-pace.ts'
import { type SentChunk, SentChunks, type TailSegment } from './sent-chunks.ts'

/** What the writer needs. */
export interface TailWriterOptions {
  readonly archive: TailSink
  readonly assembler: SegmentAssembler
  readonly segmentSize: number
  readonly pace: TailPace
  readonly clock: Clock
  readonly random: () => number
  readonly log: Logger
  readonly meter: ReceiveMeter
  /** End of the unbroken run of whole segments that are durable. */
  readonly durableSegments: () => Lsn
  /** Called when a chunk has become durable. */
  readonly onDurable: () => void
  /** Called with a contradiction between archive and server, which ends the receiver. */
  readonly onConflict: (error: WalrxError) => void
}

/** So many small chunks are merged into one, */
const mergeAfter = 32
/** and so many are not worth it when they fill a whole one: then the base moves on past them. */
const fewChunks = 4

/** See the file's header. */
export class TailWriter {
  readonly #options: TailWriterOptions
  readonly #chunks: SentChunks
  readonly #removal: TailRemoval
  readonly #buffers: ChunkBuffers
  readonly #holes = new TailHoles()
  readonly #abort = new AbortController()
  /** Offset in the present segment up to which chunks have been begun, and where the next merged one begins. */
  #sent = 0
  #base = 0
  /** Small chunks since the base. */
  #small = 0
  #isMerging = false
  #isKicked = false
  #timer: Timer | undefined
  #lastStartMs = -Infinity
  /** How long a put takes, smoothed. */
  #putMs = 0
  /** True when the interval has passed and what is new goes as soon as a buffer is free. */
  #isDue = false
  #waiters: (() => void)[] = []
  /** Settle when chunks that are not needed any more have been handed over for their removal. */
  readonly #removals = new Set<Promise<void>>()

  constructor(options: TailWriterOptions) {
    this.#options = options
    this.#chunks = new SentChunks(options.segmentSize)
    this.#removal = new TailRemoval(options)
    this.#buffers = new ChunkBuffers(options.pace.bytesMax)
  }

  /** True when chunks are written. */
  get isOn(): boolean {
    const { intervalMs, isSynchronous } = this.#options.pace
    return intervalMs > 0 || isSynchronous
  }

  /** End of what is durable without a hole, in whole segments and chunks. */
  get durableLsn(): Lsn {
    return this.#chunks.durableFrom(this.#options.durableSegments())
  }

  /**
   * A run begins: with `held` bytes of its first segment that are in the archive already, in the chunks `keys`.
   */
  begin(held: number, keys: readonly string[]): void {
    const { assembler, segmentSize } = this.#options
    this.#chunks.clearWhole()
    this.#holes.clear()
    this.#sent = held
    this.#base = held
    this.#small = 0
    if (keys.length === 0) return
    const startLsn = assembler.segmentStart
    const segment = this.#chunks.segment(startLsn, segmentNameAt(assembler.timeline, startLsn, segmentSize))
    segment.keys = [...keys]
    const over = Promise.resolve()
    const chunk = { key: keys[0] ?? '', from: 0, to: held, isDurable: true, abort: new AbortController(), over }
    if (held > 0) this.#chunks.add(segment, chunk)
  }

  /** WAL has arrived. */
  kick(): void {
    if (this.#isKicked || !this.isOn || this.#abort.signal.aborted) return
    this.#isKicked = true
    // After all messages that came with the same read.
    queueMicrotask(() => {
      this.#isKicked = false
      this.#consider()
    })
  }

  /** A segment is whole, and about to be compressed inside its buffer. */
  completed(segment: ReceivedSegment): void {
    const { pace } = this.#options
    const rest = segment.length - this.#sent
    const { length: all } = segment
    if (pace.isSynchronous && rest > 0 && rest <= pace.bytesMax && this.#buffers.lent < buffersAtMost(pace)) {
      this.#launch(segment, this.#sent, all)
    }
    this.#sent = 0
    this.#base = 0
    this.#small = 0
  }

  /** The segment that begins at `startLsn` is durable as a whole, or as a partial: its chunks go. */
  archived(startLsn: Lsn): void {
    const { assembler, durableSegments } = this.#options
    // A partial is what is left of the present one.
    if (startLsn < assembler.segmentStart) this.#chunks.addWhole(startLsn, durableSegments())
    const segment = this.#chunks.take(startLsn)
    if (this.#holes.fill(startLsn, 0, Infinity)) this.#wake()
    if (!segment) return
    for (const chunk of segment.chunks) chunk.abort.abort()
    const overs = segment.chunks.map(({ over }) => over)
    const keys = [...new Set([...segment.keys, ...segment.chunks.map(({ key }) => key)])]
    const removal = Promise.all(overs).then(() => {
      this.#removal.remove(keys)
      this.#removals.delete(removal)
    })
    this.#removals.add(removal)
  }

  /**
   * Sends all that was received, and resolves when it is durable.
   * @throws the reason of the first signal that aborts; why a chunk could not be stored, when no other attempt is made
   */
  flush(...signals: readonly AbortSignal[]): Promise<void> {
    return this.isOn ? orAborted(this.#flush(), ...signals, this.#abort.signal) : Promise.resolve()
  }

  async #flush(): Promise<void> {
    while (!this.#abort.signal.aborted) {
      this.#isDue = true
      this.#send()
      // Others are in segments that are whole: those are on their way.
      const failure = this.#holes.failureIn(this.#options.assembler.segmentStart)
      if (failure) throw failure
      const isSent = this.#sent >= this.#held
      if (
        isSent &&
        this.#holes.isEmpty &&
        this.#chunks.segments.every(({ chunks }) => chunks.every(({ isDurable }) => isDurable))
      )
        return
      await new Promise<void>((resolve) => this.#waiters.push(resolve))
    }
  }

  /**
   * The run is over: its chunks are left as they are unless {@link archived} was called for them. Those are gone when
   * this returns, for the next run counts on what it finds.
   */
  async settle(): Promise<void> {
    this.#timer?.cancel()
    this.#timer = undefined
    const chunks = this.#chunks.segments.flatMap((segment) => this.#chunks.take(segment.startLsn)?.chunks ?? [])
    for (const { abort } of chunks) abort.abort()
    await Promise.all(chunks.map(({ over }) => over))
    await Promise.all(this.#removals)
    await this.#removal.idle()
  }

  /** Ends everything at once. */
  destroy(): void {
    this.#timer?.cancel()
    this.#abort.abort()
    this.#removal.destroy()
    for (const { chunks } of this.#chunks.segments) for (const { abort } of chunks) abort.abort()
    this.#wake()
  }

  get #held(): number {
    const { assembler } = this.#options
    return Number(assembler.heldEnd - assembler.segmentStart)
  }

  /** Sends, or sets the timer for when it is time. */
  #consider(): void {
    if (this.#abort.signal.aborted || this.#held <= this.#sent) return
    const { clock, pace } = this.#options
    const spacingMs = this.#buffers.lent === 0 && pace.isSynchronous ? 0 : spacingOfPuts(pace, this.#putMs)
    const waitMs = this.#lastStartMs + spacingMs - clock.now()
    if (waitMs <= 0) {
      this.#isDue = true
      this.#send()
    } else {
      this.#timer ??= clock.setTimer(waitMs, () => {
        this.#timer = undefined
        this.#consider()
      })
    }
  }

  /** Begins as many chunks as there is something for, and room. */
  #send(): void {
    const { assembler, clock, pace } = this.#options
    while (this.#isDue && this.#buffers.lent < lanesOf(pace) && this.#held > this.#sent) {
      const from = pace.isSynchronous ? this.#sent : this.#base
      const to = Math.min(this.#held, from + pace.bytesMax)
      this.#lastStartMs = clock.now()
      this.#launch({ ...assembler.held }, from, to)
      this.#sent = to
      if (pace.isSynchronous) this.#small++
      if (to - this.#base >= pace.bytesMax && (from === this.#base || this.#small <= fewChunks)) {
        this.#base = to
        this.#small = 0
      }
    }
    if (this.#held <= this.#sent) this.#isDue = false
    this.#mergeSmall()
  }

  /** Puts one chunk in the place of many small ones. */
  #mergeSmall(): void {
    const { assembler, pace } = this.#options
    const full = this.#base + pace.bytesMax
    if (this.#small < mergeAfter && this.#sent < full) return
    if (!pace.isSynchronous || this.#isMerging || this.#buffers.lent >= buffersAtMost(pace) - 1) return
    const { startLsn } = assembler.held
    const durable = Number(this.durableLsn - startLsn)
    const to = Math.min(durable, full)
    if (to <= this.#base || to > this.#held || (to < full && this.#small < mergeAfter)) return
    this.#isMerging = true
    this.#small = 0
    const chunk = this.#launch({ ...assembler.held }, this.#base, to)
    if (to - this.#base >= pace.bytesMax) this.#base = to
    void chunk.over.then(() => (this.#isMerging = false))
  }

  #launch(segment: ReceivedSegment, from: number, to: number): SentChunk {
    const { archive, segmentSize } = this.#options
    const name = segmentNameAt(segment.timeline, segment.startLsn, segmentSize)
    const buffer = this.#buffers.take()
    segment.buffer.copy(buffer, 0, from, to)
    const tail = this.#chunks.segment(segment.startLsn, name)
    const key = archive.tailKey(name, { from, to })
    const known = tail.chunks.find((chunk) => chunk.key === key && chunk.isDurable)
    const chunk: SentChunk = {
      key,
      from,
      to,
      isDurable: known !== undefined,
      abort: new AbortController(),
      over: Promise.resolve(),
    }
    if (!known) this.#chunks.add(tail, chunk)
    const work = known ? Promise.resolve() : this.#store(tail, chunk, buffer)
    chunk.over = work.finally(() => {
      this.#buffers.give(buffer)
      this.#send()
      this.#consider()
      this.#wake()
    })
    return chunk
  }

  /** Compresses and puts a chunk, as often as it takes. Never rejects. */
  async #store(tail: TailSegment, chunk: SentChunk, buffer: Buffer): Promise<void> {
    const { archive, clock, log, meter, random } = this.#options
    const { signal } = chunk.abort
    let startedMs = 0
    try {
      const length = await archive.encodeInPlace(buffer, chunk.to - chunk.from)
      const put = () => {
        startedMs = clock.now()
        return archive.putTailChunk(tail.name, chunk, buffer.subarray(0, length), { signal })
      }
      await untilStored(put, {
        clock,
        random,
        firstMs: 100,
        maxMs: 5_000,
        signal,
        onFailure: (error, attempt) => {
          meter.uploadFailed()
          if (attempt === 1) log.warn('could not store a chunk, trying again', { file: chunk.key, error })
        },
      })
      const durationMs = clock.now() - startedMs
      this.#putMs = this.#putMs === 0 ? durationMs : this.#putMs * 0.8 + durationMs * 0.2
      meter.tailStored(length, durationMs)
    } catch (error) {
      if (!signal.aborted) this.#failed(tail, chunk, error)
      return
    }
    if (signal.aborted) return
    chunk.isDurable = true
    if (this.#holes.fill(tail.startLsn, chunk.from, chunk.to)) this.#wake()
    const covered = this.#chunks.takeCovered(tail, chunk)
    if (covered.length > 0) this.#removal.remove(covered)
    const { startLsn } = tail
    log.debug('stored', { file: chunk.key, upTo: formatLsn(addBytes(startLsn, chunk.to)) })
    this.#options.onDurable()
  }

  #failed(tail: TailSegment, chunk: SentChunk, error: unknown): void {
    const failure = toWalrxError(error)
    tail.chunks = tail.chunks.filter((one) => one !== chunk)
    if (hasCode(error, 'WALRX_ARCHIVE_CONFLICT')) return this.#options.onConflict(failure)
    this.#holes.add({ startLsn: tail.startLsn, from: chunk.from, to: chunk.to, failure })
    this.#options.log.error('a chunk could not be stored', { file: chunk.key, error: failure })
  }

  #wake(): void {
    for (const wake of this.#waiters.splice(0)) wake()
  }
}
