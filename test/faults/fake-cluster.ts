/**
 * A fake PostgreSQL cluster that speaks the walsender's side of the protocol byte for byte: it cuts messages and reads
 * where it likes, pings, times out, shuts down, loses connections, promotes, and throws WAL away as soon as the slot
 * allows it, so that a flush position too far costs the WAL for good.
 */
import type { Clock } from '../../src/primitives/clock.ts'
import { WalrxError } from '../../src/primitives/errors.ts'
import {
  addBytes,
  bytesBetween,
  formatLsn,
  type Lsn,
  maxLsn,
  minLsn,
  segmentStart,
  type Timeline,
  toLsn,
} from '../../src/postgres/lsn.ts'
import type { ByteSocket, ReplicationServer, ReplicationSession } from '../../src/postgres/session.ts'
import { TimelineChain } from '../../src/postgres/timeline-chain.ts'
import { type HistoryEntry, historyName } from '../../src/postgres/wal-file.ts'
import type { Random } from '../harness/random.ts'
import { FakeWalsender } from './fake-walsender.ts'
import { firstLsn, fork, lastLsn, segmentSize, systemId, timelineOne, type TimelineWal } from './recorded-wal.ts'

/** What a schedule may watch. */
export interface ClusterEvents {
  /** A status update, at the moment in which the receiver wrote it. */
  onStatus(timeline: Timeline, write: Lsn, flush: Lsn, apply: Lsn): void
}

/** See the file's header. */
export class FakeCluster implements ReplicationServer {
  readonly clock: Clock
  readonly random: Random
  readonly events: ClusterEvents
  readonly walSenderTimeoutMs: number
  /** Every timeline there ever was, with its WAL. */
  readonly timelines: Map<Timeline, TimelineWal>
  readonly histories: Map<Timeline, readonly HistoryEntry[]>
  timeline: Timeline = 1
  /** The server's flush position: grows as the schedule says. */
  end: Lsn
  slot: { restartLsn: Lsn } | undefined
  isUp = true
  /** Ends of timelines: nothing beyond is ever sent on them by the present server. */
  readonly senders = new Set<FakeWalsender>()
  #oldestLsn: Lsn = firstLsn

  /** @param like a host of the same cluster, at this moment */
  constructor(clock: Clock, random: Random, events: ClusterEvents, like?: FakeCluster) {
    this.clock = clock
    this.random = random
    this.events = events
    this.timelines = like?.timelines ?? new Map([[1, timelineOne]])
    this.histories = like?.histories ?? new Map([[1, []]])
    this.walSenderTimeoutMs = random.pick([1_000, 10_000, 60_000])
    this.end = like?.end ?? addBytes(firstLsn, random.int(0, segmentSize))
    if (!like) return
    this.timeline = like.timeline
    this.slot = like.slot && { ...like.slot }
    this.#oldestLsn = like.#oldestLsn
  }

  /** The primary as it is now, on its own: what it will be if another one is promoted and it comes back. */
  former(): FakeCluster {
    return new FakeCluster(this.clock, this.random, this.events, this)
  }

  /** Somebody drops the slot, or the server invalidates it, and removes what only the slot had kept. */
  loseSlot(): void {
    this.cutAll()
    this.slot = undefined
    const keep = segmentStart(this.end, segmentSize)
    if (keep > this.#oldestLsn) this.#oldestLsn = keep
  }

  /** The chain that ends in the present timeline, or in another one. */
  chain(timeline: Timeline = this.timeline): TimelineChain {
    return new TimelineChain(timeline, this.histories.get(timeline) ?? [])
  }

  /** WAL bytes of a timeline between two positions. */
  wal(timeline: Timeline, start: Lsn, end: Lsn): Buffer {
    return (this.timelines.get(timeline) as TimelineWal).slice(start, end)
  }

  /** The oldest position that can still be streamed. */
  get oldestLsn(): Lsn {
    return this.#oldestLsn
  }

  /** More WAL is flushed. */
  grow(bytes: number): void {
    this.end = minLsn(addBytes(this.end, bytes), lastLsn)
    for (const sender of this.senders) sender.wake()
  }

  /** The slot moves, and what it no longer holds is gone at once. */
  confirm(flush: Lsn): void {
    if (!this.slot) return
    this.slot.restartLsn = flush
    const keep = segmentStart(flush, segmentSize)
    if (keep > this.#oldestLsn) this.#oldestLsn = keep
  }

  /** Cuts every connection. */
  cutAll(): void {
    for (const sender of [...this.senders]) sender.cut('cut by the schedule')
  }

  /**
   * A fast shutdown: each walsender sends what is left and ends when the receiver has confirmed it.
   * @returns milliseconds until the last one was gone
   */
  async shutDown(limitMs: number): Promise<number> {
    const startedMs = this.clock.now()
    this.isUp = false
    for (const sender of this.senders) sender.shutDown()
    while (this.senders.size > 0 && this.clock.now() - startedMs < limitMs) {
      await new Promise<void>((resolve) => this.clock.setTimer(50, resolve))
    }
    const tookMs = this.clock.now() - startedMs
    this.cutAll()
    return tookMs
  }

  startUp(): void {
    this.isUp = true
  }

  /**
   * The server is promoted (in place: it was a standby that we follow) or replaced by a promoted standby that had
   * less WAL. Ids may be skipped, as failed promotions do.
   * @param lostBytes WAL that the new timeline doesn't have; 0 for a promotion in place
   */
  promote(lostBytes: number, skippedIds: number, inPlace: boolean): void {
    const old = this.timeline
    const begin = maxLsn(this.chain().newest.begin, firstLsn)
    const target = inPlace ? this.end : toLsn(this.end - BigInt(Math.min(lostBytes, bytesBetween(begin, this.end))))
    const switchpoint = inPlace || target < begin ? this.end : target
    const timeline = old + 1 + skippedIds
    this.timelines.set(timeline, fork(this.timelines.get(old) as TimelineWal, timeline, switchpoint))
    this.histories.set(timeline, [...(this.histories.get(old) ?? []), { timeline: old, switchpoint }])
    this.timeline = timeline
    this.end = switchpoint
    if (!inPlace) {
      this.cutAll()
      this.slot = undefined
      // Another server, with its own old WAL.
      this.#oldestLsn = firstLsn
    }
    for (const sender of this.senders) sender.wake()
  }

  async connect(signal?: AbortSignal): Promise<ReplicationSession> {
    await this.#latency(signal)
    if (!this.isUp) throw new WalrxError('WALRX_CONNECT_FAILED', 'fake:5432 refuses connections')
    return this.#session()
  }

  async #latency(signal?: AbortSignal): Promise<void> {
    await new Promise<void>((resolve) => this.clock.setTimer(this.random.int(0, 20), resolve))
    signal?.throwIfAborted()
    if (this.isUp && this.random.chance(0.02)) throw new WalrxError('WALRX_CONNECTION_LOST', 'lost during a command')
  }

  #session(): ReplicationSession {
    const session: ReplicationSession = {
      host: 'fake:5432',
      serverVersion: 170_010,
      inRecovery: false,
      identifySystem: async () => {
        await this.#latency()
        return { systemId, timeline: this.timeline, xlogpos: this.end }
      },
      show: async (name) => {
        await this.#latency()
        return name === 'wal_segment_size' ? '1MB' : `${this.walSenderTimeoutMs}ms`
      },
      readSlot: async () => {
        await this.#latency()
        if (!this.slot) return { kind: 'missing' }
        return { kind: 'physical', restartLsn: this.slot.restartLsn, restartTimeline: this.timeline }
      },
      createSlot: async () => {
        await this.#latency()
        const redo = toLsn(this.end - BigInt(this.random.int(0, bytesBetween(this.#oldestLsn, this.end))))
        this.slot ??= { restartLsn: redo }
      },
      dropSlot: async () => {
        await this.#latency()
        this.slot = undefined
      },
      timelineHistory: async (timeline) => {
        await this.#latency()
        const entries = this.histories.get(timeline)
        if (timeline === 1 || !entries) return undefined
        const lines = entries.map(
          (entry) => `${entry.timeline}\t${formatLsn(entry.switchpoint)}\tno recovery target specified\n`,
        )
        return { timeline, fileName: historyName(timeline), content: Buffer.from(lines.join('\n')) }
      },
      takeOver: (): ByteSocket => {
        const sender = new FakeWalsender(this)
        this.senders.add(sender)
        return sender
      },
      close: () => Promise.resolve(),
    }
    return session
  }
}
