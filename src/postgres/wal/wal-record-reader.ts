/**
 * Finds the records in a stream of WAL: whole segments of one history, in order, from any segment on. Records may cross
 * pages and segments and have any length: only the head of a record is kept, the rest only goes into the CRC.
 *
 * The stream ends where PostgreSQL would end it (xlogreader.c): at a page that is not the next one, an impossible
 * record length, a record with a wrong CRC or a wrong pointer to the previous record, or a record that its next page
 * does not continue. Later bytes are skipped.
 */
import { crc32c } from '@node-rs/crc32'
import { WalrxError } from '../../primitives/errors.ts'
import { type Lsn, toLsn } from '../lsn.ts'
import { decodePageHeader, longHeaderSize } from './wal-page.ts'
import { isSwitch, recordHeaderSize, recordHeadSize, type WalRecord } from './wal-record.ts'

/** Bytes of the header of a page that is not the first one of a segment (SizeOfXLogShortPHD). */
const shortHeaderSize = 24

/** Flags of a page (xlp_info): it begins inside a record; the record before it was abandoned. */
const pageContinuesRecord = 0x0001
const pageOverwritesRecord = 0x0008

/** Alignment of records (MAXALIGN). */
const alignment = 8

/** See the file's header. Pass the bytes to {@link WalRecordReader.write}. */
export class WalRecordReader {
  readonly #onRecord: (record: WalRecord) => void
  /** The last bytes, less than a page. */
  #pending: Buffer = Buffer.alloc(0)
  #pageSize = 0
  #segmentSize = 0n
  /** Address of the next page. */
  #next = 0n
  #isFirstPage = true
  #end: Lsn | undefined
  /** After a switch: the next segment's first byte. */
  #resumeAt = 0n

  /** The current record with its first bytes. A record that began before the stream is skipped. */
  #isInRecord = false
  #isKnown = false
  #start = 0n
  #remaining = 0
  #crc = 0
  #kept = 0
  readonly #keptBytes = Buffer.alloc(recordHeaderSize + recordHeadSize)
  /** Start of the last complete record, which the next one must point to. */
  #previous: bigint | undefined

  /** @param onRecord called for every complete record, in order, while {@link write} runs */
  constructor(onRecord: (record: WalRecord) => void) {
    this.#onRecord = onRecord
  }

  /** The LSN from which on the bytes are not WAL; undefined as long as all of them are. */
  get end(): Lsn | undefined {
    return this.#end
  }

  /**
   * Takes the next bytes; the first ones must be the start of a segment.
   * @throws WALRX_WAL_INVALID when they do not begin with the header of a segment; what `onRecord` throws
   */
  write(chunk: Uint8Array): void {
    const view = Buffer.from(chunk.buffer, chunk.byteOffset, chunk.length)
    const bytes = this.#pending.length > 0 ? Buffer.concat([this.#pending, view]) : view
    if (this.#pageSize === 0 && bytes.length >= longHeaderSize) this.#open(bytes)
    let at = 0
    if (this.#pageSize > 0) {
      for (; bytes.length - at >= this.#pageSize; at += this.#pageSize) {
        this.#readPage(bytes.subarray(at, at + this.#pageSize))
      }
    }
    // A copy: the chunk is valid only during the call.
    this.#pending = Buffer.from(bytes.subarray(at))
  }

  #open(bytes: Buffer): void {
    const header = decodePageHeader(bytes)
    const pageSize = header?.long?.pageSize ?? 0
    if (!header?.long || pageSize < 1024 || pageSize > 65_536 || (pageSize & (pageSize - 1)) !== 0) {
      throw new WalrxError('WALRX_WAL_INVALID', 'a segment does not begin with the header of its first page')
    }
    this.#pageSize = pageSize
    this.#segmentSize = BigInt(header.long.segmentSize)
    this.#next = header.pageAddress
  }

  #readPage(page: Buffer): void {
    const address = this.#next
    this.#next += BigInt(this.#pageSize)
    if (this.#end !== undefined || address < this.#resumeAt) return
    const header = decodePageHeader(page)
    if (header?.pageAddress !== address || !this.#continues(page)) {
      this.#stop(this.#isInRecord && this.#isKnown ? this.#start : address)
      return
    }
    this.#isFirstPage = false
    let at = header.long ? longHeaderSize : shortHeaderSize
    while (at < page.length) {
      if (!this.#isInRecord && !this.#begin(page, at, address)) return
      const stop = Math.min(at + this.#remaining, page.length)
      this.#take(page, at, stop)
      at = Math.ceil(stop / alignment) * alignment
      if (this.#remaining > 0) continue
      if (!this.#finish(address + BigInt(at)) || address < this.#resumeAt) return
    }
  }

  /** Checks that a page continues the current record; false when it doesn't. */
  #continues(page: Buffer): boolean {
    const flags = page.readUInt16LE(2)
    const remaining = page.readUInt32LE(16)
    const isInside = (flags & pageContinuesRecord) !== 0
    // The server crashed after the start of the record, and could not complete it (CreateOverwriteContrecordRecord).
    if ((flags & pageOverwritesRecord) !== 0) this.#isInRecord = false
    if (this.#isInRecord) return isInside && remaining === this.#remaining
    if (!isInside) return true
    if (!this.#isFirstPage) return false
    this.#isInRecord = remaining > 0
    this.#isKnown = false
    this.#remaining = remaining
    return true
  }

  /** Starts the record at `at`; false when there is none. */
  #begin(page: Buffer, at: number, address: bigint): boolean {
    // A length never crosses a page, because records begin at multiples of 8.
    const length = page.readUInt32LE(at)
    this.#start = address + BigInt(at)
    if (length < recordHeaderSize) {
      this.#stop(this.#start)
      return false
    }
    this.#isInRecord = true
    this.#isKnown = true
    this.#remaining = length
    this.#crc = 0
    this.#kept = 0
    return true
  }

  #take(page: Buffer, start: number, stop: number): void {
    this.#remaining -= stop - start
    if (!this.#isKnown) return
    if (this.#kept < this.#keptBytes.length) {
      const missing = Math.max(0, recordHeaderSize - this.#kept)
      this.#kept += page.copy(this.#keptBytes, this.#kept, start, stop)
      start += missing
    }
    if (start < stop) this.#crc = crc32c(page.subarray(start, stop), this.#crc)
  }

  /** Checks a complete record; false when it is wrong. */
  #finish(end: bigint): boolean {
    this.#isInRecord = false
    if (!this.#isKnown) return true
    const bytes = this.#keptBytes
    const isRight =
      crc32c(bytes.subarray(0, recordHeaderSize - 4), this.#crc) === bytes.readUInt32LE(recordHeaderSize - 4) &&
      (this.#previous === undefined || bytes.readBigUInt64LE(8) === this.#previous)
    if (!isRight) {
      this.#stop(this.#start)
      return false
    }
    this.#previous = this.#start
    const kind = { info: bytes.readUInt8(16), resourceManager: bytes.readUInt8(17) }
    if (isSwitch(kind)) {
      this.#resumeAt = ((end + this.#segmentSize - 1n) / this.#segmentSize) * this.#segmentSize
      end = this.#resumeAt
    }
    const head = bytes.subarray(recordHeaderSize, this.#kept)
    this.#onRecord({ start: toLsn(this.#start), end: toLsn(end), ...kind, head })
    return true
  }

  #stop(at: bigint): void {
    this.#end = toLsn(at)
    this.#isInRecord = false
  }
}
