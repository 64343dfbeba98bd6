/**
 * The checks that a WAL segment must pass before a server gets it, made while its bytes stream by: it is exactly one
 * segment long, it begins with the page that its name promises, it is of the right cluster, and every further page is
 * in its place.
 *
 * PostgreSQL takes an invalid page for the end of WAL: it would end recovery there and promote. So the whole segment is
 * checked before the server sees any of it.
 */
import { WalrxError } from '../../primitives/errors.ts'
import {
  checkedPageHeaderSize,
  checkPageHeader,
  checkSegmentHeader,
  decodePageHeader,
  emptyPageError,
  firstNonZero,
  longHeaderSize,
} from '../../postgres/wal/wal-page.ts'
import { parseSegmentName, segmentSizeMax, segmentSizeMin, segmentStartLsn } from '../../postgres/wal/wal-file.ts'
import type { Lsn, Timeline } from '../../postgres/lsn.ts'

/** A system identifier that segments must have. `source` says where it comes from: `the archive is bound to`. */
export interface RequiredSystem {
  readonly systemId: bigint
  readonly source: string
}

/** What is known about a segment before it is read. */
export interface SegmentRequirements {
  /** 24 hex digits. */
  readonly name: string
  /** Undefined: the size in the segment's own header. */
  readonly segmentSize?: number | undefined
  readonly systems?: readonly RequiredSystem[]
}

/** The content of the first page, once it has passed. */
interface Verified {
  readonly name: string
  readonly timeline: Timeline
  readonly startLsn: Lsn
  readonly segmentSize: number
  readonly magic: number
  readonly pageSize: number
}

/** Checks one segment. Pass the bytes in order to {@link SegmentCheck.write}, then call {@link SegmentCheck.finish}. */
export class SegmentCheck {
  readonly #required: SegmentRequirements
  /** Bytes seen. */
  #length = 0
  #verified: Verified | undefined
  /** The first bytes of a header that has not arrived whole. */
  readonly #partial = Buffer.alloc(longHeaderSize)
  #partialLength = 0
  /** Offset of the next page header. */
  #nextPage = 0
  /** Offset of the first empty page, if any. */
  #emptyFrom: number | undefined

  constructor(required: SegmentRequirements) {
    this.#required = required
  }

  /** The segment's size in bytes, as soon as its first page has passed. */
  get segmentSize(): number | undefined {
    return this.#verified?.segmentSize
  }

  /**
   * Takes the next bytes.
   * @throws WALRX_WAL_INVALID with the page and both values; WALRX_OTHER_CLUSTER; WALRX_USAGE for another segment size
   * than expected
   */
  write(chunk: Uint8Array): void {
    const bytes = Buffer.from(chunk.buffer, chunk.byteOffset, chunk.length)
    for (let at = 0; at < bytes.length;) at += this.#take(bytes, at)
    if (this.#verified && this.#length > this.#verified.segmentSize) {
      throw this.#invalid(`has more than its ${this.#verified.segmentSize} bytes`)
    }
  }

  /**
   * Call this after the last bytes.
   * @returns the segment's size in bytes
   * @throws WALRX_WAL_INVALID when bytes are missing
   */
  finish(): number {
    if (!this.#verified) throw this.#invalid(`has ${this.#length} bytes, less than a page header`)
    const { segmentSize } = this.#verified
    if (this.#length !== segmentSize) throw this.#invalid(`has ${this.#length} bytes instead of ${segmentSize}`)
    return segmentSize
  }

  /** Consumes some of `bytes` from `at` on; returns how many. */
  #take(bytes: Buffer, at: number): number {
    const left = bytes.length - at
    if (this.#emptyFrom !== undefined) return this.#takeEmpty(bytes, at)
    const untilPage = this.#nextPage - this.#length
    if (untilPage > 0) {
      const skipped = Math.min(untilPage, left)
      this.#length += skipped
      return skipped
    }
    const needed = this.#verified ? checkedPageHeaderSize : longHeaderSize
    const taken = Math.min(needed - this.#partialLength, left)
    if (taken === needed) {
      this.#checkHeader(bytes, at)
    } else {
      bytes.copy(this.#partial, this.#partialLength, at, at + taken)
      this.#partialLength += taken
      if (this.#partialLength === needed) {
        this.#partialLength = 0
        this.#checkHeader(this.#partial, 0)
      }
    }
    this.#length += taken
    return taken
  }

  #takeEmpty(bytes: Buffer, at: number): number {
    const nonZero = firstNonZero(bytes, at, bytes.length)
    if (nonZero !== -1) throw this.#notEmpty(this.#length + nonZero - at)
    this.#length += bytes.length - at
    return bytes.length - at
  }

  /** Checks the header of the page at `#nextPage`, which is in `bytes` from `at` on. */
  #checkHeader(bytes: Buffer, at: number): void {
    if (!this.#verified) {
      this.#verified = verifyFirstPage(bytes.subarray(at, at + longHeaderSize), this.#required)
    } else if (!checkPageHeader(bytes, at, this.#verified, this.#nextPage)) {
      this.#emptyFrom = this.#nextPage
      const nonZero = firstNonZero(bytes, at, at + checkedPageHeaderSize)
      if (nonZero !== -1) throw this.#notEmpty(this.#nextPage + nonZero - at)
    }
    this.#nextPage += this.#verified.pageSize
  }

  #notEmpty(nonZero: number): WalrxError {
    const verified = this.#verified
    if (!verified) throw new WalrxError('WALRX_INTERNAL', 'an empty page was found before the first page')
    return emptyPageError(verified, this.#emptyFrom ?? this.#nextPage, nonZero)
  }

  #invalid(what: string): WalrxError {
    return new WalrxError('WALRX_WAL_INVALID', `segment ${this.#required.name} ${what}`)
  }
}

/** Checks the first page's header against the name, and against everything else that is known. */
function verifyFirstPage(bytes: Buffer, required: SegmentRequirements): Verified {
  const { name } = required
  const said = decodePageHeader(bytes)?.long
  for (const { source, systemId } of required.systems ?? []) {
    if (!said || said.systemId === systemId) continue
    throw new WalrxError(
      'WALRX_OTHER_CLUSTER',
      `segment ${name} has system identifier ${said.systemId}, but ${source} ${systemId}`,
      { hint: 'the storage prefix or the data directory belongs to another cluster: correct it' },
    )
  }
  const saidSize = plausibleSize(said?.segmentSize)
  const segmentSize = required.segmentSize ?? saidSize ?? segmentSizeMin
  if (saidSize !== undefined && saidSize !== segmentSize) {
    throw new WalrxError(
      'WALRX_USAGE',
      `segment ${name} has wal_segment_size ${saidSize} bytes, but ${segmentSize} bytes were expected`,
      { hint: 'correct WALG_PG_WAL_SIZE or unset it: walrx reads the size from the segments' },
    )
  }
  const id = parseSegmentName(name, segmentSize)
  if (!id) {
    throw new WalrxError(
      'WALRX_WAL_INVALID',
      `${name} is not a valid segment name for a segment size of ${segmentSize} bytes`,
    )
  }
  const startLsn = segmentStartLsn(id, segmentSize)
  const expected = { name, timeline: id.timeline, startLsn, segmentSize, systemId: undefined, magic: undefined }
  return { ...expected, ...checkSegmentHeader(bytes, expected) }
}

/** A segment size that a server can have, or undefined. */
function plausibleSize(size: number | undefined): number | undefined {
  if (size === undefined || size < segmentSizeMin || size > segmentSizeMax || (size & (size - 1)) !== 0)
    return undefined
  return size
}
