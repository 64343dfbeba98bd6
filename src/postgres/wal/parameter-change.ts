/**
 * Finds the records in which a server writes down its wal_level (XLOG_PARAMETER_CHANGE, written by XLogReportParameters in
 * xlog.c at the start of a server whose settings have changed). WAL that was written with `minimal` lacks changes: a
 * recovery ends at that record, with "WAL was generated with wal_level=minimal, cannot continue recovering".
 *
 * The record (xl_parameter_change in access/xlog_internal.h, the same from PostgreSQL 14 to 19) always has 54 bytes: the
 * header, two bytes, five integers, wal_level as the sixth, two booleans and two bytes of padding. No transaction writes
 * it, so its first eight bytes are known and never cross a page: they are searched for as bytes, and a checksum shows which
 * of the places is such a record.
 *
 * Seven of these bytes are searched for, unless the first one is frequent. For so few Node asks memchr for the first; for eight
 * it makes tables (Boyer-Moore, kBMMinPatternLength in string_search.h of its dependency nbytes). CPU-seconds per GB:
 *
 * |            | pgbench's WAL | random bytes | random digits | nothing but the first byte |
 * | 7 bytes    | 0.07          | 0.09         | 0.65          | 5.65                       |
 * | 8 bytes    | 0.60          | 0.50         | 0.52          | 0.59                       |
 */
import { crc32c } from '@node-rs/crc32'
import { addBytes, type Lsn } from '../lsn.ts'
import { longHeaderSize } from './wal-page.ts'
import { recordHeaderSize } from './wal-record.ts'

/** One such record. */
export interface ParameterChange {
  /** Its first byte. */
  readonly lsn: Lsn
  /** 0 is `minimal`, 1 `replica`, 2 `logical`. */
  readonly walLevel: number
}

const recordBytes = 54
/** Total length, and transaction id 0. */
const beginning = Buffer.from([recordBytes, 0, 0, 0, 0, 0, 0, 0])
const shortBeginning = beginning.subarray(0, 7)
const shortHeaderSize = 24
/** An odd number: offsets that are no multiples of a power of two. */
const samples = 1023
const alignment = 8
const crcOffset = recordHeaderSize - 4
/** After the header: XLR_BLOCK_ID_DATA_SHORT, the length, five integers. */
const walLevelOffset = recordHeaderSize + 2 + 5 * 4

/** Takes segments; those of one timeline in order, so that a record that two of them share is found. */
export class ParameterChangeFinder {
  /** The beginning of what may be such a record, at the end of the last segment. */
  #cut: { readonly lsn: Lsn; readonly nextLsn: Lsn; readonly bytes: Buffer } | undefined

  /**
   * The records that end in a segment, or in a part of it from its first byte on, in order.
   * @param startLsn its first byte
   */
  find(segment: Buffer, startLsn: Lsn): ParameterChange[] {
    if (segment.length < longHeaderSize) return []
    const found: ParameterChange[] = []
    const add = (lsn: Lsn, bytes: Buffer): void => {
      if (isParameterChange(bytes)) found.push({ lsn, walLevel: bytes.readInt32LE(walLevelOffset) })
    }
    if (this.#cut?.nextLsn === startLsn) {
      const { bytes, lsn } = this.#cut
      const rest = recordBytes - bytes.length
      add(lsn, Buffer.concat([bytes, segment.subarray(longHeaderSize, longHeaderSize + rest)]))
    }
    this.#cut = undefined
    const pageSize = segment.readUInt32LE(36)
    const searched = hasMany(segment, recordBytes) ? beginning : shortBeginning
    for (let at = segment.indexOf(searched); at >= 0; at = segment.indexOf(searched, at + 1)) {
      if (at % alignment !== 0 || segment[at + shortBeginning.length] !== 0) continue
      const bytes = recordAt(segment, at, pageSize)
      const lsn = addBytes(startLsn, at)
      if (bytes.length === recordBytes) add(lsn, bytes)
      else this.#cut = { lsn, nextLsn: addBytes(startLsn, segment.length), bytes }
    }
    return found
  }
}

/** Whether more than one byte in sixteen is this one, by a sample. */
function hasMany(segment: Buffer, byte: number): boolean {
  let count = 0
  for (let index = 0; index < samples; index++) {
    if (segment[Math.floor((index * segment.length) / samples)] === byte) count++
  }
  return count > samples / 16
}

/** The bytes of a record without the headers of pages between them; fewer at the end of the segment. */
function recordAt(segment: Buffer, at: number, pageSize: number): Buffer {
  const pageEnd = pageSize > 0 ? (Math.floor(at / pageSize) + 1) * pageSize : segment.length
  const first = segment.subarray(at, Math.min(at + recordBytes, pageEnd))
  if (first.length === recordBytes) return first
  const next = pageEnd + shortHeaderSize
  return Buffer.concat([first, segment.subarray(next, next + recordBytes - first.length)])
}

function isParameterChange(bytes: Buffer): boolean {
  if (bytes.length !== recordBytes) return false
  const [info, resourceManager] = [bytes.readUInt8(16), bytes.readUInt8(17)]
  const isKind = (info & 0xf0) === 0x60 && resourceManager === 0
  if (!isKind || bytes[recordHeaderSize] !== 0xff || bytes[recordHeaderSize + 1] !== 28) return false
  const crc = crc32c(bytes.subarray(0, crcOffset), crc32c(bytes.subarray(recordHeaderSize)))
  return crc === bytes.readUInt32LE(crcOffset)
}
