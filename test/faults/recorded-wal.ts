/**
 * WAL of the simulated cluster: pages recorded from a real PostgreSQL 17 (three segments of 1 MB that WAL-G archived),
 * stamped again with the addresses and timelines that the schedule needs. Page headers stay valid; bodies differ from
 * timeline to timeline after the fork. Pages that the recorded segments never wrote are written here, with the address
 * of every 64 bytes in them, so that bytes in the wrong place never compare equal; but for every third segment, which
 * keeps its tail of zeros, as a segment has that was switched early.
 */
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { addBytes, type Lsn, type Timeline, toLsn } from '../../src/postgres/lsn.ts'
import { decodePageHeader, walPageSize } from '../../src/postgres/wal/wal-page.ts'

/** wal_segment_size of the simulated cluster. */
export const segmentSize = 1024 * 1024
/** Where its recorded WAL begins. */
export const firstLsn = toLsn(5n * BigInt(segmentSize))
/** Segments recorded. */
export const segmentCount = 5
/** One past its last byte. */
export const lastLsn = addBytes(firstLsn, segmentCount * segmentSize)

const recorded = ['B', 'C', 'D'].map((digit) => {
  const name = `00000001000000000000000${digit}`
  const url = new URL(`../golden/walg-remote-none-many-parts/archive/wal_005/${name}`, import.meta.url)
  return readFileSync(fileURLToPath(url))
})

/** The recorded cluster's system identifier. */
export const systemId = decodePageHeader(recorded[0] as Buffer)?.long?.systemId ?? 0n

/** xlp_magic of that version. */
const magic = recorded[0]?.readUInt16LE(0) ?? 0

/** All WAL of one timeline, from firstLsn on: nobody writes to it. */
export class TimelineWal {
  readonly timeline: Timeline
  readonly #make: (index: number) => Buffer
  readonly #segments: (Buffer | undefined)[] = []
  #bytes: Buffer | undefined

  /** @param make makes a segment, counted from the first; called once for each that is looked at */
  constructor(timeline: Timeline, make: (index: number) => Buffer) {
    this.timeline = timeline
    this.#make = make
  }

  /** One segment, counted from the first. */
  segment(index: number): Buffer {
    return (this.#segments[index] ??= this.#make(index))
  }

  /** The bytes between two positions: a view where they are of one segment, a copy otherwise. */
  slice(start: Lsn, end: Lsn): Buffer {
    const [from, to] = [Number(start - firstLsn), Number(end - firstLsn)]
    const index = Math.floor(from / segmentSize)
    const offset = from % segmentSize
    if (from === to) return Buffer.alloc(0)
    if (offset + to - from <= segmentSize) return this.segment(index).subarray(offset, offset + to - from)
    const next = toLsn(firstLsn + BigInt((index + 1) * segmentSize))
    return Buffer.concat([this.segment(index).subarray(offset), this.slice(next, end)])
  }

  /** All of it, in one piece. */
  get bytes(): Buffer {
    return (this.#bytes ??= this.slice(firstLsn, lastLsn))
  }
}

function stamp(page: Buffer, timeline: Timeline, address: bigint): void {
  if (page.readUInt16LE(0) === 0) return
  page.writeUInt32LE(timeline, 4)
  page.writeBigUInt64LE(address, 8)
}

/** Makes a page that was never written one that was: a short header (xlog_internal.h), then its own addresses. */
function write(page: Buffer, address: bigint): void {
  page.writeUInt16LE(magic, 0)
  page.writeUInt16LE(0, 2)
  for (let offset = 64; offset < page.length; offset += 64) page.writeUInt32LE(Number(address) + offset, offset)
}

function record(): Buffer {
  const bytes = Buffer.concat(Array.from({ length: segmentCount }, (_, index) => recorded[index % 3] as Buffer))
  for (let offset = 0; offset < bytes.length; offset += walPageSize) {
    const page = bytes.subarray(offset, offset + walPageSize)
    const address = firstLsn + BigInt(offset)
    const keepsZeros = Math.floor(offset / segmentSize) % 3 === 2
    if (page.readUInt16LE(0) === 0 && !keepsZeros) write(page, address)
    stamp(page, 1, address)
  }
  return bytes
}

const recordedBytes = record()

/** Timeline 1. Shared by all schedules. */
export const timelineOne = new TimelineWal(1, (index) =>
  recordedBytes.subarray(index * segmentSize, (index + 1) * segmentSize),
)

/**
 * A timeline that forks off `parent` at `switchpoint`: the same bytes before it, others after.
 * @param flavour distinguishes timelines of one number; default 0
 */
export function fork(parent: TimelineWal, timeline: Timeline, switchpoint: Lsn, flavour = 0): TimelineWal {
  const forkOffset = Number(switchpoint - firstLsn)
  return new TimelineWal(timeline, (index) => {
    const begin = index * segmentSize
    if (begin + segmentSize <= forkOffset) return parent.segment(index)
    const bytes = Buffer.allocUnsafeSlow(segmentSize)
    parent.segment(index).copy(bytes)
    const from = Math.max(begin, forkOffset - (forkOffset % walPageSize))
    for (let offset = from; offset < begin + segmentSize; offset += walPageSize) {
      const page = bytes.subarray(offset - begin, offset - begin + walPageSize)
      if (offset >= forkOffset) stamp(page, timeline, firstLsn + BigInt(offset))
      const bodyStart = Math.max(64, forkOffset - offset)
      const isWritten = page.readUInt16LE(0) !== 0
      if (isWritten && bodyStart < walPageSize)
        page[walPageSize - 1] = ((page[walPageSize - 1] ?? 0) + timeline + flavour) & 0xff
    }
    return bytes
  })
}
