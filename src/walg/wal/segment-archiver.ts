/**
 * The one way in which a whole segment goes into the archive: its pages are checked, an observer may look at the WAL that
 * passes, it is compressed inside its own buffer, which destroys it there, and stored under a name that is written once
 * and compared with what is there already.
 *
 * Encoding and storing are two steps, for a caller that does more of the one than of the other at a time, and moves the
 * encoded bytes in between.
 */
import type { Lsn, Timeline } from '../../postgres/lsn.ts'
import { segmentNameAt } from '../../postgres/wal/wal-file.ts'
import { checkSegment, checkSegmentHeader } from '../../postgres/wal/wal-page.ts'
import type { StorageCallOptions } from '../../storage/storage.ts'

/**
 * How many segments before the newest one of a timeline may be missing because a writer stored later ones first, by a
 * writer that does not acknowledge WAL: an archive_command. Who looks for the end of the archive looks back as far.
 */
export const storedAheadMax = 64

/** A whole segment in memory. */
export interface WholeSegment {
  readonly timeline: Timeline
  /** Its first byte. */
  readonly startLsn: Lsn
  /** The segment's bytes, and room for the codec's slack after them. */
  readonly buffer: Buffer
}

/** A segment on its way into the archive. */
export interface PassingSegment {
  readonly timeline: Timeline
  /** Its first byte. */
  readonly startLsn: Lsn
  /** All of its bytes, checked and not compressed. They are valid during the call only. */
  readonly bytes: Buffer
}

/**
 * Called once for every whole segment that is encoded, before it is: whatever keeps the call busy keeps the segment
 * waiting. A segment that is received again is passed again. What it throws ends the archiving of the segment.
 */
export type SegmentObserver = (segment: PassingSegment) => void

/** Where whole segments are stored. */
export interface SegmentStore {
  /** Compresses `buffer[0, length)` in place; see SegmentEncoder. */
  encodeInPlace(buffer: Buffer, length: number): Promise<number>
  /** Archives an encoded WAL file. Throws WALRX_ARCHIVE_CONFLICT when other bytes stand under that name. */
  archive(name: string, encoded: Uint8Array, options?: StorageCallOptions): Promise<'created' | 'same'>
}

/** What {@link SegmentArchiver} needs. */
export interface SegmentArchiverOptions {
  readonly archive: SegmentStore
  /** In bytes. */
  readonly segmentSize: number
  /** System identifier of the server that wrote the segments; undefined is not checked. */
  readonly systemId: bigint | undefined
  /** XLOG_PAGE_MAGIC of that server, asked for with every segment; undefined is not checked. */
  readonly magic: () => number | undefined
  /**
   * Pages that are checked, default all. PostgreSQL's own partials may end in pages of a segment that was there before
   * (recycled), which recovery does not read: a caller that makes segments of those checks the first page only.
   */
  readonly pages?: 'all' | 'first'
  /** Looks at what passes; default nobody. */
  readonly onSegment?: SegmentObserver | undefined
  /** Settles before a segment is stored: what its observer has to record comes first. Default at once. */
  readonly beforeStore?: ((options?: StorageCallOptions) => Promise<void>) | undefined
}

/** See the file's header. */
export class SegmentArchiver {
  readonly #options: SegmentArchiverOptions

  constructor(options: SegmentArchiverOptions) {
    this.#options = options
  }

  /** Name of a segment's file. */
  nameOf({ startLsn, timeline }: Pick<WholeSegment, 'startLsn' | 'timeline'>): string {
    return segmentNameAt(timeline, startLsn, this.#options.segmentSize)
  }

  /**
   * Checks a segment, shows it to the observer, and compresses it inside its buffer.
   * @returns the part of the buffer that holds the encoded segment now
   * @throws WALRX_WAL_INVALID
   */
  async encode({ buffer, startLsn, timeline }: WholeSegment): Promise<Buffer> {
    const { archive, magic, onSegment, pages, segmentSize, systemId } = this.#options
    const name = this.nameOf({ startLsn, timeline })
    const check = pages === 'first' ? checkSegmentHeader : checkSegment
    check(buffer, { name, timeline, startLsn, segmentSize, systemId, magic: magic() })
    onSegment?.({ timeline, startLsn, bytes: buffer.subarray(0, segmentSize) })
    return buffer.subarray(0, await archive.encodeInPlace(buffer, segmentSize))
  }

  /**
   * Stores an encoded segment.
   * @param name of {@link nameOf}
   * @returns `same` when it was there with the same decoded bytes
   * @throws WALRX_ARCHIVE_CONFLICT when other bytes are there; what the storage says
   */
  async store(name: string, encoded: Uint8Array, options?: StorageCallOptions): Promise<'created' | 'same'> {
    await this.#options.beforeStore?.(options)
    return this.#options.archive.archive(name, encoded, options)
  }

  /** Both steps. Returns and throws as they do; the buffer is free when this settles, unless the signal has aborted. */
  async archive(segment: WholeSegment, options?: StorageCallOptions): Promise<'created' | 'same'> {
    return this.store(this.nameOf(segment), await this.encode(segment), options)
  }
}
