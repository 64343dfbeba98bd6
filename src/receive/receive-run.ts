/**
 * The memory between connections: pool, assembler and upload queue, and the rules by which one run of contiguous WAL
 * is continued, settled, and followed by the next.
 *
 * A run is contiguous WAL on one timeline. While the server's history still holds our timeline up to the last byte
 * that we hold, a new connection continues it: the unfinished segment stays in its buffer, the stream starts again at
 * that segment's first byte and the repeated bytes are compared. Otherwise the run is settled: the unfinished segment
 * goes to the archive as `.partial`, all uploads finish, and only then does the next run begin, on the timeline that
 * the server names, at the segment in which it forked off. So bytes behind a fork stay on the timeline they were
 * received on, and nothing of one run can be taken for another's.
 */
import { availableParallelism } from 'node:os'
import type { Clock } from '../primitives/clock.ts'
import { WalrxError } from '../primitives/errors.ts'
import { orAborted } from '../primitives/wait.ts'
import type { Logger } from '../observe/log.ts'
import { bytesBetween, formatLsn, type Lsn, segmentStart, type Timeline } from '../postgres/lsn.ts'
import { checkSegment, walMagic } from '../postgres/wal-page.ts'
import { segmentNameAt } from '../postgres/wal-file.ts'
import { ByteArena } from './byte-arena.ts'
import { defaultMemoryBytes, planMemory } from './memory-budget.ts'
import type { ReceiveArchive, ReceiveMeter } from './ports.ts'
import type { PreparedSource } from './prepared-source.ts'
import { type ReceivedSegment, SegmentAssembler } from './segment-assembler.ts'
import { SegmentPool } from './segment-pool.ts'
import { planStart, type StartPosition } from './start-position.ts'
import { UploadQueue, uploadWindow } from './upload-queue.ts'

/** What a run needs, beside the first server it is for. */
export interface ReceiveRunOptions {
  readonly archive: ReceiveArchive
  readonly clock: Clock
  /** Random number in [0, 1) for back-off jitter. */
  readonly random: () => number
  readonly log: Logger
  readonly meter: ReceiveMeter
  /** Bytes for WAL in memory; undefined for the default. */
  readonly memoryBytes: number | undefined
  readonly uploadConcurrency: number
}

/** See the file's header. */
export class ReceiveRun {
  readonly pool: SegmentPool
  readonly assembler: SegmentAssembler
  readonly queue: UploadQueue
  readonly #options: ReceiveRunOptions
  readonly #segmentSize: number
  readonly #systemId: bigint
  /** XLOG_PAGE_MAGIC of the server we stream from; it may be upgraded between two connections. */
  #magic: number | undefined
  /** True while assembler and queue hold a run that a reconnection may continue. */
  #isOpen = false
  /** After a run was settled: all WAL of this timeline's history up to `lsn` is in the archive. */
  #settled: { readonly timeline: Timeline; readonly lsn: Lsn } | undefined
  /** Where to go on if the server lacks WAL at the present start. */
  #fallback: StartPosition | undefined
  /** Where the next run begins behind a gap. */
  #behindGap: StartPosition | undefined

  /** Makes the pool for this server's segment size. Throws WALRX_USAGE when the memory does not hold two segments. */
  constructor(options: ReceiveRunOptions, source: PreparedSource) {
    const { archive, clock, log, memoryBytes, meter, random, uploadConcurrency } = options
    const { segmentSize, systemId } = source
    const budget = planMemory(memoryBytes ?? defaultMemoryBytes(segmentSize), segmentSize)
    this.#options = options
    this.#segmentSize = segmentSize
    this.#systemId = systemId
    this.pool = new SegmentPool(segmentSize, budget.buffers)
    this.queue = new UploadQueue({
      archive,
      pool: this.pool,
      arena: new ByteArena(budget.compactedBytesMax),
      uploadsMax: uploadConcurrency,
      encodersMax: Math.min(4, availableParallelism()),
      clock,
      random,
      log,
      meter,
      check: (segment, name) => this.#check(segment, name),
    })
    this.assembler = new SegmentAssembler(this.pool, (segment) => this.queue.pushSegment(segment))
  }

  /** True when all WAL up to `lsn` is durable. */
  isDurable(lsn: Lsn): boolean {
    return this.#isOpen && this.queue.durableLsn >= lsn
  }

  /** True when WAL that the server no longer has can be skipped, as a reported gap. */
  get hasFallback(): boolean {
    return this.#fallback !== undefined
  }

  /**
   * Where to stream from on this server: the present run goes on where that is right, or it is settled and the next
   * one begins. The assembler is ready for the answer.
   * @throws WALRX_SOURCE_BEHIND for a server on an older timeline, the signal's reason, and what the archive says
   */
  async begin(source: PreparedSource, signal: AbortSignal): Promise<StartPosition> {
    const { log } = this.#options
    if (source.segmentSize !== this.#segmentSize) {
      throw new WalrxError(
        'WALRX_OTHER_CLUSTER',
        `wal_segment_size was ${this.#segmentSize} and is now ${source.segmentSize} on ${source.session.host}`,
      )
    }
    this.#magic = walMagic(source.session.serverVersion)
    let start = { timeline: this.assembler.timeline, startLsn: this.assembler.segmentStart }
    if (!this.#isOpen || !this.#mayContinue(source)) {
      await this.settle(signal)
      start = this.#behindGap ?? this.#afterSettled(source) ?? (await this.#plan(source, signal))
      const first = segmentNameAt(start.timeline, start.startLsn, this.#segmentSize)
      await this.#options.archive.lookAhead(first, { signal })
      this.#behindGap = undefined
      this.queue.startRun(start.startLsn)
      this.#isOpen = true
    }
    this.assembler.begin(start.timeline, start.startLsn)
    log.info('streaming', { ...describe(start), host: source.session.host })
    return start
  }

  /**
   * Ends the present run: the unfinished segment becomes a `.partial`, and everything is durable when this returns.
   * @throws the signal's reason, or what made an upload fail for good
   */
  async settle(signal: AbortSignal): Promise<void> {
    if (this.#isOpen) {
      const { timeline, heldEnd } = this.assembler
      const partial = this.assembler.takePartial()
      if (partial) this.queue.pushPartial(partial)
      this.#settled = { timeline, lsn: heldEnd }
      this.#isOpen = false
    }
    await orAborted(this.queue.drained(), signal)
  }

  /**
   * The server said that the timeline ended at `switchpoint`: settles the run, reporting bytes that were received
   * behind it.
   */
  async endTimeline(nextTimeline: Timeline, switchpoint: Lsn, signal: AbortSignal): Promise<void> {
    const { log } = this.#options
    const { timeline, heldEnd } = this.assembler
    log.warn('the timeline ended', { timeline, nextTimeline, switchpoint: formatLsn(switchpoint) })
    if (heldEnd > switchpoint) this.#reportPastFork(switchpoint, nextTimeline)
    await this.settle(signal)
  }

  /**
   * The server no longer has WAL at our position. With a fallback the gap is reported and the next run begins there;
   * without one the next run is planned anew.
   * @returns true when there is a place to go on at once
   */
  async skipRemoved(signal: AbortSignal): Promise<boolean> {
    const { log, meter } = this.#options
    const from = this.assembler.nextLsn
    await this.settle(signal)
    this.#settled = undefined
    const behind = this.#fallback
    this.#fallback = undefined
    if (!behind) return false
    this.#behindGap = behind
    meter.gap(from, behind.startLsn)
    log.error('WAL is gone from the server: the archive has a gap, take a new base backup', {
      from: formatLsn(from),
      to: formatLsn(behind.startLsn),
    })
    return true
  }

  /** Resolves when half of the buffers are free again: coming back for one would only close the connection again. */
  async halfFree(): Promise<void> {
    while (this.pool.free < Math.ceil(this.pool.capacity / 2)) {
      await new Promise<void>((resolve) => this.pool.onFree(resolve))
    }
  }

  #check({ buffer, timeline, startLsn }: ReceivedSegment, name: string): void {
    const expected = { name, timeline, startLsn, segmentSize: this.#segmentSize }
    checkSegment(buffer, { ...expected, systemId: this.#systemId, magic: this.#magic })
  }

  /** True when the server's history holds our timeline at least up to the last byte that we hold. */
  #mayContinue({ chain, session }: PreparedSource): boolean {
    const { assembler } = this
    const link = chain.link(assembler.timeline)
    if (!link && chain.newest.timeline < assembler.timeline) {
      throw new WalrxError(
        'WALRX_SOURCE_BEHIND',
        `${session.host} is on timeline ${chain.newest.timeline}, WAL of timeline ${assembler.timeline} was already received`,
        { hint: 'this is probably a former primary: give the address of the present one' },
      )
    }
    if (link && (link.end === undefined || assembler.heldEnd <= link.end)) return true
    this.#reportPastFork(link?.end, chain.newest.timeline)
    return false
  }

  #reportPastFork(forkedAt: Lsn | undefined, newTimeline: Timeline): void {
    const { log, meter } = this.#options
    const { timeline, heldEnd } = this.assembler
    if (forkedAt !== undefined) meter.pastFork(bytesBetween(forkedAt, heldEnd))
    log.warn('WAL was received past the end of its timeline; it is kept on that timeline', {
      timeline,
      forkedAt: forkedAt === undefined ? undefined : formatLsn(forkedAt),
      receivedUpTo: formatLsn(heldEnd),
      newTimeline,
    })
  }

  /** Where the server's history goes on after what was settled; undefined when it doesn't know that timeline. */
  #afterSettled({ chain }: PreparedSource): StartPosition | undefined {
    if (!this.#settled) return undefined
    const { timeline, lsn } = this.#settled
    const link = chain.link(timeline)
    if (!link) return undefined
    const next = link.end !== undefined && link.end <= lsn ? chain.after(timeline) : undefined
    if (next) return { timeline: next.timeline, startLsn: segmentStart(next.begin, this.#segmentSize) }
    return { timeline, startLsn: segmentStart(lsn, this.#segmentSize) }
  }

  async #plan(source: PreparedSource, signal: AbortSignal): Promise<StartPosition> {
    const { archive, log, uploadConcurrency } = this.#options
    const plan = await planStart({ ...source, holeWindow: uploadWindow(uploadConcurrency) }, archive, signal)
    const fallback = plan.fallback && describe(plan.fallback)
    log.info('start position chosen', { ...describe(plan), reason: plan.reason, fallback })
    this.#fallback = plan.fallback
    return plan
  }
}

function describe(position: StartPosition): { timeline: Timeline; startLsn: string } {
  return { timeline: position.timeline, startLsn: formatLsn(position.startLsn) }
}
