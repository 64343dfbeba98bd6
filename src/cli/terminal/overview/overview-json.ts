/** What an archive holds, for programs: the keys are documented in docs/operations.md. */
import type { ArchiveOverview, BackupOverview } from '../../../catalog/overview/archive-overview.ts'
import type { UnfinishedBackup } from '../../../catalog/overview/unfinished-backups.ts'
import { isPermanent } from '../../../catalog/backups.ts'
import { gapToJson } from '../../../catalog/gap-json.ts'
import { gapsOf, type SegmentRange, type TimelineInventory } from '../../../catalog/wal-inventory.ts'
import type { TimedWindow } from '../../../catalog/window/window-times.ts'
import type { JsonValue } from '../../../primitives/json/json.ts'
import { formatRfc3339 } from '../../../postgres/timestamp.ts'
import { segmentName } from '../../../postgres/wal/wal-file.ts'
import { newestTimeline, priceOf, timeOf } from './overview-text.ts'

/** LSNs are numbers, as in WAL-G's documents; times RFC 3339 in UTC; sizes bytes. @param price see overview-text.ts */
export function overviewToJson(overview: ArchiveOverview, price: number | undefined): { [key: string]: JsonValue } {
  const { backups, days, gaps, inventory, location, nowMs, pgVersion, systemId, unfinished, use, windows } = overview
  const { segmentSize, timelines } = inventory
  const newest = newestTimeline(timelines)
  const total = use.backups + use.wal + use.tails + use.unfinished + use.other
  return {
    archive: location,
    now: isoOf(nowMs),
    system_identifier: systemId ?? null,
    pg_version: pgVersion ?? null,
    wal_segment_size: timelines.length === 0 ? null : segmentSize,
    newest_wal: newest
      ? {
          timeline: newest.timeline,
          durable_lsn: newest.durableEnd ?? null,
          written_at: isoOf(newest.newestMs),
          written_seconds_ago: secondsSince(newest.newestMs, nowMs),
        }
      : null,
    restore_windows: windows.map(windowToJson),
    timelines: timelines.map((entry) => timelineToJson(entry, segmentSize)),
    backups: backups.map((backup) => backupToJson(backup, nowMs)),
    unfinished_backups: unfinished.map((each) => unfinishedToJson(each, nowMs)),
    missing_wal: timelines.flatMap((entry) => rangesToJson(entry, gapsOf(entry), segmentSize)),
    empty_wal: timelines.flatMap((entry) => rangesToJson(entry, entry.empty, segmentSize)),
    gaps: gaps.map((gap) => gapToJson(gap, { timeline: gap.timeline })),
    wal_days: days.map(({ day, segmentCount, storedBytes }) => ({
      day,
      segments_count: segmentCount,
      bytes: segmentCount * segmentSize,
      stored_bytes: storedBytes,
    })),
    storage: {
      backups_bytes: use.backups,
      wal_bytes: use.wal,
      tails_bytes: use.tails,
      unfinished_backups_bytes: use.unfinished,
      other_bytes: use.other,
      total_bytes: total,
      price_per_gb_month: price ?? null,
      price_per_month: price === undefined ? null : Math.round(priceOf(total, price) * 10_000) / 10_000,
    },
    problems: overview.problems.map(({ hint, message }) => ({ message, hint: hint ?? null })),
  }
}

function isoOf(ms: number): string {
  return new Date(ms).toISOString()
}

function secondsSince(ms: number, nowMs: number): number {
  return Math.max(0, Math.round((nowMs - ms) / 1000))
}

function windowToJson({ backup, backupCount, end, endLsn, endTime, note, startLsn, startTime, timeline }: TimedWindow) {
  return {
    timeline,
    start_lsn: startLsn,
    end_lsn: endLsn,
    start_time: startTime === undefined ? null : formatRfc3339(startTime),
    end_time: endTime === undefined ? null : formatRfc3339(endTime),
    first_backup: backup.name,
    backups_count: backupCount,
    ends_at: end.kind,
    missing_segment: end.kind === 'hole' ? end.segment : null,
    note: note ?? null,
  }
}

function timelineToJson(entry: TimelineInventory, segmentSize: number): JsonValue {
  const { durableEnd, newestMs, parent, ranges, segmentCount, storedBytes, switchpoint, timeline } = entry
  const nameOf = (segno: bigint | undefined) => (segno === undefined ? null : segmentName(timeline, segno, segmentSize))
  return {
    timeline,
    parent: parent === 0 ? null : parent,
    switch_point_lsn: parent === 0 ? null : switchpoint,
    first_segment: nameOf(ranges[0]?.first),
    last_segment: nameOf(ranges.at(-1)?.last),
    segments_count: segmentCount,
    stored_bytes: storedBytes,
    durable_lsn: durableEnd ?? null,
    written_at: durableEnd === undefined ? null : isoOf(newestMs),
  }
}

function backupToJson(backup: BackupOverview, nowMs: number): JsonValue {
  const { chain, name, permanence, sentinel, storedBytes, verification } = backup
  const [startMs, finishMs] = [timeOf(sentinel?.startTime), timeOf(sentinel?.finishTime)]
  return {
    backup_name: name,
    type: sentinel === undefined ? null : sentinel.delta ? 'delta' : 'full',
    delta_from: sentinel?.delta?.parentName ?? null,
    chain: [...chain.names],
    chain_problem: chain.problem ?? null,
    start_time: startMs === undefined ? null : isoOf(startMs),
    finish_time: finishMs === undefined ? null : isoOf(finishMs),
    duration_seconds: startMs === undefined || finishMs === undefined ? null : secondsSince(startMs, finishMs),
    age_seconds: secondsSince(finishMs ?? backup.lastModifiedMs, nowMs),
    start_lsn: sentinel?.startLsn ?? null,
    finish_lsn: sentinel?.finishLsn ?? null,
    pg_version: sentinel?.pgVersion ?? null,
    stored_bytes: storedBytes,
    uncompressed_bytes: sentinel?.uncompressedSize ?? null,
    is_permanent: isPermanent(permanence),
    verified: verification
      ? {
          result: verification.result,
          verified_at: verification.verifiedAt,
          age_seconds: secondsSince(timeOf(verification.verifiedAt) ?? nowMs, nowMs),
          walrx_version: verification.walrxVersion,
          problem: verification.problem ?? null,
        }
      : null,
  }
}

function unfinishedToJson({ host, lastSignMs, name, state, storedBytes }: UnfinishedBackup, nowMs: number): JsonValue {
  return {
    backup_name: name,
    state,
    host: host ?? null,
    last_sign: lastSignMs === 0 ? null : isoOf(lastSignMs),
    age_seconds: secondsSince(lastSignMs, nowMs),
    stored_bytes: storedBytes,
  }
}

function rangesToJson(
  { timeline }: TimelineInventory,
  ranges: readonly SegmentRange[],
  segmentSize: number,
): JsonValue[] {
  return ranges.map(({ first, last }) => ({
    timeline,
    first_segment: segmentName(timeline, first, segmentSize),
    last_segment: segmentName(timeline, last, segmentSize),
    segments_count: last - first + 1n,
  }))
}
