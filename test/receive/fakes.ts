/** Stand-ins at the receiver's contracts: an archive, a meter and a replication session in the hands of a test. */
import { setImmediate } from 'node:timers/promises'
import { WalrxError } from '../../src/primitives/errors.ts'
import { formatLsn, type Lsn, minLsn, segmentStart, type Timeline } from '../../src/postgres/lsn.ts'
import type { HistoryFile, ReplicationSession, SlotReading } from '../../src/postgres/protocol/session.ts'
import { historyName, parseSegmentName } from '../../src/postgres/wal/wal-file.ts'
import type {
  ArchivedSegment,
  CallOptions,
  ReceiveArchive,
  ReceiveMeter,
  StoredSegment,
} from '../../src/receive/ports.ts'
import type { SegmentArchiver } from '../../src/walg/wal/segment-archiver.ts'
import type { GapRecord } from '../../src/walg/wal/gap-records.ts'
import { FakeSocket } from '../postgres/fake-socket.ts'

/** Lets everything happen that needs no time to pass. */
export async function settle(): Promise<void> {
  for (let turn = 0; turn < 5; turn++) await setImmediate()
}

/** A put that waits for the test's decision. */
export interface PendingPut {
  readonly name: string
  succeed(): void
  fail(error: Error): void
}

/** The error of a store that is out. */
export function storageOut(): WalrxError {
  return new WalrxError('WALRX_STORAGE_UNAVAILABLE', 'the store does not answer (test)')
}

/**
 * An archive in memory. Puts are answered at once, or, with `isManual`, one by one by the test. Bytes that change while
 * they are being put are a failure of the test: somebody used a buffer after it was given back.
 */
export class FakeArchive implements ReceiveArchive {
  readonly files = new Map<string, Buffer>()
  readonly calls: string[] = []
  readonly gaps: GapRecord[] = []
  /** Chunks of unfinished segments by their keys, as they were encoded. */
  readonly chunks = new Map<string, Buffer>()
  isManual = false
  pending: PendingPut[] = []
  /** Length that a segment is encoded to; the segment's own by default. */
  encodedLength: (length: number) => number = (length) => length
  system: bigint | undefined
  /** Thrown by every put that the test does not decide, while set. */
  putFailure: Error | undefined
  /** Thrown by everything that is not a put, while set. */
  outage: Error | undefined
  lookedAhead: string[] = []
  aliased: string | undefined

  async encodeInPlace(_buffer: Buffer, length: number): Promise<number> {
    await Promise.resolve()
    return this.encodedLength(length)
  }

  async archive(name: string, encoded: Uint8Array, options: CallOptions = {}): Promise<'created' | 'same'> {
    this.calls.push(`archive ${name}`)
    const before = Buffer.from(encoded)
    try {
      await this.#turn(name, options.signal)
    } finally {
      if (!before.equals(encoded)) this.aliased = name
    }
    const there = this.files.get(name)
    if (there?.equals(before)) return 'same'
    if (there) throw new WalrxError('WALRX_ARCHIVE_CONFLICT', `${name} holds different bytes`)
    this.files.set(name, before)
    return 'created'
  }

  /** What {@link archivePartial} answers. */
  partialOutcome = 'created'

  async archivePartial(segment: string, raw: Buffer, length: number, options: CallOptions = {}): Promise<string> {
    this.calls.push(`partial ${segment}`)
    await this.#turn(`${segment}.partial`, options.signal)
    this.files.set(`${segment}.partial`, Buffer.from(raw.subarray(0, length)))
    return this.partialOutcome
  }

  tailKey(segment: string, { from, to }: { from: number; to: number }): string {
    return `${segment}/${from}-${to}`
  }

  async putTailChunk(
    segment: string,
    range: { from: number; to: number },
    encoded: Uint8Array,
    options: CallOptions = {},
  ): Promise<void> {
    const key = this.tailKey(segment, range)
    this.calls.push(`chunk ${key}`)
    const bytes = Buffer.from(encoded)
    await this.#turn(key, options.signal)
    const there = this.chunks.get(key)
    if (there && !there.equals(bytes)) throw new WalrxError('WALRX_ARCHIVE_CONFLICT', `${key} holds different bytes`)
    this.chunks.set(key, bytes)
  }

  deleteTailChunks(keys: readonly string[]): Promise<void> {
    for (const key of keys) this.chunks.delete(key)
    return Promise.resolve()
  }

  readTail(segment: string, buffer: Buffer): Promise<{ length: number; keys: string[] }> {
    const keys = [...this.chunks.keys()].filter((key) => key.startsWith(`${segment}/`)).sort()
    let length = 0
    for (const key of keys) {
      const [from, to] = key.slice(25).split('-').map(Number)
      if (from === undefined || to === undefined || from > length) break
      this.chunks.get(key)?.copy(buffer, from)
      length = Math.max(length, to)
    }
    return Promise.resolve({ length, keys })
  }

  async *segmentsWithTail(): AsyncGenerator<ArchivedSegment, undefined> {}

  /** By timeline. */
  readonly forks = new Map<Timeline, { timeline: Timeline; switchpoint: Lsn }>()

  async *forksOf(timeline: Timeline): AsyncGenerator<{ timeline: Timeline; switchpoint: Lsn }, undefined> {
    await Promise.resolve()
    const fork = this.forks.get(timeline)
    if (fork) yield fork
  }

  async *timelinesAfter(timeline: Timeline): AsyncGenerator<Timeline, undefined> {
    await Promise.resolve()
    if (this.outage) throw this.outage
    const timelines = [...this.files.keys()].map((name) => parseInt(name.slice(0, 8), 16))
    yield* [...new Set(timelines)].filter((other) => other > timeline).sort((a, b) => a - b)
  }

  async *completeTails(_buffer: Buffer): AsyncGenerator<string, undefined> {}

  clearTails(): Promise<{ removed: number; contradicting: string[]; locked: string[] }> {
    return Promise.resolve({ removed: 0, contradicting: [], locked: [] })
  }

  #turn(name: string, signal: AbortSignal | undefined): Promise<void> {
    if (!this.isManual) return this.putFailure ? Promise.reject(this.putFailure) : Promise.resolve()
    return new Promise((resolve, reject) => {
      const done = () => {
        this.pending = this.pending.filter((other) => other !== put)
        signal?.removeEventListener('abort', onAbort)
      }
      const onAbort = () => put.fail(signal?.reason as Error)
      const put = {
        name,
        succeed: () => {
          done()
          resolve()
        },
        fail: (error: Error) => {
          done()
          reject(error)
        },
      }
      this.pending.push(put)
      signal?.addEventListener('abort', onAbort, { once: true })
    })
  }

  bindSystem(systemId: bigint): Promise<void> {
    this.calls.push('bind')
    if (this.outage) return Promise.reject(this.outage)
    this.system ??= systemId
    if (this.system === systemId) return Promise.resolve()
    return Promise.reject(new WalrxError('WALRX_OTHER_CLUSTER', `bound to ${this.system}`))
  }

  archiveHistory(fileName: string, content: Uint8Array): Promise<'created' | 'same'> {
    this.calls.push(`history ${fileName}`)
    const there = this.files.get(fileName)
    if (there?.equals(content)) return Promise.resolve('same')
    if (there) return Promise.reject(new WalrxError('WALRX_ARCHIVE_CONFLICT', `${fileName} holds different bytes`))
    this.files.set(fileName, Buffer.from(content))
    return Promise.resolve('created')
  }

  /** Thrown when a gap is recorded, while set. */
  gapOutage: Error | undefined

  recordGap(gap: GapRecord): Promise<'created' | 'same'> {
    const failure = this.outage ?? this.gapOutage
    if (failure) return Promise.reject(failure)
    const isKnown = this.gaps.some(({ startLsn, endLsn }) => startLsn === gap.startLsn && endLsn === gap.endLsn)
    this.gaps.push(gap)
    return Promise.resolve(isKnown ? 'same' : 'created')
  }

  lookAhead(segment: string, _options?: CallOptions): Promise<void> {
    if (this.outage) return Promise.reject(this.outage)
    this.lookedAhead.push(segment)
    return Promise.resolve()
  }

  /** Names of segments that are there and damaged. */
  readonly damaged = new Set<string>()

  isWhole(segment: string): Promise<boolean> {
    return Promise.resolve(this.files.has(segment) && !this.damaged.has(segment))
  }

  has(name: string): Promise<boolean> {
    if (this.outage) return Promise.reject(this.outage)
    return Promise.resolve(this.files.has(name))
  }

  /** Names of segments that are objects without a byte. */
  readonly empty = new Set<string>()

  async *segments(timeline: Timeline, from: bigint, segmentSize: number): AsyncIterable<StoredSegment> {
    await Promise.resolve()
    if (this.outage) throw this.outage
    for (const name of [...this.files.keys()].sort()) {
      const id = parseSegmentName(name, segmentSize)
      if (id && id.timeline === timeline && id.segno >= from) yield { ...id, size: this.empty.has(name) ? 0 : 1 }
    }
  }

  /** Names of whole segments, in order. */
  get segmentNames(): string[] {
    return [...this.files.keys()].filter((name) => /^[0-9A-F]{24}$/.test(name)).sort()
  }
}

/** Encodes and stores what need not be WAL: segments that no test would call such. */
export function uncheckedSegments(
  archive: FakeArchive,
  segmentSize: number,
): Pick<SegmentArchiver, 'encode' | 'store'> {
  return {
    encode: async ({ buffer }) => buffer.subarray(0, await archive.encodeInPlace(buffer, segmentSize)),
    store: (name, encoded, options) => archive.archive(name, encoded, options),
  }
}

/** Writes down what is counted, one line each. */
export class RecordingMeter implements ReceiveMeter {
  readonly lines: string[] = []
  receivedBytes = 0
  failures = 0
  received(bytes: number): void {
    this.receivedBytes += bytes
  }
  uploaded(bytes: number): void {
    this.lines.push(`uploaded ${bytes}`)
  }
  uploadFailed(): void {
    this.failures++
  }
  tailStored(): void {
    this.lines.push('chunk')
  }
  flushed(lsn: Lsn): void {
    this.lines.push(`flushed ${formatLsn(lsn)}`)
  }
  reconnected(): void {
    this.lines.push('reconnected')
  }
  poolFull(): void {
    this.lines.push('pool full')
  }
  gap(startLsn: Lsn, endLsn: Lsn): void {
    this.lines.push(`gap ${formatLsn(startLsn)} ${formatLsn(endLsn)}`)
  }
  repaired(host: string, bytes: number): void {
    this.lines.push(`repaired ${bytes} from ${host}`)
  }
  pastFork(bytes: number): void {
    this.lines.push(`past fork ${bytes}`)
  }
}

/** A connected server with answers that are plain fields. */
export class FakeSession implements ReplicationSession {
  host = 'fake:5432'
  serverVersion = 170_010
  inRecovery = false
  systemId = 7_000_000_000_000_000_001n
  timeline: Timeline = 1
  xlogpos: Lsn
  settings: Record<string, string> = { wal_segment_size: '1MB', wal_sender_timeout: '1min' }
  slots = new Map<string, SlotReading>()
  /** What a slot begins with that is created. */
  redoLsn: Lsn
  /** History files by timeline: their text. */
  histories = new Map<Timeline, string>()
  readonly calls: string[] = []
  readonly socket = new FakeSocket()
  isClosed = false
  /** Thrown by every drop of a slot, while set. */
  dropFailure: Error | undefined

  constructor(xlogpos: Lsn, redoLsn: Lsn = xlogpos) {
    this.xlogpos = xlogpos
    this.redoLsn = redoLsn
  }

  identifySystem(): ReturnType<ReplicationSession['identifySystem']> {
    this.calls.push('identify')
    return Promise.resolve({ systemId: this.systemId, timeline: this.timeline, xlogpos: this.xlogpos })
  }

  show(name: string): Promise<string> {
    const value = this.settings[name]
    return value === undefined ? Promise.reject(new Error(`no setting ${name}`)) : Promise.resolve(value)
  }

  readSlot(slot: string): Promise<SlotReading> {
    this.calls.push(`read ${slot}`)
    return Promise.resolve(this.slots.get(slot) ?? { kind: 'missing' })
  }

  createSlot(slot: string): Promise<void> {
    this.calls.push(`create ${slot}`)
    if (!this.slots.has(slot)) this.setSlot(slot, this.redoLsn)
    return Promise.resolve()
  }

  dropSlot(slot: string): Promise<void> {
    this.calls.push(`drop ${slot}`)
    if (this.dropFailure) return Promise.reject(this.dropFailure)
    this.slots.delete(slot)
    return Promise.resolve()
  }

  setSlot(slot: string, restartLsn: Lsn | undefined): void {
    this.slots.set(slot, { kind: 'physical', restartLsn, restartTimeline: this.timeline })
  }

  timelineHistory(timeline: Timeline): Promise<HistoryFile | undefined> {
    this.calls.push(`history ${timeline}`)
    const text = this.histories.get(timeline)
    if (text === undefined) return Promise.resolve(undefined)
    return Promise.resolve({ timeline, fileName: historyName(timeline), content: Buffer.from(text) })
  }

  /** The oldest WAL of the server; by default what its slots keep, or the segment that it writes to. */
  oldestLsn: Lsn | undefined

  hasWal(timeline: Timeline, lsn: Lsn): Promise<boolean> {
    this.calls.push(`has ${timeline} ${formatLsn(lsn)}`)
    const kept = [...this.slots.values()].flatMap((slot) => (slot.kind === 'physical' ? (slot.restartLsn ?? []) : []))
    const oldest = this.oldestLsn ?? kept.reduce(minLsn, this.xlogpos)
    return Promise.resolve(lsn >= segmentStart(oldest, 1024 * 1024))
  }

  takeOver(): FakeSocket {
    return this.socket
  }

  close(): Promise<void> {
    this.isClosed = true
    return Promise.resolve()
  }
}
