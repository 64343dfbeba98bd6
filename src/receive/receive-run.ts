/**
 * The memory between connections: pool, assembler and upload queue, and the rules by which one run of contiguous WAL
 * is continued, settled, and followed by the next.
 *
 * A run is contiguous WAL on one timeline. While the server's history still holds our timeline up to the last byte
 * that we hold, a new connection continues it: the unfinished segment stays in its buffer, the stream starts again at
 * that segment's first byte and the repeated bytes are compared. Otherwise the run is settled: the unfinished segment
 * goes to the archive as `.partial`, all uploads finish, and only then does the next run begin, on the timeline that
 * the server names, at the segment in which it forked off. So bytes beyond a fork stay on the timeline they were
 * received on, and nothing of one run is taken for another's.
 */
import { availableParallelism } from 'node:os'
import type { Clock } from '../primitives/clock.ts'
import { WalrxError } from '../primitives/errors.ts'
import { orAborted } from '../primitives/wait.ts'
import type { Logger } from '../observe/log.ts'
import type { ReplicationServer } from '../postgres/protocol/session.ts'
import { bytesBetween, formatLsn, invalidLsn, type Lsn, minLsn, segmentStart, type Timeline } from '../postgres/lsn.ts'
import { walMagic } from '../postgres/wal/wal-page.ts'
import { segmentNameAt } from '../postgres/wal/wal-file.ts'
import type { GapRecord } from '../walg/wal/gap-records.ts'
import { SegmentArchiver, type SegmentObserver } from '../walg/wal/segment-archiver.ts'
import { ArrivalTimes } from './stream/arrival-times.ts'
import { ByteArena } from './segment/byte-arena.ts'
import { MemoryShare } from './memory-budget.ts'
import { GapRecorder } from './gap/gap-recorder.ts'
import { MissingWal } from './gap/missing-wal.ts'
import { WalLevelWatch } from './gap/wal-level-watch.ts'
import type { ReceiveArchive, ReceiveMeter } from './ports.ts'
import type { PreparedSource } from './source/prepared-source.ts'
import { SegmentAssembler } from './segment/segment-assembler.ts'
import { SegmentPool } from './segment/segment-pool.ts'
import { StartPlanner } from './source/start-planner.ts'
import { comparePosition, type StartPosition } from './source/start-position.ts'
import { tailMemory, type TailPace } from './tail/tail-pace.ts'
import { TailWriter } from './tail/tail-writer.ts'
import { clearTails, finaliseTails, preloadTail } from './tail/leftover-tails.ts'
import { holeWindow, UploadQueue } from './segment/upload-queue.ts'

/** What a run needs, beside the first server it is for. */
export interface ReceiveRunOptions {
  readonly archive: ReceiveArchive
  readonly clock: Clock
  /** Random number in [0, 1) for back-off jitter. */
  readonly random: () => number
  readonly log: Logger
  readonly meter: ReceiveMeter
  /** Bytes for WAL in memory; undefined for the default. `memory` is the same where it may change while WAL streams. */
  readonly memoryBytes: number | undefined
  readonly memory?: MemoryShare
  readonly uploadConcurrency: number
  /** Undefined streams without a slot. */
  readonly slot?: string | undefined
  /** Called with every gap that is recorded. */
  readonly onGap?: ((gap: GapRecord) => void) | undefined
  /** Looks at every whole segment before it is compressed, whichever way it takes into the archive; default nobody. */
  readonly onSegment?: SegmentObserver | undefined
  /** When the tail is sent. */
  readonly tailPace: TailPace
  /** Every host, standbys included, to repair gaps from; default none: there is only one. */
  readonly everyHost?: ReplicationServer | undefined
}

/** See the file's header. */
export class ReceiveRun {
  readonly pool: SegmentPool
  readonly assembler: SegmentAssembler
  readonly queue: UploadQueue
  readonly tails: TailWriter
  readonly arrivals: ArrivalTimes
  readonly gaps: GapRecorder
  readonly #planner: StartPlanner
  readonly #missing: MissingWal
  readonly #walLevel: WalLevelWatch
  readonly #options: ReceiveRunOptions
  readonly #segmentSize: number
  readonly #segments: SegmentArchiver
  /** XLOG_PAGE_MAGIC of the server we stream from; it may be upgraded between two connections. */
  #magic: number | undefined
  /** True while assembler and queue hold a run that a reconnection may continue. */
  #isOpen = false
  /** The highest flush position that was reported in the present run; invalid before the first time. */
  #reportedLsn: Lsn = invalidLsn
  /** The newest timeline that any server knew: one that knows less is a former primary, or lags. */
  #newestTimeline: Timeline = 0
  /** The server that the run was last begun on. */
  #source: PreparedSource | undefined

  /** Makes the pool for this server's segment size. Throws WALRX_USAGE when the memory does not hold two segments. */
  constructor(options: ReceiveRunOptions, source: PreparedSource) {
    const { archive, clock, log, memoryBytes, meter, random, uploadConcurrency } = options
    const { segmentSize, systemId } = source
    const memory = options.memory ?? new MemoryShare(memoryBytes)
    const budget = memory.plan(segmentSize, tailMemory(options.tailPace))
    this.#options = options
    this.#segmentSize = segmentSize
    this.gaps = new GapRecorder({ ...options, segmentSize, slot: options.slot, onGap: options.onGap })
    this.#walLevel = new WalLevelWatch(this.gaps)
    const observed = { ...options, ...this.#walLevel.observers(options.onSegment) }
    this.#segments = new SegmentArchiver({ ...observed, segmentSize, systemId, magic: () => this.#magic })
    this.pool = new SegmentPool(segmentSize, budget.buffers)
    const arena = new ByteArena(budget.compactedBytesMax)
    memory.holds(this.pool, arena)
    this.queue = new UploadQueue({
      archive,
      pool: this.pool,
      arena,
      uploadsMax: uploadConcurrency,
      encodersMax: Math.min(4, availableParallelism()),
      clock,
      random,
      log,
      meter,
      segments: this.#segments,
      onArchived: ({ isKept, startLsn }) => isKept && this.tails.archived(startLsn),
    })
    this.assembler = new SegmentAssembler(this.pool, (segment) => {
      this.tails.completed(segment)
      this.queue.pushSegment(segment)
    })
    this.arrivals = new ArrivalTimes(clock)
    this.#planner = new StartPlanner({ archive, log, holeWindow: holeWindow(uploadConcurrency) })
    this.#missing = new MissingWal({ ...observed, gaps: this.gaps, pool: this.pool })
    this.tails = new TailWriter({
      archive,
      assembler: this.assembler,
      segmentSize,
      pace: options.tailPace,
      clock,
      random,
      log,
      meter,
      durableSegments: () => this.queue.durableLsn,
      onDurable: () => this.queue.announce(),
      onConflict: (error) => this.queue.fail(error),
    })
  }

  /** End of what this server has sent and is durable without a hole, chunks included. */
  get durableLsn(): Lsn {
    return minLsn(this.tails.durableLsn, this.assembler.nextLsn)
  }

  /** WAL has arrived. */
  noteReceived(): void {
    this.#missing.isOver()
    this.arrivals.note(this.assembler.nextLsn)
    this.tails.kick()
  }

  /** True when all WAL up to `lsn` is durable. */
  isDurable(lsn: Lsn): boolean {
    return this.#isOpen && this.durableLsn >= lsn
  }

  /** Ends everything at once. */
  destroy(): void {
    this.tails.destroy()
    this.queue.destroy()
    this.#walLevel.destroy()
  }

  /** The newest timeline that any server knew. */
  get newestTimeline(): Timeline {
    return this.#newestTimeline
  }

  /** True when WAL that the server no longer has can be skipped, as a reported gap. */
  get hasFallback(): boolean {
    return this.#planner.fallbackAfter(this.assembler.segmentStart) !== undefined
  }

  /** The server that the run was last begun on; undefined before the first time. */
  get host(): string | undefined {
    return this.#source?.session.host
  }

  /** True when the slot's position was read on the server that the run was last begun on. */
  get hasReadSlot(): boolean {
    return this.#source?.slotRestart !== undefined
  }

  /** True where WAL that is gone should have been kept by the slot; also where the slot's position cannot be read. */
  get isSlotUseless(): boolean {
    if (this.#options.slot === undefined) return false
    const slotRestart = this.#source?.slotRestart
    return slotRestart === undefined || segmentStart(slotRestart, this.#segmentSize) <= this.assembler.nextLsn
  }

  /** The flush position `lsn` was reported to a server. */
  noteReported(lsn: Lsn): void {
    this.gaps.slotMoved()
    this.#reportedLsn = lsn
  }

  /**
   * Where to stream from on this server: the present run goes on where that is right, or it is settled and the next
   * one begins. The assembler is ready for the answer.
   * @throws the signal's reason, and what the archive says
   */
  async begin(source: PreparedSource, signal: AbortSignal): Promise<StartPosition> {
    const { log } = this.#options
    if (source.segmentSize !== this.#segmentSize) {
      throw new WalrxError(
        'WALRX_OTHER_CLUSTER',
        `wal_segment_size was ${this.#segmentSize} and is now ${source.segmentSize} on ${source.session.host}`,
        { hint: 'after pg_resetwal --wal-segsize, use a new prefix and take a full backup; otherwise check the hosts' },
      )
    }
    this.#newestTimeline = Math.max(this.#newestTimeline, source.chain.newest.timeline)
    this.#source = source
    this.gaps.connected(source)
    this.#walLevel.connected(source)
    this.#magic = walMagic(source.session.serverVersion)
    let start = { timeline: this.assembler.timeline, startLsn: this.assembler.segmentStart }
    if (this.#isOpen && this.#hasGoneBack(source)) {
      await this.restart(signal)
      this.#planner.resumeAt(comparePosition(source, this.queue.durableLsn))
    }
    if (!this.#isOpen || !this.#mayContinue(source)) {
      await this.settle(signal)
      await finaliseTails({
        ...this.#options,
        pool: this.pool,
        segments: this.#segments,
        signal,
      })
      const chosen = await this.#planner.choose(source, signal)
      start = await this.#missing.fillBefore(source, chosen, signal)
      if (start !== chosen) this.#planner.resumeAt(start, chosen)
      const first = segmentNameAt(start.timeline, start.startLsn, this.#segmentSize)
      await this.#options.archive.lookAhead(first, { signal })
      this.#planner.begun()
      const { archive } = this.#options
      const found = await preloadTail({ ...start, archive, pool: this.pool, assembler: this.assembler, log, signal })
      this.queue.startRun(start.startLsn)
      this.assembler.begin(start.timeline, start.startLsn)
      this.tails.begin(found.length, found.keys)
      this.arrivals.clear()
      this.#reportedLsn = invalidLsn
      this.#isOpen = true
      clearTails({ archive, log, signal: this.queue.failed })
    } else this.assembler.begin(start.timeline, start.startLsn)
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
      this.#planner.settledAt({ timeline, lsn: heldEnd })
      this.#isOpen = false
    }
    await orAborted(this.queue.drained(), signal)
    await orAborted(this.tails.settle(), signal)
  }

  /** Settles, and forgets where the run ended: the next one is planned from slot and archive, and compares what is there. */
  async restart(signal: AbortSignal): Promise<void> {
    await this.settle(signal)
    this.#planner.forget()
  }

  /**
   * The server said that the timeline ended at `switchpoint`: settles the run, and reports bytes that were received
   * beyond it.
   */
  async endTimeline(nextTimeline: Timeline, switchpoint: Lsn, signal: AbortSignal): Promise<void> {
    const { log } = this.#options
    const { timeline, heldEnd } = this.assembler
    this.#newestTimeline = Math.max(this.#newestTimeline, nextTimeline)
    log.warn('the timeline ended', { timeline, nextTimeline, switchpoint: formatLsn(switchpoint) })
    if (heldEnd > switchpoint) this.#reportPastFork(switchpoint, nextTimeline)
    await this.settle(signal)
  }

  /**
   * The server no longer has WAL at our position. With a fallback the next run begins there, or earlier where the server
   * still has WAL before it; without one it is planned again. What the archive lacks before is dealt with then.
   * @returns true when there is a place to go on at once
   * @throws the signal's reason, and what the archive says
   */
  async skipRemoved(signal: AbortSignal): Promise<boolean> {
    const { heldEnd, segmentStart } = this.assembler
    // One that was passed long ago is of no use: what is missing lies after it.
    const fallback = this.#planner.fallbackAfter(segmentStart)
    const isOwed = heldEnd > this.queue.runStart || this.#planner.hasSettled || this.#options.slot === undefined
    if (fallback || isOwed) this.#missing.brokeOffAt(heldEnd)
    await this.restart(signal)
    if (!fallback) return false
    this.#planner.resumeAt(fallback)
    return true
  }

  /** Resolves when half of the buffers are free again: coming back for one would only close the connection again. */
  async halfFree(): Promise<void> {
    while (this.pool.free < Math.ceil(this.pool.capacity / 2)) {
      await new Promise<void>((resolve) => this.pool.onFree(resolve))
    }
  }

  /**
   * True when the server, on our own timeline, is before what was reported to it or what was received: its slot, or its WAL.
   * After a crash the slot is as old as the last checkpoint, which is harmless; but a restored snapshot, or storage that
   * failed over and lost its last seconds, looks the same and goes on with another history under the same timeline.
   */
  #hasGoneBack({ chain, serverEnd, session, slotRestart }: PreparedSource): boolean {
    const { timeline, heldEnd } = this.assembler
    if (chain.newest.timeline !== timeline) return false
    const hasSlotGoneBack = slotRestart !== undefined && slotRestart < this.#reportedLsn
    if (!hasSlotGoneBack && serverEnd >= heldEnd) return false
    this.#options.log.warn(
      'the server has gone back before what it had sent or confirmed: comparing its WAL with the archive',
      {
        host: session.host,
        slotRestart: slotRestart === undefined ? undefined : formatLsn(slotRestart),
        reported: formatLsn(this.#reportedLsn),
        serverEnd: formatLsn(serverEnd),
        receivedUpTo: formatLsn(heldEnd),
      },
    )
    return true
  }

  /** True when the server's history holds our timeline at least up to the last byte that we hold. */
  #mayContinue({ chain }: PreparedSource): boolean {
    const { assembler } = this
    const link = chain.link(assembler.timeline)
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
}
