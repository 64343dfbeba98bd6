/**
 * Contiguous WAL bytes in, full segments out. Only the exact next LSN is accepted. After a broken connection the
 * stream starts again at the segment's first byte and what was already received is compared, not believed: other bytes
 * at a position that we have seen mean that the two connections do not talk to the same history.
 */
import { WalrxError } from '../../primitives/errors.ts'
import { addBytes, formatLsn, type Lsn, segmentOffset, segmentStart, type Timeline } from '../../postgres/lsn.ts'
import type { SegmentPool } from './segment-pool.ts'

/** A segment, whole or not yet, in a pool buffer. */
export interface ReceivedSegment {
  readonly timeline: Timeline
  readonly startLsn: Lsn
  /** From the pool; the receiver of the segment gives it back. */
  readonly buffer: Buffer
  /** Bytes of WAL in the buffer; the segment size when it is whole. */
  readonly length: number
}

const nothing = Buffer.alloc(0)

/** Collects one segment at a time. */
export class SegmentAssembler {
  readonly #pool: SegmentPool
  readonly #onSegment: (segment: ReceivedSegment) => void
  #timeline: Timeline = 0
  #startLsn = 0n as Lsn
  /** The position that must come next. */
  #nextLsn = 0n as Lsn
  #buffer: Buffer | undefined
  /** Bytes of the buffer that are WAL: after a restart of the stream, ahead of #nextLsn. */
  #length = 0
  /** Bytes of the buffer that came from the archive. */
  #archivedLength = 0

  /** @param onSegment gets each whole segment, with its buffer */
  constructor(pool: SegmentPool, onSegment: (segment: ReceivedSegment) => void) {
    this.#pool = pool
    this.#onSegment = onSegment
  }

  /** Position of the next byte of this stream: everything before it was received. */
  get nextLsn(): Lsn {
    return this.#nextLsn
  }

  /** One past the last byte held, which is ahead of nextLsn while the stream repeats what a broken one had brought. */
  get heldEnd(): Lsn {
    return addBytes(this.#startLsn, this.#length)
  }

  /** What is held of the present segment; the buffer is undefined memory while `length` is 0. */
  get held(): ReceivedSegment {
    const buffer = this.#buffer ?? nothing
    return { timeline: this.#timeline, startLsn: this.#startLsn, buffer, length: this.#length }
  }

  /** Start of the segment being assembled. */
  get segmentStart(): Lsn {
    return this.#startLsn
  }

  get timeline(): Timeline {
    return this.#timeline
  }

  /** True when bytes of an unfinished segment are held. */
  get holdsPartial(): boolean {
    return this.#length > 0
  }

  /**
   * Takes what the archive has of a segment already, before the stream that begins with it: it is compared with what the
   * server sends, and other bytes are an error that ends the receiver.
   * @param buffer from the pool
   */
  preload({ timeline, startLsn, buffer, length }: ReceivedSegment): void {
    if (this.#buffer) throw new Error(`WAL from ${formatLsn(this.#startLsn)} on would be forgotten`)
    this.#timeline = timeline
    this.#startLsn = startLsn
    this.#nextLsn = startLsn
    this.#buffer = buffer
    this.#length = length
    this.#archivedLength = length
  }

  /**
   * A stream begins at `startLsn`, the first byte of a segment. What is held of that very segment and timeline is kept
   * for comparison; anything else held must have been taken away by {@link takePartial} before.
   */
  begin(timeline: Timeline, startLsn: Lsn): void {
    if (segmentOffset(startLsn, this.#pool.segmentSize) !== 0)
      throw new Error(`${formatLsn(startLsn)} starts no segment`)
    if (this.holdsPartial && (timeline !== this.#timeline || startLsn !== this.#startLsn)) {
      throw new Error(`WAL from ${formatLsn(this.#startLsn)} on timeline ${this.#timeline} would be forgotten`)
    }
    this.#timeline = timeline
    this.#startLsn = startLsn
    this.#nextLsn = startLsn
  }

  /**
   * Takes bytes that begin at `lsn`.
   * @returns how many were taken: fewer when the pool has no buffer for the next segment
   * @throws WALRX_WAL_GAP when `lsn` is not the next position, WALRX_WAL_DIVERGED when bytes differ from those held
   */
  write(lsn: Lsn, bytes: Uint8Array): number {
    if (lsn !== this.#nextLsn) {
      const kind = lsn > this.#nextLsn ? 'a gap' : 'an overlap'
      throw new WalrxError(
        'WALRX_WAL_GAP',
        `the server sent WAL at ${formatLsn(lsn)}, expected ${formatLsn(this.#nextLsn)}: ${kind} on timeline ${this.#timeline}`,
      )
    }
    let taken = 0
    while (taken < bytes.length) {
      const written = this.#writeWithinSegment(bytes.subarray(taken))
      if (written === 0) break
      taken += written
    }
    return taken
  }

  #writeWithinSegment(bytes: Uint8Array): number {
    const size = this.#pool.segmentSize
    const offset = Number(this.#nextLsn - this.#startLsn)
    this.#buffer ??= this.#pool.take()
    if (!this.#buffer) return 0
    const count = Math.min(bytes.length, size - offset)
    const known = Math.min(count, Math.max(0, this.#length - offset))
    if (known > 0) this.#compare(bytes.subarray(0, known), offset)
    if (known < count) {
      this.#buffer.set(bytes.subarray(known, count), offset + known)
      this.#length = offset + count
    }
    this.#nextLsn = addBytes(this.#nextLsn, count)
    if (offset + count === size) this.#complete()
    return count
  }

  #compare(bytes: Uint8Array, offset: number): void {
    if (this.#buffer?.compare(bytes, 0, bytes.length, offset, offset + bytes.length) === 0) return
    const at = addBytes(this.#startLsn, offset)
    if (offset < this.#archivedLength) {
      const end = addBytes(this.#startLsn, this.#archivedLength)
      throw new WalrxError(
        'WALRX_ARCHIVE_CONFLICT',
        `the archive holds different WAL of timeline ${this.#timeline} between ${formatLsn(at)} and ${formatLsn(end)} than the server sends`,
        {
          hint: 'another server writes to this archive, or this one was restored or lost WAL: see walrx wal-finalize --set-aside',
        },
      )
    }
    throw new WalrxError(
      'WALRX_WAL_DIVERGED',
      `the server sent different bytes for WAL between ${formatLsn(at)} and ${formatLsn(addBytes(at, bytes.length))} of timeline ${this.#timeline} than it had sent before`,
      { hint: 'what was received first is kept as a .partial; find out which server answers at this address' },
    )
  }

  #complete(): void {
    const segment = this.#take()
    this.#startLsn = this.#nextLsn
    if (segment) this.#onSegment(segment)
  }

  /** Hands over the unfinished segment with its buffer, or undefined when nothing is held. */
  takePartial(): ReceivedSegment | undefined {
    const partial = this.#length > 0 ? this.#take() : undefined
    if (!partial) this.discard()
    return partial
  }

  /** Drops the unfinished segment and gives its buffer back: the server still has it, kept by the slot. */
  discard(): void {
    if (this.#buffer) this.#pool.give(this.#buffer)
    this.#buffer = undefined
    this.#length = 0
    this.#archivedLength = 0
    this.#nextLsn = segmentStart(this.#startLsn, this.#pool.segmentSize)
  }

  #take(): ReceivedSegment | undefined {
    if (!this.#buffer) return undefined
    const segment = { timeline: this.#timeline, startLsn: this.#startLsn, buffer: this.#buffer, length: this.#length }
    this.#buffer = undefined
    this.#length = 0
    this.#archivedLength = 0
    return segment
  }
}
