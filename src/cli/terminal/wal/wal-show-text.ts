/** The text of `wal-show`. */
import { backupsOf, type ShownArchive } from '../../../catalog/window/shown-archive.ts'
import type { TimedWindow } from '../../../catalog/window/window-times.ts'
import { type BrokenBackup, describeBroken } from '../../../catalog/chains.ts'
import { gapsOf, type SegmentRange, type TimelineInventory } from '../../../catalog/wal-inventory.ts'
import { formatLsn } from '../../../postgres/lsn.ts'
import { formatTimestamp, type TimestampTz } from '../../../postgres/timestamp.ts'
import { segmentName } from '../../../postgres/wal/wal-file.ts'
import { systemClock } from '../../../primitives/clock.ts'
import { describeGap, isBreak } from '../../../walg/wal/gap-records.ts'
import { alignColumns } from '../align-columns.ts'
import { durationText } from '../duration-text.ts'
import { counted, humanSize } from '../human-size.ts'

/** Lines of missing segments in the text. */
const gapLinesMax = 20

/** A table of timelines, then what is missing, what was lost, and the restore windows. */
export function walToText(archive: ShownArchive, location: string): string {
  const { gaps, inventory, windows } = archive
  const lost = gaps.map((gap) => `${describeGap(gap)}${isBreak(gap) ? '' : `: ${gap.reason}`}\n`).join('')
  if (inventory.timelines.length === 0) return `no WAL at ${location}\n${lost}`
  const rows = inventory.timelines.map((entry) => timelineCells(archive, entry))
  const missing = inventory.timelines.flatMap((entry) => missingLines(entry, inventory.segmentSize))
  const more = missing.length - gapLinesMax
  if (more > 0)
    missing.splice(
      gapLinesMax,
      more,
      `… and ${counted(more, 'more range')} of missing segments; --json names every segment`,
    )
  const titles = archive.backups ? [...heads, 'backups'] : heads
  return (
    alignColumns([titles, ...rows], gapOfColumns) +
    missing.map((line) => `${line}\n`).join('') +
    lost +
    brokenLines(archive.broken).join('') +
    windowLines(windows).join('')
  )
}

/** Beginning of every line, and distance of the columns. */
const [margin, gapOfColumns] = [' ', '    ']

const heads = [
  ...[`${margin}TLI`, 'parent', 'forked at', 'first segment', 'last segment'],
  ...['segments', 'missing', 'status', 'durable to', 'written', 'stored'],
]

function timelineCells({ backups, gaps, inventory }: ShownArchive, entry: TimelineInventory): string[] {
  const { durableEnd, empty, hasPartial, parent, ranges, segmentCount, switchpoint, timeline } = entry
  const { segmentSize } = inventory
  const name = namer(timeline, segmentSize)
  const missing = gapsOf(entry).reduce((sum, { first, last }) => sum + last - first + 1n, 0n)
  const isLost = gaps.some((gap) => gap.timeline === timeline)
  return [
    `${margin}${timeline}`,
    ...(parent === 0 ? ['-', '-'] : [String(parent), formatLsn(switchpoint)]),
    name(ranges[0]?.first),
    `${name(ranges.at(-1)?.last)}${hasPartial ? ' + partial' : ''}`,
    String(segmentCount),
    String(missing),
    missing > 0n || isLost || empty.length > 0 ? 'LOST_SEGMENTS' : 'OK',
    ...(durableEnd === undefined ? ['-', '-'] : [formatLsn(durableEnd), `${ageOf(entry.newestMs)} ago`]),
    humanSize(entry.storedBytes),
    ...(backups ? [String(backupsOf(backups, entry, segmentSize).length)] : []),
  ]
}

/** Lines of backups that cannot be restored: the last ones. */
const brokenLinesMax = 10

function brokenLines(broken: readonly BrokenBackup[]): string[] {
  const more = broken.length - brokenLinesMax
  const lines = broken.slice(-brokenLinesMax).map((each) => `${describeBroken(each)}\n`)
  return more > 0
    ? [`… ${counted(more, 'more backup')} cannot be restored: walrx backup-list --chains shows them\n`, ...lines]
    : lines
}

/** Lines of restore windows in the text: the last ones. */
const windowLinesMax = 10

function windowLines(windows: readonly TimedWindow[]): string[] {
  const more = windows.length - windowLinesMax
  const lines = windows.slice(-windowLinesMax).map(windowLine)
  return more > 0 ? [`… ${counted(more, 'more restore window')}; --json has them all\n`, ...lines] : lines
}

function windowLine({ backup, end, endLsn, endTime, note, startLsn, startTime, timeline }: TimedWindow): string {
  const times =
    endTime === undefined && startTime === undefined ? '' : `${timeText(startTime)} to ${timeText(endTime)}, `
  const why = end.kind === 'newest' ? '' : `; it ends at ${endText(end)}`
  const remark = note === undefined ? '' : ` (${note})`
  const from = `${formatLsn(startLsn)} to ${formatLsn(endLsn)}, from ${backup.name}`
  return `restorable on timeline ${timeline}: ${times}${from}${why}${remark}\n`
}

function endText(end: TimedWindow['end']): string {
  if (end.kind === 'hole') return `the missing ${end.segment}`
  return end.kind === 'break' ? 'WAL that was written with wal_level=minimal' : 'WAL that was lost'
}

function timeText(time: TimestampTz | undefined): string {
  return time === undefined ? '?' : formatTimestamp(time)
}

function missingLines(entry: TimelineInventory, segmentSize: number): string[] {
  const name = namer(entry.timeline, segmentSize)
  return [
    ...gapsOf(entry).map((range) => `missing ${describeRange(range, name)}`),
    ...entry.empty.map((range) => `0 bytes in ${describeRange(range, name)}`),
  ]
}

/** Names of a timeline's segments by their numbers; `-` for none. */
function namer(timeline: number, segmentSize: number): (segno: bigint | undefined) => string {
  return (segno) => (segno === undefined ? '-' : segmentName(timeline, segno, segmentSize))
}

function describeRange({ first, last }: SegmentRange, name: (segno: bigint) => string): string {
  return first === last ? name(first) : `${name(first)} to ${name(last)}, ${counted(last - first + 1n, 'segment')}`
}

/** How long ago that was, in one unit. */
function ageOf(ms: number): string {
  return durationText(Math.max(0, Math.round((systemClock.now() - ms) / 1000)))
}
