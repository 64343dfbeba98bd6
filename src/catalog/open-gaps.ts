/** Recorded gaps that are gaps still: segments of them may have come since, from whoever else archives. */
import { type GapRecord, segmentsOf } from '../walg/wal/gap-records.ts'
import type { WalInventory } from './wal-inventory.ts'

/** A gap of which segments are missing. */
export interface OpenGap extends GapRecord {
  /** How many. */
  readonly missingCount: bigint
}

/**
 * The gaps that are open, in the order in which they come. One that lies within another says nothing new: a receiver
 * that had been killed had found it again, with less behind it.
 */
export function openGaps(
  gaps: readonly GapRecord[],
  { segmentSize, timelines }: Pick<WalInventory, 'segmentSize' | 'timelines'>,
): OpenGap[] {
  const open = gaps.flatMap((gap): OpenGap[] => {
    const lost = segmentsOf(gap, segmentSize)
    if (!lost) return []
    let missingCount = lost.last - lost.first + 1n
    for (const { first, last } of timelines.find(({ timeline }) => timeline === gap.timeline)?.ranges ?? []) {
      const [from, to] = [first > lost.first ? first : lost.first, last < lost.last ? last : lost.last]
      if (to >= from) missingCount -= to - from + 1n
    }
    return missingCount > 0n ? [{ ...gap, missingCount }] : []
  })
  return open.filter((gap) => !open.some((other) => other !== gap && holds(other, gap)))
}

function holds(outer: GapRecord, inner: GapRecord): boolean {
  return outer.timeline === inner.timeline && outer.startLsn <= inner.startLsn && outer.endLsn >= inner.endLsn
}
