/** Which timelines `wal-show` shows. */
import type { OpenGap } from '../../../catalog/open-gaps.ts'
import { emptyTimeline, type TimelineInventory } from '../../../catalog/wal-inventory.ts'

/** The timelines, and those without any WAL in the archive because all of it was lost. */
export function withLostOnes(timelines: readonly TimelineInventory[], open: readonly OpenGap[]): TimelineInventory[] {
  const lost = [...new Set(open.map(({ timeline }) => timeline))]
    .filter((id) => !timelines.some(({ timeline }) => timeline === id))
    .map(emptyTimeline)
  return [...timelines, ...lost].sort((a, b) => a.timeline - b.timeline)
}
