/** A tail writer with an assembler and a pool around it, WAL in which every byte shows its position, and a fake store. */
import assert from 'node:assert/strict'
import { type Logger, silentLog } from '../../../src/observe/log.ts'
import { addBytes, type Lsn, toLsn } from '../../../src/postgres/lsn.ts'
import { segmentNameAt } from '../../../src/postgres/wal/wal-file.ts'
import type { WalrxError } from '../../../src/primitives/errors.ts'
import type { CallOptions } from '../../../src/receive/ports.ts'
import { type ReceivedSegment, SegmentAssembler } from '../../../src/receive/segment/segment-assembler.ts'
import { SegmentPool } from '../../../src/receive/segment/segment-pool.ts'
import type { TailPace } from '../../../src/receive/tail/tail-pace.ts'
import { TailWriter } from '../../../src/receive/tail/tail-writer.ts'
import { VirtualClock } from '../../harness/time/virtual-clock.ts'
import { FakeArchive, RecordingMeter, settle } from '../fakes.ts'

/** Small segments, and chunks of a quarter of one. */
export const segmentSize = 16 * 1024
/** Longest chunk. */
export const bytesMax = 4 * 1024
/** Where the run begins. */
export const start = toLsn(5n * BigInt(segmentSize))

/** Name of the segment that is `index` after the run's first. */
export function nameOf(index: number): string {
  return segmentNameAt(1, addBytes(start, index * segmentSize), segmentSize)
}

/** The WAL between two positions: bytes that differ from those of every other place. */
export function walBytes(lsn: Lsn, length: number): Buffer {
  const bytes = Buffer.alloc(length)
  for (let at = 0; at < length; at++) {
    const position = Number(lsn) + at
    bytes[at] = ((Math.imul(position, 0x9e3779b1) >>> 24) ^ (position & 0x7f)) | 1
  }
  return bytes
}

/** Keeps watch over what is put: the bytes must be those of the WAL, from the beginning of the put to its end. */
class WatchedArchive extends FakeArchive {
  readonly wrong: string[] = []
  readonly deleted: string[] = []
  /** Waited for by every removal. */
  beforeDelete: (() => Promise<void>) | undefined
  onPut: (() => void) | undefined
  /** Puts that were under way at once, at most. */
  putsMax = 0
  /** The memory that chunks were copied to. */
  readonly memory = new Set<ArrayBufferLike>()
  #puts = 0

  override encodeInPlace(buffer: Buffer, length: number): Promise<number> {
    this.memory.add(buffer.buffer)
    return super.encodeInPlace(buffer, length)
  }

  override async putTailChunk(
    segment: string,
    range: { from: number; to: number },
    encoded: Uint8Array,
    options: CallOptions = {},
  ): Promise<void> {
    const key = this.tailKey(segment, range)
    const lsn = toLsn(BigInt(`0x${segment.slice(8)}`) * BigInt(segmentSize) + BigInt(range.from))
    const check = (when: string) => {
      const expected = walBytes(lsn, range.to - range.from)
      if (!expected.equals(encoded)) this.wrong.push(`${key} ${when}`)
    }
    check('at first')
    this.onPut?.()
    this.putsMax = Math.max(this.putsMax, ++this.#puts)
    try {
      await super.putTailChunk(segment, range, encoded, options)
    } finally {
      this.#puts--
      check('at last')
    }
  }

  override async deleteTailChunks(keys: readonly string[]): Promise<void> {
    await this.beforeDelete?.()
    this.deleted.push(...keys)
    await super.deleteTailChunks(keys)
  }
}

/** One run. Puts wait for the test. */
export class TailBench {
  readonly clock = new VirtualClock()
  readonly archive = new WatchedArchive()
  readonly meter = new RecordingMeter()
  readonly pool = new SegmentPool(segmentSize, 8)
  readonly assembler: SegmentAssembler
  readonly tails: TailWriter
  /** Whole segments that wait for {@link archived}. */
  readonly whole: ReceivedSegment[] = []
  readonly conflicts: WalrxError[] = []
  readonly logged: string[] = []
  durableSegments = start
  /** How often something was reported as durable. */
  news = 0
  onNews: (() => void) | undefined

  constructor(pace: Partial<TailPace> = {}) {
    const log: Logger = {
      ...silentLog,
      warn: (text) => this.logged.push(text),
      error: (text) => this.logged.push(text),
    }
    this.assembler = new SegmentAssembler(this.pool, (segment) => {
      this.tails.completed(segment)
      // It is compressed where it is.
      segment.buffer.fill(0)
      this.whole.push(segment)
    })
    this.tails = new TailWriter({
      archive: this.archive,
      assembler: this.assembler,
      segmentSize,
      pace: { intervalMs: 1000, bytesMax, isSynchronous: false, ...pace },
      clock: this.clock,
      random: () => 0,
      log,
      meter: this.meter,
      durableSegments: () => this.durableSegments,
      onDurable: () => {
        this.news++
        this.onNews?.()
      },
      onConflict: (error) => this.conflicts.push(error),
    })
    this.archive.isManual = true
    this.assembler.begin(1, start)
    this.tails.begin(0, [])
  }

  /** The server sends so many bytes. */
  async receive(bytes: number): Promise<void> {
    const lsn = this.assembler.nextLsn
    assert.equal(this.assembler.write(lsn, walBytes(lsn, bytes)), bytes)
    this.tails.kick()
    await settle()
  }

  /** Lets time pass. */
  async pass(ms: number): Promise<void> {
    await this.clock.pass(ms)
    await settle()
  }

  /** The whole segment that is `index` after the first has become durable, and its buffer is used again. */
  async archived(index: number): Promise<void> {
    const startLsn = addBytes(start, index * segmentSize)
    const at = this.whole.findIndex((segment) => segment.startLsn === startLsn)
    const [segment] = this.whole.splice(at, 1)
    assert.ok(at >= 0 && segment, `segment ${index} is not whole`)
    this.archive.files.set(nameOf(index), walBytes(startLsn, segmentSize))
    this.pool.give(segment.buffer)
    this.tails.archived(startLsn)
    while (this.archive.files.has(segmentNameAt(1, this.durableSegments, segmentSize))) {
      this.durableSegments = addBytes(this.durableSegments, segmentSize)
    }
    await settle()
  }

  /** What is being put, as `<index>:<from>-<to>`. */
  get puts(): string[] {
    return this.archive.pending.map(({ name }) => short(name))
  }

  /** Chunks in the store, in the order of segments and offsets. */
  get chunks(): string[] {
    return [...this.archive.chunks.keys()].map(short).sort(byOffset)
  }

  /** Bytes after the run's start that the store has without a hole, in whole segments and chunks. */
  get storedBytes(): number {
    let end = 0
    for (let index = 0; ; index++) {
      let covered = this.archive.files.has(nameOf(index)) ? segmentSize : 0
      for (const key of this.chunks) {
        const [of, from = 0, to = 0] = key.split(/[:-]/).map(Number)
        if (of === index && from <= covered) covered = Math.max(covered, to)
      }
      end += covered
      if (covered < segmentSize) return end
    }
  }

  /** Durable bytes after the run's start. */
  get durable(): number {
    return Number(this.tails.durableLsn - start)
  }

  /** Lets a put succeed, or fail. */
  async answer(put: string, error?: Error): Promise<void> {
    const pending = this.archive.pending.find(({ name }) => short(name) === put)
    assert.ok(pending, `${put} is not under way, but ${this.puts.join(' ')}`)
    if (error) pending.fail(error)
    else pending.succeed()
    await settle()
  }
}

function short(key: string): string {
  return `${Number(BigInt(`0x${key.slice(8, 24)}`) - 5n)}:${key.slice(25)}`
}

function byOffset(a: string, b: string): number {
  const [left = [], right = []] = [a, b].map((key) => key.split(/[:-]/).map(Number))
  const at = left.findIndex((number, index) => number !== right[index])
  return at === -1 ? 0 : (left[at] ?? 0) - (right[at] ?? 0)
}
