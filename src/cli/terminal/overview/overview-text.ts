/** What an archive holds, on one screen. */
import type { ArchiveOverview, BackupOverview } from '../../../catalog/overview/archive-overview.ts'
import type { UnfinishedBackup } from '../../../catalog/overview/unfinished-backups.ts'
import { isPermanent } from '../../../catalog/backups.ts'
import { describeBroken } from '../../../catalog/chains.ts'
import { gapsOf, type SegmentRange, type TimelineInventory } from '../../../catalog/wal-inventory.ts'
import type { TimedWindow } from '../../../catalog/window/window-times.ts'
import { formatLsn } from '../../../postgres/lsn.ts'
import { formatTimestamp, type TimestampTz } from '../../../postgres/timestamp.ts'
import { segmentName } from '../../../postgres/wal/wal-file.ts'
import { parseBackupTime } from '../../../walg/backup/backup-time.ts'
import { describeGap, isBreak } from '../../../walg/wal/gap-records.ts'
import { alignColumns } from '../align-columns.ts'
import { durationText } from '../duration-text.ts'
import { counted, humanSize } from '../human-size.ts'

/** Windows, backups, and ranges of missing WAL, that the screen has room for. */
const linesMax = 20

/** Bytes of the GB that a price is for: as stores count it, and PostgreSQL. */
export const billedGigabyte = 1024 ** 3

/**
 * The text, about a hundred columns wide.
 * @param price of a GB for a month, in whatever currency; undefined for none
 */
export function overviewText(overview: ArchiveOverview, price: number | undefined): string {
  const sections = [
    head(overview),
    ...(overview.windows.length === 0 ? [] : [windowsText(overview)]),
    ...(overview.backups.length === 0 ? [] : [backupsText(overview)]),
    ...(overview.unfinished.length === 0 ? [] : [unfinishedText(overview)]),
    ...missingText(overview),
    ...(overview.days.some(({ segmentCount }) => segmentCount > 0) ? [daysText(overview)] : []),
    useText(overview, price),
  ]
  return sections.join('\n')
}

function ago(ms: number, nowMs: number): string {
  return `${durationText(Math.max(0, (nowMs - ms) / 1000))} ago`
}

function head(overview: ArchiveOverview): string {
  const { inventory, location, nowMs, pgVersion, systemId } = overview
  const newest = newestTimeline(inventory.timelines)
  const facts = [
    systemId === undefined ? undefined : `system ${systemId}`,
    pgVersion === undefined ? undefined : `PostgreSQL ${Math.floor(pgVersion / 10_000)}`,
    inventory.timelines.length === 0 ? undefined : `segments of ${humanSize(inventory.segmentSize)}`,
  ].filter((fact) => fact !== undefined)
  const end = newest?.durableEnd
  const rows = [
    ['archive', location],
    ...(facts.length === 0 ? [] : [['cluster', facts.join(', ')]]),
    [
      'newest WAL',
      newest && end !== undefined
        ? `${formatLsn(end)} on timeline ${newest.timeline}, written ${ago(newest.newestMs, nowMs)}`
        : 'none',
    ],
    ['recovery', recoveryText(overview)],
  ]
  return alignColumns(rows, '  ')
}

/** The timeline of the newest WAL; that with the highest number where two have the same time. */
export function newestTimeline(timelines: readonly TimelineInventory[]): TimelineInventory | undefined {
  const withWal = timelines.filter(({ durableEnd }) => durableEnd !== undefined)
  return withWal.reduce<TimelineInventory | undefined>(
    (best, each) => (best && best.newestMs > each.newestMs ? best : each),
    undefined,
  )
}

/** Of the newest window, which a recovery without a target follows; all are in the table. */
export function recoveryText({ backups, windows }: ArchiveOverview): string {
  const window = windows.findLast(({ end }) => end.kind === 'newest') ?? windows.at(-1)
  if (!window && backups.length === 0) return 'impossible: there is no backup'
  if (!window) {
    const isNoneWhole = backups.every(({ chain }) => chain.problem !== undefined)
    return isNoneWhole ? 'impossible: no backup is whole' : 'impossible: no whole backup has all its WAL'
  }
  const { from, to } = momentsOf(window)
  return `any moment from ${from ?? formatLsn(window.startLsn)} to ${to ?? formatLsn(window.endLsn)}`
}

/** The moments of a window in whole seconds that lie in it; exact where it is shorter. */
function momentsOf({ endTime, startTime }: TimedWindow): { from: string | undefined; to: string | undefined } {
  const from = startTime === undefined ? undefined : secondsUp(startTime)
  const to = endTime === undefined ? undefined : seconds(endTime)
  if (startTime === undefined || endTime === undefined || secondsUp(startTime) <= seconds(endTime)) return { from, to }
  return { from: formatTimestamp(startTime), to: formatTimestamp(endTime) }
}

/** A moment without its fraction. */
function seconds(time: TimestampTz): string {
  return formatTimestamp(time).replace(/\.\d+/, '')
}

/** The first whole second that is not before a moment. */
function secondsUp(time: TimestampTz): string {
  return seconds(time + 999_999n)
}

function windowsText({ windows }: ArchiveOverview): string {
  const shown = windows.slice(-linesMax)
  const older = windows.length - shown.length
  const more = older > 0 ? `… and ${counted(older, 'older window')}: walrx wal-show --json has them\n` : ''
  const rows = shown.map((window) => {
    const { from = '-', to = '-' } = momentsOf(window)
    const lsns = [window.startLsn, window.endLsn].map(formatLsn)
    return [String(window.timeline), ...lsns, from, to, String(window.backupCount), endText(window)]
  })
  const titles = ['timeline', 'from', 'to', 'from time', 'to time', 'backups', 'ends at']
  const notes = shown.flatMap(({ note, timeline }) =>
    note === undefined ? [] : [`timeline ${timeline}, to time: ${note}\n`],
  )
  return alignColumns([titles, ...rows], '  ') + more + notes.join('')
}

function endText({ end }: TimedWindow): string {
  if (end.kind === 'newest') return 'the newest WAL'
  return end.kind === 'hole' ? 'missing WAL' : end.kind === 'gap' ? 'lost WAL' : 'a break'
}

function backupsText({ backups, nowMs }: ArchiveOverview): string {
  const shown = backups.slice(-linesMax)
  const titles = ['backup', 'age', 'took', 'stored', 'chain', 'kept', 'verified']
  const older = backups.length - shown.length
  const more =
    older > 0 ? `… and ${counted(older, 'older backup')}: walrx backup-list shows ${older === 1 ? 'it' : 'them'}\n` : ''
  const problems = shown.flatMap(({ chain, name, verification }) => [
    ...(chain.problem === undefined ? [] : [`${describeBroken({ name, problem: chain.problem })}\n`]),
    ...(verification?.problem === undefined ? [] : [`${name} is damaged: ${verification.problem}\n`]),
  ])
  return alignColumns([titles, ...shown.map((backup) => backupCells(backup, nowMs))], ' ') + more + problems.join('')
}

function backupCells(backup: BackupOverview, nowMs: number): string[] {
  const { chain, name, permanence, sentinel, storedBytes, verification } = backup
  const finishMs = timeOf(sentinel?.finishTime) ?? backup.lastModifiedMs
  const startMs = timeOf(sentinel?.startTime)
  const steps = chain.names.length - 1
  return [
    name,
    durationText(Math.max(0, (nowMs - finishMs) / 1000)),
    startMs === undefined ? '-' : durationText(Math.max(0, (finishMs - startMs) / 1000)),
    humanSize(storedBytes),
    chain.problem !== undefined ? 'BROKEN' : steps === 0 ? 'full' : `+${steps}`,
    isPermanent(permanence) ? 'yes' : '-',
    verification === undefined ? 'never' : verifiedText(verification.result, timeOf(verification.verifiedAt), nowMs),
  ]
}

function verifiedText(result: 'whole' | 'damaged', atMs: number | undefined, nowMs: number): string {
  return result === 'damaged' ? 'DAMAGED' : atMs === undefined ? 'yes' : ago(atMs, nowMs)
}

/** Milliseconds since 1970 of a time in a document; undefined for none, and for Go's zero time. */
export function timeOf(text: string | undefined): number | undefined {
  const nanoseconds = text === undefined ? undefined : parseBackupTime(text)
  return nanoseconds === undefined || nanoseconds <= 0n ? undefined : Number(nanoseconds / 1_000_000n)
}

const stateTexts: Readonly<Record<UnfinishedBackup['state'], string>> = {
  written: 'is being written',
  waits: 'waits for its WAL: walrx backup-finish completes it',
  left: 'was left by a writer that died: the next walrx backup-push removes it',
  unknown: 'has no sentinel: another tool writes it, or left it',
}

function unfinishedText({ nowMs, unfinished }: ArchiveOverview): string {
  const lines = unfinished.slice(-linesMax).map(({ host, lastSignMs, name, state, storedBytes }) => {
    const whose = host === undefined ? '' : ` (${host})`
    return `  ${name}${whose}, ${humanSize(storedBytes)}, ${ago(lastSignMs, nowMs)}:\n    ${stateTexts[state]}\n`
  })
  const more = unfinished.length > linesMax ? `  … and ${unfinished.length - linesMax} more\n` : ''
  return `unfinished backups\n${lines.join('')}${more}`
}

function missingText({ gaps, inventory }: ArchiveOverview): string[] {
  const { segmentSize, timelines } = inventory
  const holes = timelines.flatMap((entry) => {
    const text = ({ first, last }: SegmentRange) => {
      const name = (segno: bigint) => segmentName(entry.timeline, segno, segmentSize)
      return first === last
        ? `${name(first)}\n`
        : `${name(first)} to ${name(last)}, ${counted(last - first + 1n, 'segment')}\n`
    }
    return [
      ...gapsOf(entry).map((range) => `  missing ${text(range)}`),
      ...entry.empty.map((range) => `  0 bytes in ${text(range)}`),
    ]
  })
  const lost = gaps.map((gap) => `  ${describeGap(gap)}${isBreak(gap) ? '' : `: ${gap.reason}`}\n`)
  const lines = [...holes.slice(0, linesMax), ...lost.slice(0, linesMax)]
  const more = holes.length + lost.length - lines.length
  if (lines.length === 0) return []
  return [`missing WAL\n${lines.join('')}${more > 0 ? `  … and ${more} more: walrx wal-show shows them\n` : ''}`]
}

function daysText({ days, inventory }: ArchiveOverview): string {
  const rows = days.map(({ day, segmentCount, storedBytes }) => {
    const rawBytes = segmentCount * inventory.segmentSize
    const ratio = storedBytes === 0 ? '-' : `${(rawBytes / storedBytes).toFixed(1)}:1`
    return [day, String(segmentCount), humanSize(rawBytes), humanSize(storedBytes), ratio]
  })
  return alignColumns([['WAL of (UTC)', 'segments', 'size', 'stored', 'compressed'], ...rows], '  ')
}

function useText({ use }: ArchiveOverview, price: number | undefined): string {
  const { backups, other, tails, unfinished, wal } = use
  const total = backups + other + tails + unfinished + wal
  const parts = [
    ['backups', backups],
    ['WAL', wal],
    ['unfinished segments', tails],
    ['unfinished backups', unfinished],
    ['other', other],
  ] as const
  const list = parts.filter(([, bytes]) => bytes > 0).map(([what, bytes]) => `${what} ${humanSize(bytes)}`)
  const of = list.length > 1 ? `: ${list.join(', ')}` : ''
  const cost =
    price === undefined ? '' : `price       ${priceText(priceOf(total, price))} a month, at ${price} for a GB\n`
  return `stored      ${humanSize(total)}${of}\n${cost}`
}

function priceText(price: number): string {
  return price > 0 && price < 0.01 ? 'less than 0.01' : price.toFixed(2)
}

/** What so many bytes cost in a month. */
export function priceOf(bytes: number, price: number): number {
  return (bytes / billedGigabyte) * price
}
