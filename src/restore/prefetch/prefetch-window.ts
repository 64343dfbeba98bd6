/** The segments that a prefetcher keeps ready: consecutive ones, from the one that the server wants next. */
import { parseSegmentName, type SegmentId, segmentName } from '../../postgres/wal/wal-file.ts'
import { WalrxError } from '../../primitives/errors.ts'
import type { Backoff } from '../../primitives/backoff.ts'

/** A segment in the window; the states are explained at the prefetcher. */
export interface Slot {
  readonly id: SegmentId
  state: 'running' | 'ready' | 'absent' | 'failed'
  /** Settles when a running download has ended, with true when the segment is ready. */
  done: Promise<boolean>
  readonly abort: AbortController
  lastProgressMs: number
  retryAtMs: number
  /** True from the first time that the archive lacked it until it is ready. */
  wasAbsent: boolean
  readonly backoff: Backoff
}

/** Segments of a timeline from {@link PrefetchWindow.next} on, and the state of each. */
export class PrefetchWindow {
  /** The segment that the server wants next. */
  next: SegmentId
  /** By the segment's name. */
  readonly slots = new Map<string, Slot>()
  /** Number of segments in the window: at least two. */
  readonly count: number
  readonly #segmentSize: number

  /**
   * @param first name of the segment that is wanted next
   * @param segmentSize bytes of a segment
   * @param bytes the size of the window
   * @throws WALRX_USAGE when `first` is not a segment name
   */
  constructor(first: string, segmentSize: number, bytes: number) {
    this.#segmentSize = segmentSize
    this.count = Math.max(2, Math.floor(bytes / segmentSize))
    this.next = this.parse(first)
  }

  /** True for the segments that belong into the window. */
  covers({ segno, timeline }: SegmentId): boolean {
    const { segno: first, timeline: current } = this.next
    return timeline === current && segno >= first && segno < first + BigInt(this.count)
  }

  /** The segments that belong into the window, in order. */
  *ids(): Generator<SegmentId, undefined> {
    const { segno, timeline } = this.next
    for (let index = 0; index < this.count; index++) yield { timeline, segno: segno + BigInt(index) }
  }

  /** The slots in a state, by name. */
  inState(state: Slot['state']): [string, Slot][] {
    return [...this.slots].filter(([, slot]) => slot.state === state)
  }

  nameOf({ segno, timeline }: SegmentId): string {
    return segmentName(timeline, segno, this.#segmentSize)
  }

  /** Throws WALRX_USAGE for a name that is not valid with this segment size. */
  parse(name: string): SegmentId {
    const id = parseSegmentName(name, this.#segmentSize)
    if (id) return id
    throw new WalrxError(
      'WALRX_USAGE',
      `${name} is not a valid segment name for a segment size of ${this.#segmentSize} bytes`,
    )
  }
}

/** The next segment of the same timeline. */
export function following({ segno, timeline }: SegmentId): SegmentId {
  return { timeline, segno: segno + 1n }
}
