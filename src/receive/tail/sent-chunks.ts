/**
 * The chunks of each segment that are in the archive or on their way, and how far they cover the WAL without a hole.
 */
import { addBytes, type Lsn } from '../../postgres/lsn.ts'

/** One chunk: the bytes `[from, to)` of its segment. */
export interface SentChunk {
  readonly key: string
  readonly from: number
  readonly to: number
  isDurable: boolean
  /** Ends its upload: what it holds is durable elsewhere, or is not wanted any more. */
  readonly abort: AbortController
  /** Settles when its upload is over, either way. */
  over: Promise<void>
}

/** The chunks of one segment. */
export interface TailSegment {
  readonly name: string
  readonly startLsn: Lsn
  /** In the order in which they begin. */
  chunks: SentChunk[]
  /** Keys of chunks that an earlier receiver has left, which this one repeats. */
  keys: string[]
}

/** See the file's header. One run at a time. */
export class SentChunks {
  readonly #segments = new Map<Lsn, TailSegment>()
  /** Segments that are durable as a whole, maybe ahead of one that is not. */
  readonly #whole = new Set<Lsn>()
  readonly #segmentSize: number

  constructor(segmentSize: number) {
    this.#segmentSize = segmentSize
  }

  /** Segments that have chunks. */
  get segments(): readonly TailSegment[] {
    return [...this.#segments.values()]
  }

  /** The segment that begins at `startLsn`; made where it is not there. */
  segment(startLsn: Lsn, name: string): TailSegment {
    const segment = this.#segments.get(startLsn) ?? { name, startLsn, chunks: [], keys: [] }
    this.#segments.set(startLsn, segment)
    return segment
  }

  /** Takes a segment out. */
  take(startLsn: Lsn): TailSegment | undefined {
    const segment = this.#segments.get(startLsn)
    this.#segments.delete(startLsn)
    return segment
  }

  /** The segment that begins at `startLsn` is durable as a whole; those before `durable` count without being known. */
  addWhole(startLsn: Lsn, durable: Lsn): void {
    for (const known of this.#whole) if (known < durable) this.#whole.delete(known)
    this.#whole.add(startLsn)
  }

  /** Another run begins. */
  clearWhole(): void {
    this.#whole.clear()
  }

  /** Adds a chunk in order. */
  add(segment: TailSegment, chunk: SentChunk): void {
    const after = segment.chunks.findIndex(
      ({ from, to }) => from > chunk.from || (from === chunk.from && to > chunk.to),
    )
    segment.chunks.splice(after === -1 ? segment.chunks.length : after, 0, chunk)
  }

  /** Takes out the durable chunks that lie within another durable one. Returns their keys. */
  takeCovered(segment: TailSegment, by: SentChunk): string[] {
    const isCovered = (chunk: SentChunk) =>
      chunk !== by && chunk.isDurable && chunk.from >= by.from && chunk.to <= by.to
    const keys = segment.chunks.filter((chunk) => isCovered(chunk) && chunk.key !== by.key).map(({ key }) => key)
    segment.chunks = segment.chunks.filter((chunk) => !isCovered(chunk))
    return keys
  }

  /**
   * How far durable chunks and segments lead on from `lsn`, which is durable itself.
   * @returns `lsn` where they don't
   */
  durableFrom(lsn: Lsn): Lsn {
    let end = lsn
    for (;;) {
      const size = BigInt(this.#segmentSize)
      const startLsn = (end - (end % size)) as Lsn
      let covered = this.#whole.has(startLsn) ? this.#segmentSize : Number(end - startLsn)
      for (const { from, isDurable, to } of this.#segments.get(startLsn)?.chunks ?? []) {
        if (isDurable && from <= covered && to > covered) covered = to
      }
      end = addBytes(startLsn, covered)
      if (covered < this.#segmentSize) return end
    }
  }
}
