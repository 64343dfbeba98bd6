/** The moments that can be recovered to once a plan is carried out. */
import { type Lsn, type Timeline, toLsn } from '../../postgres/lsn.ts'
import type { HistoryEntry } from '../../postgres/wal/wal-file.ts'
import type { ArchivedBackup } from '../contents/archived-backup.ts'
import type { ArchiveContents } from '../contents/archive-contents.ts'
import type { Choice } from '../rules/choice.ts'
import { Restorability } from '../contents/restorable.ts'
import type { TimelineStock } from '../contents/wal-stock.ts'

/** From the end of the first backup that stays, and can be restored, to the last WAL that follows it. */
export interface RemainingWindow {
  readonly backup: string
  /** Milliseconds since 1970: when that backup ended, and when the last of the WAL was written. */
  readonly fromMs: number
  readonly toMs: number
  readonly fromLsn: Lsn
  /** One past the last byte of WAL that the archive has of `timeline`. */
  readonly toLsn: Lsn
  /** The timeline that the window ends on. */
  readonly timeline: Timeline
  /** How many segments are missing on the way, and where the first of them begins: recovery ends there. */
  readonly missing: number
  readonly firstMissing: Lsn | undefined
}

/** Undefined where no backup stays that can be restored. */
export function remainingWindow(contents: ArchiveContents, choices: readonly Choice[]): RemainingWindow | undefined {
  const restorability = new Restorability(contents)
  const first = choices.find(
    (choice) =>
      choice.action === 'keep' &&
      choice.wal === 'onwards' &&
      restorability.isRestorable(choice.backup) &&
      hasPlace(choice.backup),
  )?.backup
  return first && windowFrom(contents, first)
}

function hasPlace({ finishLsn, segno, timeline }: ArchivedBackup): boolean {
  return finishLsn !== undefined && segno !== undefined && timeline !== undefined
}

function windowFrom({ segmentSize, wal }: ArchiveContents, backup: ArchivedBackup): RemainingWindow {
  const { finishLsn = 0n, finishMs, name, timeline = 0 } = backup
  const size = BigInt(segmentSize)
  const path = pathOf(wal.histories, wal.timelines, backup)
  const last = path.at(-1)?.timeline ?? timeline
  const stock = wal.timelines.get(last)
  let missing = 0
  let firstMissing: Lsn | undefined
  let from = Number(finishLsn / size)
  for (const { end, timeline: each } of path) {
    const one = wal.timelines.get(each)
    const to = end === undefined ? endOf(one) : Number(end / size)
    for (let segno = from; segno < to; segno++) {
      if (one?.holds(segno) === true) continue
      missing++
      firstMissing ??= toLsn(BigInt(segno) * size)
    }
    from = Math.max(from, to)
  }
  const tail = stock?.tailEnds.get(from) ?? 0
  const reached = BigInt(from) * size + BigInt(tail)
  const end = reached > finishLsn ? reached : finishLsn
  const toMs = Math.max(finishMs, stock?.newestMs ?? 0)
  return {
    backup: name,
    fromMs: finishMs,
    toMs,
    fromLsn: toLsn(finishLsn),
    toLsn: toLsn(end),
    timeline: last,
    missing,
    firstMissing,
  }
}

/** One past the last whole segment. */
function endOf(stock: TimelineStock | undefined): number {
  const column = stock?.columns.get('segment')
  return column && column.length > 0 ? column.last(column.length - 1) + 1 : 0
}

/** The timelines on the way to the newest one that a backup leads to, each with where it is left. */
function pathOf(
  histories: ReadonlyMap<Timeline, readonly HistoryEntry[]>,
  timelines: ReadonlyMap<Timeline, TimelineStock>,
  { finishLsn = 0n as Lsn, timeline = 0 }: ArchivedBackup,
): { timeline: Timeline; end: Lsn | undefined }[] {
  let newest: readonly HistoryEntry[] = []
  let target = timeline
  for (const [each, history] of histories) {
    const left = history.find((entry) => entry.timeline === timeline)
    if (!left || left.switchpoint < finishLsn || each <= target || !timelines.has(each)) continue
    target = each
    newest = history.slice(history.indexOf(left))
  }
  return [
    ...newest.map((entry) => ({ timeline: entry.timeline, end: entry.switchpoint })),
    { timeline: target, end: undefined },
  ]
}
