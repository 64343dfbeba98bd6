/** WAL made up record by record: lengths, pointers and checksums are right, as a server would have laid them out. */
import { parseSegmentName, segmentStartLsn } from '../../../src/postgres/wal/wal-file.ts'
import { walPageSize } from '../../../src/postgres/wal/wal-page.ts'
import { madeSegmentSize, madeSystemId } from './made-wal.ts'

/** A record to be laid out. */
export interface MadeRecord {
  readonly resourceManager: number
  readonly info: number
  /** Default 777. */
  readonly transactionId?: number
  /** Everything after the header. */
  readonly body: Uint8Array
}

/** CRC-32C bit by bit: slow, and written apart from the one under test. */
function slowCrc32c(bytes: Uint8Array): number {
  let crc = 0xffffffff
  for (const byte of bytes) {
    crc ^= byte
    for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ ((crc & 1) * 0x82f63b78)
  }
  return (crc ^ 0xffffffff) >>> 0
}

/**
 * The end of a transaction.
 * @param time microseconds since 2000-01-01 UTC
 * @param more what differs: info of the record (default commit), an origin or a top-level transaction before the data,
 * and how many bytes follow the time (255 or more make the long form)
 */
export function transactionRecord(
  time: bigint,
  more: {
    readonly info?: number
    readonly origin?: boolean
    readonly topLevel?: boolean
    readonly extra?: number
  } = {},
): MadeRecord {
  const data = Buffer.alloc(8 + (more.extra ?? 0), 0x5a)
  data.writeBigInt64LE(time)
  const heads: Buffer[] = []
  if (more.origin) heads.push(Buffer.from([0xfd, 1, 0]))
  if (more.topLevel) heads.push(Buffer.from([0xfc, 9, 0, 0, 0]))
  const long = Buffer.alloc(5, 0xfe)
  long.writeUInt32LE(data.length, 1)
  heads.push(data.length < 256 ? Buffer.from([0xff, data.length]) : long)
  return { resourceManager: 1, info: more.info ?? 0, body: Buffer.concat([...heads, data]) }
}

/** A record of another resource manager, with this many bytes after its header. */
export function otherRecord(bytes: number): MadeRecord {
  return { resourceManager: 10, info: 0x20, body: Buffer.alloc(bytes, 0xa5) }
}

/** What a server writes down of its settings when it starts: wal_level is 0 for minimal. */
export function parameterChangeRecord(walLevel: number): MadeRecord {
  const body = Buffer.alloc(30)
  body.set([0xff, 28])
  for (const [index, value] of [100, 8, 10, 0, 64, walLevel].entries()) body.writeInt32LE(value, 2 + 4 * index)
  return { resourceManager: 0, info: 0x60, transactionId: 0, body }
}

/** The record after which the rest of a segment stays empty. */
export const switchRecord: MadeRecord = { resourceManager: 0, info: 0x40, body: new Uint8Array(0) }

/** Segments of records. Positions are absolute, in bytes. */
export class MadeRecords {
  readonly #start: bigint
  readonly #timeline: number
  readonly #bytes: Buffer
  #at = 0
  #previous = 0n
  /** Start and end of every record, in order. */
  readonly records: { readonly start: bigint; readonly end: bigint }[] = []

  /** @param name of the first segment, of {@link madeSegmentSize} */
  constructor(name: string, segmentCount: number) {
    const id = parseSegmentName(name, madeSegmentSize)
    if (!id) throw new Error(`${name} is no segment`)
    this.#start = segmentStartLsn(id, madeSegmentSize)
    this.#timeline = id.timeline
    this.#bytes = Buffer.alloc(segmentCount * madeSegmentSize)
  }

  /** All segments, one after the other; unwritten bytes are zero. */
  get bytes(): Buffer {
    return this.#bytes
  }

  /** Where the next record begins, if it is on this page. */
  get position(): bigint {
    return this.#start + BigInt(this.#at)
  }

  /** One of the segments, counted from 0. */
  segment(index: number): Buffer {
    return this.#bytes.subarray(index * madeSegmentSize, (index + 1) * madeSegmentSize)
  }

  /** Appends a record; a switch goes on in the next segment. */
  add({ body, info, resourceManager, transactionId = 777 }: MadeRecord): void {
    const record = Buffer.alloc(24 + body.length)
    record.writeUInt32LE(record.length, 0)
    record.writeUInt32LE(transactionId, 4)
    record.writeBigUInt64LE(this.#previous, 8)
    record.writeUInt8(info, 16)
    record.writeUInt8(resourceManager, 17)
    record.set(body, 24)
    record.writeUInt32LE(slowCrc32c(Buffer.concat([record.subarray(24), record.subarray(0, 20)])), 20)
    if (this.#at % walPageSize === 0) this.#beginPage(0)
    const start = this.position
    for (let written = 0; written < record.length;) {
      if (this.#at % walPageSize === 0) this.#beginPage(record.length - written)
      const room = walPageSize - (this.#at % walPageSize)
      const copied = record.copy(this.#bytes, this.#at, written, Math.min(record.length, written + room))
      written += copied
      this.#at += copied
    }
    this.#at = Math.ceil(this.#at / 8) * 8
    const isSwitch = resourceManager === 0 && info === 0x40
    if (isSwitch) this.#at = Math.ceil(this.#at / madeSegmentSize) * madeSegmentSize
    this.#previous = start
    this.records.push({ start, end: this.position })
  }

  /** Gives up a record after so many pages of it, as a server that crashed there and went on with the next page. */
  abandon(pages: number): void {
    const begin = this.#at
    const before = this.#previous
    this.add(otherRecord(pages * walPageSize + walPageSize))
    this.records.pop()
    const resume = (Math.floor(begin / walPageSize) + pages) * walPageSize
    this.#bytes.fill(0, resume, this.#at)
    this.#at = resume
    this.#previous = before
    this.#beginPage(0, 0x0008)
  }

  #beginPage(remaining: number, flags: number = remaining > 0 ? 0x0001 : 0): void {
    const at = this.#at
    const isFirst = at % madeSegmentSize === 0
    this.#bytes.writeUInt16LE(0xd116, at)
    this.#bytes.writeUInt16LE(flags | (isFirst ? 0x0002 : 0), at + 2)
    this.#bytes.writeUInt32LE(this.#timeline, at + 4)
    this.#bytes.writeBigUInt64LE(this.#start + BigInt(at), at + 8)
    this.#bytes.writeUInt32LE(remaining, at + 16)
    if (isFirst) {
      this.#bytes.writeBigUInt64LE(madeSystemId, at + 24)
      this.#bytes.writeUInt32LE(madeSegmentSize, at + 32)
      this.#bytes.writeUInt32LE(walPageSize, at + 36)
    }
    this.#at += isFirst ? 40 : 24
  }
}
