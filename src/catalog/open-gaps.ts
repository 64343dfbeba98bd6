/** Recorded gaps that are still open: segments of them may have come since, from another writer. */
import type { WalrxError } from '../primitives/errors.ts'
import type { StorageCallOptions } from '../storage/storage.ts'
import { withRemedy } from '../walg/damaged-object.ts'
import { type GapRange, type GapRecord, isBreak, segmentsOf } from '../walg/wal/gap-records.ts'
import type { WalReader } from '../walg/wal/wal-reader.ts'
import type { WalInventory } from './wal-inventory.ts'

/** A gap with segments that are missing, or a break. */
export interface OpenGap extends GapRecord {
  /** How many; none for a break. */
  readonly missingCount: bigint
}

/** All recorded gaps. Of a record that cannot be read the key is taken, and a problem is noted. */
export function readGaps(
  reader: Pick<WalReader, 'gaps'>,
  problems: WalrxError[],
  options?: StorageCallOptions,
): Promise<GapRecord[]> {
  return reader.gaps(options, (error, key) => void problems.push(withRemedy(error, key)))
}

/**
 * The gaps that are open, in the order in which they come. One that lies within another adds nothing: a receiver
 * that had been killed found it again, when more of its end was archived.
 */
export function openGaps(
  gaps: readonly GapRecord[],
  { segmentSize, timelines }: Pick<WalInventory, 'segmentSize' | 'timelines'>,
): OpenGap[] {
  const open = gaps.flatMap((gap): OpenGap[] => {
    // Nothing that comes later fills a break.
    if (isBreak(gap)) return [{ ...gap, missingCount: 0n }]
    const lost = segmentsOf(gap, segmentSize)
    if (!lost) return []
    let missingCount = lost.last - lost.first + 1n
    for (const { first, last } of timelines.find(({ timeline }) => timeline === gap.timeline)?.ranges ?? []) {
      const [from, to] = [first > lost.first ? first : lost.first, last < lost.last ? last : lost.last]
      if (to >= from) missingCount -= to - from + 1n
    }
    return missingCount > 0n ? [{ ...gap, missingCount }] : []
  })
  return open.filter((gap) => isBreak(gap) || !open.some((other) => other !== gap && holds(other, gap)))
}

/**
 * Whether segments of one gap are missing still, without the inventory of the whole archive: reads the listing of the
 * gap's own segments, as far as the first that is missing.
 * @param segmentSize bytes
 * @throws what the storage says
 */
export async function isOpenGap(
  reader: Pick<WalReader, 'segments'>,
  gap: GapRange,
  segmentSize: number,
  options?: StorageCallOptions,
): Promise<boolean> {
  if (isBreak(gap)) return true
  const lost = segmentsOf(gap, segmentSize)
  if (!lost) return false
  let next = lost.first
  for await (const { segno, size } of reader.segments(gap.timeline, lost.first, segmentSize, options)) {
    if (segno !== next || size === 0) return true
    if (next++ === lost.last) return false
  }
  return true
}

function holds(outer: GapRecord, inner: GapRecord): boolean {
  return outer.timeline === inner.timeline && outer.startLsn <= inner.startLsn && outer.endLsn >= inner.endLsn
}
