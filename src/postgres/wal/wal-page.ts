/**
 * Headers of WAL pages (XLogPageHeaderData and XLogLongPageHeaderData, access/xlog_internal.h), and the checks that a
 * received or fetched segment must pass. Little-endian servers only: WAL is in the server's native byte order.
 *
 * Layout, offsets in bytes: 0 magic u16, 2 info u16, 4 timeline u32, 8 page address u64, 16 remaining length u32,
 * 20 padding; in the long header of a segment's first page also 24 system identifier u64, 32 segment size u32,
 * 36 page size u32.
 */
import { WalrxError } from '../../primitives/errors.ts'
import { formatLsn, type Lsn, type Timeline, toLsn } from '../lsn.ts'

/** XLOG_BLCKSZ of every common build; the long header has the server's own value. */
export const walPageSize = 8192

/** Bytes of a long page header, the minimum that identifies a segment. */
export const longHeaderSize = 40

const longHeaderFlag = 0x0002
/** Smallest XLOG_PAGE_MAGIC that WAL-G accepts as a little-endian WAL page. */
const magicMin = 0xd061
const magicMax = 0xd1ff

/** XLOG_PAGE_MAGIC by major version (xlog_internal.h of each branch). */
const magicByMajor: ReadonlyMap<number, number> = new Map([
  [13, 0xd106],
  [14, 0xd10d],
  [15, 0xd110],
  [16, 0xd113],
  [17, 0xd116],
  [18, 0xd118],
  [19, 0xd122],
])

/** The magic of a server with this `server_version_num`; undefined for major versions that are not in the table. */
export function walMagic(serverVersion: number): number | undefined {
  return magicByMajor.get(Math.floor(serverVersion / 10_000))
}

/** A decoded page header. */
export interface WalPageHeader {
  readonly magic: number
  readonly timeline: Timeline
  /** LSN of the page's first byte. */
  readonly pageAddress: Lsn
  /** Present in the long header, which the first page of every segment has. */
  readonly long: { readonly systemId: bigint; readonly segmentSize: number; readonly pageSize: number } | undefined
}

/**
 * Decodes the page header at `offset`. Needs 40 bytes there for a long header, 24 otherwise.
 * @returns undefined when the magic is not that of a little-endian WAL page, or there are too few bytes
 */
export function decodePageHeader(bytes: Buffer, offset = 0): WalPageHeader | undefined {
  if (bytes.length - offset < 24) return undefined
  const magic = bytes.readUInt16LE(offset)
  if (magic < magicMin || magic > magicMax) return undefined
  const isLong = (bytes.readUInt16LE(offset + 2) & longHeaderFlag) !== 0
  if (isLong && bytes.length - offset < longHeaderSize) return undefined
  return {
    magic,
    timeline: bytes.readUInt32LE(offset + 4),
    pageAddress: toLsn(bytes.readBigUInt64LE(offset + 8)),
    long: isLong
      ? {
          systemId: bytes.readBigUInt64LE(offset + 24),
          segmentSize: bytes.readUInt32LE(offset + 32),
          pageSize: bytes.readUInt32LE(offset + 36),
        }
      : undefined,
  }
}

/** The expected properties of a segment. */
export interface ExpectedSegment {
  /** For messages. */
  readonly name: string
  readonly timeline: Timeline
  readonly startLsn: Lsn
  readonly segmentSize: number
  /** Checked when known. */
  readonly systemId: bigint | undefined
  /** The magic of the server's version; when unknown, all pages must have the first page's. */
  readonly magic: number | undefined
}

/**
 * Checks the long header at the start of a segment: magic, page address, timeline, system identifier, segment size.
 * @param bytes the segment's first {@link longHeaderSize} bytes or more
 * @returns the magic and page size that the other pages must have
 * @throws WALRX_WAL_INVALID with the field and both values
 */
export function checkSegmentHeader(bytes: Buffer, expected: ExpectedSegment): { magic: number; pageSize: number } {
  const header = decodePageHeader(bytes)
  const invalid = (what: string) => new WalrxError('WALRX_WAL_INVALID', `segment ${expected.name} ${what}`)
  if (!header) throw invalid(`does not begin with a WAL page header (magic 0x${hex(bytes, 0)})`)
  if (!header.long) throw invalid('lacks the long header of a first page')
  if (expected.magic !== undefined && header.magic !== expected.magic) {
    throw invalid(
      `has page magic 0x${header.magic.toString(16)}, but its server writes 0x${expected.magic.toString(16)}`,
    )
  }
  if (header.pageAddress !== expected.startLsn) {
    throw invalid(`holds the page at ${formatLsn(header.pageAddress)} instead of ${formatLsn(expected.startLsn)}`)
  }
  if (header.timeline > expected.timeline) {
    throw invalid(`is of timeline ${header.timeline}, but its name is of timeline ${expected.timeline}`)
  }
  if (expected.systemId !== undefined && header.long.systemId !== expected.systemId) {
    throw invalid(`has system identifier ${header.long.systemId}, but ${expected.systemId} was expected`)
  }
  if (header.long.segmentSize !== expected.segmentSize) {
    throw invalid(`has wal_segment_size ${header.long.segmentSize}, but ${expected.segmentSize} was expected`)
  }
  const pageSize = header.long.pageSize
  if (pageSize < 1024 || pageSize > 65_536 || (pageSize & (pageSize - 1)) !== 0) {
    throw invalid(`has an invalid WAL page size of ${pageSize} bytes`)
  }
  return { magic: header.magic, pageSize }
}

/**
 * Checks every page of a whole segment: the long header of the first, then magic, address and timeline of each, up to
 * the zeros with which the server filled the segment after a switch (pages from there on must be zero to the end:
 * CopyXLogRecordToWAL in xlog.c clears even their headers).
 * @param bytes the segment, exactly `expected.segmentSize` bytes
 * @throws WALRX_WAL_INVALID with the page and both values
 */
export function checkSegment(bytes: Buffer, expected: ExpectedSegment): void {
  const { magic, pageSize } = checkSegmentHeader(bytes, expected)
  for (let offset = pageSize; offset < expected.segmentSize; offset += pageSize) {
    if (checkPageHeader(bytes, offset, { ...expected, magic }, offset)) continue
    const nonZero = firstNonZero(bytes, offset, expected.segmentSize)
    if (nonZero === -1) return
    throw emptyPageError(expected, offset, nonZero)
  }
}

/** Bytes of a page header that {@link checkPageHeader} reads. */
export const checkedPageHeaderSize = 16

/**
 * Checks the header of a page after the first one of a segment: magic, address, timeline.
 * @param bytes has {@link checkedPageHeaderSize} bytes from `at` on
 * @param expected `magic` is the first page's
 * @param offset of the page within the segment, in bytes
 * @returns false when the page is empty: then everything from it on must be zero
 * @throws WALRX_WAL_INVALID with the page and both values
 */
export function checkPageHeader(
  bytes: Buffer,
  at: number,
  expected: Pick<ExpectedSegment, 'name' | 'timeline' | 'startLsn'> & { readonly magic: number },
  offset: number,
): boolean {
  const magic = bytes.readUInt16LE(at)
  if (magic === 0) return false
  const page = () => `segment ${expected.name}, page at ${formatLsn(toLsn(expected.startLsn + BigInt(offset)))}`
  if (magic !== expected.magic) {
    throw new WalrxError(
      'WALRX_WAL_INVALID',
      `${page()} has magic 0x${hex(bytes, at)} instead of 0x${expected.magic.toString(16)}`,
    )
  }
  const address = bytes.readBigUInt64LE(at + 8)
  if (address !== expected.startLsn + BigInt(offset)) {
    throw new WalrxError('WALRX_WAL_INVALID', `${page()} has the address ${formatLsn(toLsn(address))}`)
  }
  const timeline = bytes.readUInt32LE(at + 4)
  if (timeline > expected.timeline) {
    throw new WalrxError(
      'WALRX_WAL_INVALID',
      `${page()} is of timeline ${timeline}, but the name is of timeline ${expected.timeline}`,
    )
  }
  return true
}

/** The error of a segment with WAL after an empty page; both offsets count from its start, in bytes. */
export function emptyPageError(
  expected: Pick<ExpectedSegment, 'name' | 'startLsn'>,
  offset: number,
  nonZero: number,
): WalrxError {
  const page = formatLsn(toLsn(expected.startLsn + BigInt(offset)))
  return new WalrxError(
    'WALRX_WAL_INVALID',
    `segment ${expected.name}, page at ${page} is empty although WAL follows at byte ${nonZero}`,
  )
}

const zeros = Buffer.alloc(64 * 1024)

/** Index of the first byte in [start, end) that is not zero, or -1. Compares 64 KiB at a time. */
export function firstNonZero(bytes: Buffer, start: number, end: number): number {
  for (let at = start; at < end; at += zeros.length) {
    const stop = Math.min(end, at + zeros.length)
    if (zeros.compare(bytes, at, stop, 0, stop - at) === 0) continue
    for (let index = at; index < stop; index++) if (bytes[index] !== 0) return index
  }
  return -1
}

function hex(bytes: Buffer, offset: number): string {
  return bytes.length >= offset + 2 ? bytes.readUInt16LE(offset).toString(16).padStart(4, '0') : 'none'
}
