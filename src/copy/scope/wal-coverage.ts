/** Whether an archive has the WAL that makes a backup consistent. */
import type { SegmentRange } from '../../catalog/wal-inventory.ts'
import type { Timeline } from '../../postgres/lsn.ts'
import { segmentName } from '../../postgres/wal/wal-file.ts'
import type { ScopedBackup } from './scoped-backups.ts'

/**
 * The first segment that a backup needs and no timeline has; undefined where it has all, or where no document says which.
 * A standby may have been promoted while the backup was taken: its WAL is then on two timelines. The last segment may be
 * in the tail still.
 * @param segments unbroken ranges by timeline
 * @param begun names of segments of which there is a beginning
 * @param segmentSize bytes
 */
export function unarchived(
  { finishLsn, startLsn, timeline }: ScopedBackup,
  {
    begun,
    segments,
  }: {
    readonly segments: ReadonlyMap<Timeline, readonly SegmentRange[]>
    readonly begun: ReadonlySet<string>
  },
  segmentSize: number,
): string | undefined {
  if (timeline === undefined || startLsn === undefined || finishLsn === undefined) return undefined
  const size = BigInt(segmentSize)
  const ranges = [...segments].flatMap(([each, list]) => (each >= timeline ? list : []))
  const last = (finishLsn - 1n) / size
  for (let segno = startLsn / size; segno <= last;) {
    const range = ranges.find((each) => each.first <= segno && segno <= each.last)
    if (!range) {
      const name = segmentName(timeline, segno, segmentSize)
      return segno === last && begun.has(name) ? undefined : name
    }
    segno = range.last + 1n
  }
  return undefined
}
