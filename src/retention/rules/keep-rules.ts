/** Rules of what is to stay: a recovery window, a number of full backups, the last backup of each month. */
import type { Timeline } from '../../postgres/lsn.ts'
import type { ArchivedBackup } from '../contents/archived-backup.ts'
import type { ArchiveContents } from '../contents/archive-contents.ts'
import type { Restorability } from '../contents/restorable.ts'
import type { Keeping } from './choice.ts'
import { type KeepRule, type Period, periods } from './rule.ts'

/**
 * Keeps what makes every moment of the window reachable: all that ended in it, and the last backup that had ended before
 * it began. That one must lead to where the window begins: for each timeline with WAL or a backup of the window, the last
 * one before that leads there stays as well.
 */
export function keepWindow(
  contents: ArchiveContents,
  windowMs: number,
  restorability: Restorability,
  keeping: Keeping,
): void {
  const { backups, nowMs } = contents
  const beginMs = nowMs - windowMs
  const inside = backups.filter(({ finishMs }) => finishMs > beginMs)
  const before = backups
    .filter(({ finishMs }) => finishMs <= beginMs)
    .filter((each) => restorability.isRestorable(each))
  for (const backup of inside) keeping.keep(backup, 'onwards', 'it is of the recovery window')
  const starts = new Set<ArchivedBackup>()
  const newest = before.at(-1)
  if (newest) starts.add(newest)
  for (const timeline of timelinesOfWindow(contents, inside, beginMs)) {
    const start = before.findLast((backup) => leadsTo(contents, backup, timeline))
    if (start) starts.add(start)
  }
  for (const start of starts) keeping.keep(start, 'onwards', 'the recovery window begins after it')
}

function timelinesOfWindow(
  { wal }: ArchiveContents,
  inside: readonly ArchivedBackup[],
  beginMs: number,
): ReadonlySet<Timeline> {
  const timelines = new Set(inside.flatMap(({ timeline }) => timeline ?? []))
  for (const [timeline, { newestMs }] of wal.timelines) if (newestMs >= beginMs) timelines.add(timeline)
  return timelines
}

/** True where a recovery from a backup can come to a timeline: of the same server, and by the history of that one. */
function leadsTo({ backups, wal }: ArchiveContents, backup: ArchivedBackup, timeline: Timeline): boolean {
  const server = backups.findLast((each) => each.timeline === timeline)?.systemId
  if (server !== undefined && backup.systemId !== undefined && server !== backup.systemId) return false
  if (backup.timeline === timeline) return true
  const history = wal.histories.get(timeline)
  if (!history) return backup.timeline !== undefined && backup.timeline < timeline
  const left = history.find((entry) => entry.timeline === backup.timeline)
  return left !== undefined && left.switchpoint >= (backup.finishLsn ?? backup.startLsn)
}

/** Keeps the newest full backups that can be restored, and all that is newer than the oldest of them. */
export function keepFulls(
  { backups }: ArchiveContents,
  count: number,
  restorability: Restorability,
  keeping: Keeping,
): void {
  const fulls = backups.filter((each) => each.parentName === undefined && restorability.isRestorable(each))
  const first = fulls.at(-count) ?? backups[0]
  if (!first) return
  const reason =
    count === 1 ? 'it is the last full backup, or newer' : `it is of the last ${count} full backups, or newer`
  for (const backup of backups.slice(backups.indexOf(first))) {
    keeping.keep(backup, 'onwards', reason)
  }
}

/**
 * Keeps the last backup of each of the last periods that have one: a full one where the period has one, for a delta
 * keeps all that it builds on.
 */
export function keepByCalendar(
  { backups }: ArchiveContents,
  counts: KeepRule['periods'],
  restorability: Restorability,
  keeping: Keeping,
): void {
  const usable = backups.filter((each) => restorability.isRestorable(each))
  for (const period of periods) {
    const count = counts[period] ?? 0
    const chosen = new Map<string, ArchivedBackup>()
    for (const backup of usable) {
      const key = periodOf(backup.startMs, period)
      const known = chosen.get(key)
      if (known && known.parentName === undefined && backup.parentName !== undefined) continue
      chosen.set(key, backup)
    }
    const newest = [...chosen].sort(([a], [b]) => (a < b ? -1 : 1)).slice(-count || chosen.size)
    for (const [key, backup] of newest) keeping.keep(backup, 'own', `the last one of the ${period} ${key}`)
  }
}

const dayMs = 24 * 3600_000

/** The period that a moment lies in, in UTC: `2026-03-01`, `2026-W09`, `2026-03`, `2026`; weeks as ISO 8601 has them. */
export function periodOf(timeMs: number, period: Period): string {
  const date = new Date(timeMs)
  const [day = ''] = date.toISOString().split('T')
  switch (period) {
    case 'day':
      return day
    case 'week':
      return isoWeek(date)
    case 'month':
      return day.slice(0, -'-01'.length)
    case 'year':
      return day.slice(0, -'-01-01'.length)
    default:
      return period satisfies never
  }
}

/** A week belongs to the year of its Thursday. */
function isoWeek(date: Date): string {
  const midnight = Date.UTC(date.getUTCFullYear(), date.getUTCMonth(), date.getUTCDate())
  const thursday = new Date(midnight + (4 - (date.getUTCDay() || 7)) * dayMs)
  const year = thursday.getUTCFullYear()
  const week = 1 + Math.floor((thursday.getTime() - Date.UTC(year, 0, 1)) / (7 * dayMs))
  return `${year}-W${String(week).padStart(2, '0')}`
}
