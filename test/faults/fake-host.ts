/**
 * A fake PostgreSQL server that speaks the walsender's side of the protocol byte for byte: it cuts messages and reads
 * where it likes, pings, times out, shuts down, loses connections, is promoted and demoted, and throws WAL away as soon
 * as its slots allow it, so that a flush position too far costs the WAL for good.
 */
import type { Clock } from '../../src/primitives/clock.ts'
import { WalrxError } from '../../src/primitives/errors.ts'
import { addBytes, bytesBetween, type Lsn, minLsn, segmentStart, type Timeline, toLsn } from '../../src/postgres/lsn.ts'
import type { ByteSocket, ReplicationSession } from '../../src/postgres/protocol/session.ts'
import type { TimelineChain } from '../../src/postgres/wal/timeline-chain.ts'
import { historyName } from '../../src/postgres/wal/wal-file.ts'
import type { Random } from '../harness/random.ts'
import { FakeWalsender } from './fake-walsender.ts'
import { Lineage } from './lineage.ts'
import { firstLsn, lastLsn, segmentSize, systemId } from './recorded-wal.ts'

/** What a walsender was sent. */
export interface HeardStatus {
  readonly host: FakeHost
  readonly slot: string
  readonly timeline: Timeline
  readonly write: Lsn
  readonly flush: Lsn
  readonly apply: Lsn
}

/** What hosts share, and what a schedule may watch. */
export interface Surroundings {
  readonly clock: Clock
  readonly random: Random
  /** START_REPLICATION with a slot. */
  onStart(slot: string, start: Lsn): void
  /** WAL from `start` on was asked for, which is removed. */
  onRemoved(start: Lsn): void
  /** A status update, at the moment in which the receiver wrote it, before the server acts on it. */
  onStatus(status: HeardStatus): void
}

/** See the file's header. */
export class FakeHost {
  readonly name: string
  readonly around: Surroundings
  readonly walSenderTimeoutMs: number
  /** Of the cluster, or of another one that answers at this address. */
  readonly systemId: bigint
  readonly slots = new Map<string, { restartLsn: Lsn }>()
  readonly senders = new Set<FakeWalsender>()
  lineage: Lineage
  timeline: Timeline = 1
  /** The server's flush position: grows as the schedule says. */
  end: Lsn
  isUp = true
  inRecovery = false
  #oldestLsn: Lsn = firstLsn
  /** Counts {@link FakeHost.cutAll}: sessions from before are dead. */
  #epoch = 0

  /** @param like a host of the same cluster, which has the same WAL at this moment; default a new cluster */
  constructor(name: string, around: Surroundings, like?: FakeHost, ofSystem: bigint = systemId) {
    this.name = name
    this.around = around
    this.systemId = ofSystem
    this.lineage = like?.lineage ?? new Lineage()
    this.walSenderTimeoutMs = around.random.pick([1_000, 10_000, 60_000])
    this.end = like?.end ?? addBytes(firstLsn, around.random.int(0, segmentSize))
    this.timeline = like?.timeline ?? 1
  }

  /** The chain that ends in the present timeline. */
  chain(): TimelineChain {
    return this.lineage.chain(this.timeline)
  }

  /** WAL bytes of a timeline between two positions. */
  wal(timeline: Timeline, start: Lsn, end: Lsn): Buffer {
    const bytes = this.lineage.wal(timeline, start, end)
    if (!bytes) throw new Error(`${this.name} has no timeline ${timeline}`)
    return bytes
  }

  /** The oldest position that can still be streamed. */
  get oldestLsn(): Lsn {
    return this.#oldestLsn
  }

  /** The server removes what is older. */
  remove(before: Lsn): void {
    const keep = segmentStart(before, segmentSize)
    if (keep > this.#oldestLsn) this.#oldestLsn = keep
  }

  /** Takes over slots, and the lack of what no slot had kept: it is the same server at another address. */
  takeOver(other: FakeHost): void {
    for (const [name, { restartLsn }] of other.slots) this.slots.set(name, { restartLsn })
    this.#oldestLsn = other.#oldestLsn
  }

  /** Somebody drops a slot, or the server invalidates it, and removes what only that one had kept. */
  loseSlot(name: string): void {
    for (const sender of [...this.senders]) if (sender.slot === name) sender.cut('the slot was invalidated')
    this.slots.delete(name)
    this.remove(this.#kept(this.end))
  }

  /** Up to here at most the slots allow WAL to be removed. */
  #kept(otherwise: Lsn): Lsn {
    return [...this.slots.values()].reduce((least, { restartLsn }) => minLsn(least, restartLsn), otherwise)
  }

  /** More WAL is flushed. */
  grow(bytes: number): void {
    this.end = minLsn(addBytes(this.end, bytes), lastLsn)
    this.wakeAll()
  }

  /** A slot moves, and what no slot holds any more is gone at once. */
  confirm(slotName: string, flush: Lsn): void {
    const slot = this.slots.get(slotName)
    if (!slot) return
    slot.restartLsn = flush
    this.remove(this.#kept(flush))
  }

  /** Cuts every connection, those that do not stream yet as well. */
  cutAll(): void {
    this.#epoch++
    for (const sender of [...this.senders]) sender.cut('cut by the schedule')
  }

  /** Lets every walsender look for something to send. */
  wakeAll(): void {
    for (const sender of this.senders) sender.wake()
  }

  /**
   * A fast shutdown: each walsender sends what is left and ends when the receiver has confirmed it.
   * @returns milliseconds until the last one was gone
   */
  async shutDown(limitMs: number): Promise<number> {
    const { clock } = this.around
    const startedMs = clock.now()
    this.isUp = false
    for (const sender of this.senders) sender.shutDown()
    while (this.senders.size > 0 && clock.now() - startedMs < limitMs) {
      await new Promise<void>((resolve) => clock.setTimer(50, resolve))
    }
    const tookMs = clock.now() - startedMs
    this.cutAll()
    return tookMs
  }

  /** Logs in. */
  async connect(signal?: AbortSignal): Promise<ReplicationSession> {
    await this.#latency()
    signal?.throwIfAborted()
    if (!this.isUp) throw new WalrxError('WALRX_CONNECT_FAILED', `${this.name} refuses connections`)
    return this.#session(this.#epoch)
  }

  async #latency(): Promise<void> {
    const { clock, random } = this.around
    await new Promise<void>((resolve) => clock.setTimer(random.int(0, 20), resolve))
  }

  /** The time that a command takes, in which the connection may be lost. */
  async #command(epoch: number): Promise<void> {
    await this.#latency()
    if (this.isUp && epoch === this.#epoch && !this.around.random.chance(0.02)) return
    throw new WalrxError('WALRX_CONNECTION_LOST', `${this.name} was lost during a command`)
  }

  #session(epoch: number): ReplicationSession {
    const session: ReplicationSession = {
      host: this.name,
      serverVersion: 170_010,
      inRecovery: this.inRecovery,
      identifySystem: async () => {
        await this.#command(epoch)
        return { systemId: this.systemId, timeline: this.timeline, xlogpos: this.end }
      },
      show: async (name) => {
        await this.#command(epoch)
        return name === 'wal_segment_size' ? '1MB' : `${this.walSenderTimeoutMs}ms`
      },
      readSlot: async (name) => {
        await this.#command(epoch)
        const slot = this.slots.get(name)
        if (!slot) return { kind: 'missing' }
        return { kind: 'physical', restartLsn: slot.restartLsn, restartTimeline: this.timeline }
      },
      createSlot: async (name) => {
        await this.#command(epoch)
        if (!this.slots.has(name)) this.slots.set(name, { restartLsn: this.#redo() })
      },
      dropSlot: async (name) => {
        await this.#command(epoch)
        this.slots.delete(name)
      },
      timelineHistory: async (timeline) => {
        await this.#command(epoch)
        const content = this.lineage.history(timeline)
        return content && { timeline, fileName: historyName(timeline), content }
      },
      hasWal: async (_timeline, lsn) => {
        await this.#command(epoch)
        return lsn >= this.#oldestLsn
      },
      takeOver: (): ByteSocket => {
        const sender = new FakeWalsender(this)
        this.senders.add(sender)
        if (epoch !== this.#epoch) sender.cut('the server has gone')
        return sender
      },
      close: () => Promise.resolve(),
    }
    return session
  }

  /** Where a slot with RESERVE_WAL begins: at the last checkpoint's redo position. */
  #redo(): Lsn {
    return toLsn(this.end - BigInt(this.around.random.int(0, bytesBetween(this.#oldestLsn, this.end))))
  }
}
