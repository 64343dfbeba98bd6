/**
 * The WAL of an archive in numbers: for a million segments sixteen megabytes, and no names. It is what a plan is made
 * from, so that the plan is a function of it and asks nobody.
 */
import { type Lsn, type Timeline } from '../../postgres/lsn.ts'
import type { HistoryEntry } from '../../postgres/wal/wal-file.ts'
import { type WalKey, type WalObjectKind } from './wal-keys.ts'

/** Objects in a block of a column: 96 KB. */
const blockObjects = 4096

/** Objects of one kind on one timeline, in the order of their keys: the segments that each is about, and its size. */
export class WalColumn {
  /** Three numbers an object, in blocks, so that nothing is copied when the column grows. */
  readonly #blocks: Float64Array[] = []
  #length = 0

  /** How many objects. */
  get length(): number {
    return this.#length
  }

  /** Adds an object after those before. @param bytes its size in the storage */
  add(first: number, last: number, bytes: number): void {
    const at = (this.#length % blockObjects) * 3
    if (at === 0) this.#blocks.push(new Float64Array(blockObjects * 3))
    this.#blocks.at(-1)?.set([first, last, bytes], at)
    this.#length++
  }

  /** Number of the first segment that an object is about. */
  first(index: number): number {
    return this.#number(index, 0)
  }

  /** Number of the last one. */
  last(index: number): number {
    return this.#number(index, 1)
  }

  /** Size of an object. */
  bytes(index: number): number {
    return this.#number(index, 2)
  }

  /** Index of the first object that begins at segment `segno` or after it. */
  from(segno: number): number {
    let [low, high] = [0, this.#length]
    while (low < high) {
      const middle = (low + high) >>> 1
      if (this.first(middle) < segno) low = middle + 1
      else high = middle
    }
    return low
  }

  /** True where an object begins at this segment. */
  has(segno: number): boolean {
    return this.first(this.from(segno)) === segno
  }

  #number(index: number, offset: number): number {
    return this.#blocks[Math.floor(index / blockObjects)]?.[(index % blockObjects) * 3 + offset] ?? Number.NaN
  }
}

/** What the archive has of one timeline. */
export class TimelineStock {
  readonly columns = new Map<WalObjectKind, WalColumn>()
  /** Where the chunks of each unfinished segment end, as an offset in it: few, for a tail goes with its segment. */
  readonly tailEnds = new Map<number, number>()
  /** When the newest segment or chunk was written, in milliseconds since 1970 by the clock of the storage. */
  newestMs = 0

  /** The last segment, by number, that was written to within the last day; -1 for none. */
  lastRecent = -1

  /** Numbers of segments that are there without a byte. */
  readonly emptySegments = new Set<number>()

  readonly #recentMs: number

  /** @param recentMs from when on something counts for {@link lastRecent}, by the clock of the storage */
  constructor(recentMs: number) {
    this.#recentMs = recentMs
  }

  /** Adds what a listing shows, in its order. */
  add({ first, kind, last, to }: WalKey, bytes: number, lastModifiedMs: number): void {
    let column = this.columns.get(kind)
    if (!column) this.columns.set(kind, (column = new WalColumn()))
    column.add(first, last, bytes)
    if (kind === 'segment' && bytes === 0) this.emptySegments.add(first)
    if (to !== undefined) this.tailEnds.set(first, Math.max(to, this.tailEnds.get(first) ?? 0))
    if (kind !== 'segment' && kind !== 'chunk') return
    this.newestMs = Math.max(this.newestMs, lastModifiedMs)
    if (lastModifiedMs > this.#recentMs) this.lastRecent = Math.max(this.lastRecent, last)
  }

  /** True where the archive has a segment: whole, or its beginning. An object without a byte is none. */
  holds(segno: number): boolean {
    const kinds: readonly WalObjectKind[] = this.emptySegments.has(segno)
      ? ['partial', 'chunk']
      : ['segment', 'partial', 'chunk']
    return kinds.some((kind) => this.columns.get(kind)?.has(segno) === true)
  }
}

/** A record of lost WAL, or of a break. */
export interface StoredGap {
  readonly timeline: Timeline
  readonly startLsn: Lsn
  readonly endLsn: Lsn
}

/** The WAL of an archive. */
export interface WalStock {
  readonly timelines: ReadonlyMap<Timeline, TimelineStock>
  /** Where the timelines came from, oldest ancestor first; a timeline is missing whose history is, or cannot be read. */
  readonly histories: ReadonlyMap<Timeline, readonly HistoryEntry[]>
  readonly gaps: readonly StoredGap[]
}
