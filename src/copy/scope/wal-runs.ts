/**
 * The segments of an archive, by timeline, as unbroken runs of numbers, in whatever order they become known. Between two
 * runs is a hole: a receiver uploads several segments at once, so that later ones may be there before it is filled.
 */
import type { Timeline } from '../../postgres/lsn.ts'
import { parseSegmentName } from '../../postgres/wal/wal-file.ts'
import type { SegmentRange } from '../../catalog/wal-inventory.ts'

/** See the file's header. */
export class WalRuns {
  readonly #segmentSize: number
  readonly #byTimeline = new Map<Timeline, SegmentRange[]>()

  /** @param segmentSize bytes */
  constructor(segmentSize: number) {
    this.#segmentSize = segmentSize
  }

  /** Runs by timeline, in order. */
  get byTimeline(): ReadonlyMap<Timeline, readonly SegmentRange[]> {
    return this.#byTimeline
  }

  /** Notes a segment by its name; other names change nothing. */
  add(name: string): void {
    const id = parseSegmentName(name, this.#segmentSize)
    if (!id) return
    const { segno, timeline } = id
    const runs = this.#byTimeline.get(timeline) ?? []
    this.#byTimeline.set(timeline, runs)
    let index = runs.length
    while (index > 0 && (runs[index - 1]?.first ?? 0n) > segno) index--
    const before = runs[index - 1]
    if (before && segno <= before.last) return
    const after = runs[index]
    const joinsAfter = after?.first === segno + 1n
    if (before && before.last + 1n === segno) {
      before.last = joinsAfter ? after.last : segno
      if (joinsAfter) runs.splice(index, 1)
    } else if (joinsAfter) runs[index] = { first: segno, last: after.last }
    else runs.splice(index, 0, { first: segno, last: segno })
  }

  /** True for the name of a segment that was noted. */
  has(name: string): boolean {
    const id = parseSegmentName(name, this.#segmentSize)
    return !!id && this.#runsOf(id.timeline).some(({ first, last }) => first <= id.segno && id.segno <= last)
  }

  /** Number of the last segment of a timeline; undefined for none. */
  lastOf(timeline: Timeline): bigint | undefined {
    return this.#runsOf(timeline).at(-1)?.last
  }

  /**
   * What lacks between the first segment of a timeline and its last, in order.
   * @param within what counts; undefined: all
   */
  holesOf(
    timeline: Timeline,
    within?: readonly { readonly first: bigint; readonly last: bigint | undefined }[],
  ): { readonly first: bigint; readonly last: bigint }[] {
    const runs = this.#runsOf(timeline)
    return runs.slice(1).flatMap((run, index) => {
      const hole = { first: (runs[index]?.last ?? 0n) + 1n, last: run.first - 1n }
      if (!within) return [hole]
      return within.flatMap(({ first, last }) => {
        const part = {
          first: first > hole.first ? first : hole.first,
          last: last !== undefined && last < hole.last ? last : hole.last,
        }
        return part.first <= part.last ? [part] : []
      })
    })
  }

  #runsOf(timeline: Timeline): readonly SegmentRange[] {
    return this.#byTimeline.get(timeline) ?? []
  }
}
