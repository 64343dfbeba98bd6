/** The JSON of `wal-show`: WAL-G's, with more. */
import { gapToJson } from '../../../catalog/gap-json.ts'
import { backupsOf, type ShownArchive } from '../../../catalog/window/shown-archive.ts'
import type { TimedWindow } from '../../../catalog/window/window-times.ts'
import { gapsOf, namesOf, type TimelineInventory } from '../../../catalog/wal-inventory.ts'
import { formatRfc3339 } from '../../../postgres/timestamp.ts'
import { segmentName } from '../../../postgres/wal/wal-file.ts'
import { parseBackupName } from '../../../walg/backup/backup-names.ts'
import { formatJson, type JsonValue } from '../../../primitives/json/json.ts'
import { withLostOnes } from './shown-timelines.ts'

/**
 * WAL-G's array: one object for each timeline, in order of its id. A timeline is left out if the archive has only its
 * history file, and no gap of it is known.
 * `durable_lsn` and `written_at` are ours: how far its WAL reaches, chunks included, and when the last of it came; so are
 * `stored_bytes`, `restore_windows`, and where there are any `broken_backups`, and
 * `empty_segments` of 0 bytes, which WAL-G counts as segments. `gaps` is ours, and there where WAL is known to be lost: those segments will never
 * come, unlike others that are missing. In pieces, because one segment far ahead makes millions of names missing.
 */
export function* walToJson(archive: ShownArchive): Generator<string, undefined> {
  let separator = '[\n  '
  for (const entry of withLostOnes(archive.inventory.timelines, archive.gaps)) {
    const lost = archive.gaps.filter(({ timeline }) => timeline === entry.timeline)
    if (entry.durableEnd === undefined && lost.length + entry.empty.length === 0) continue
    yield separator
    yield* timelineToJson(archive, entry)
    separator = ',\n  '
  }
  yield separator.startsWith('[') ? '[]\n' : '\n]\n'
}

function* timelineToJson(archive: ShownArchive, entry: TimelineInventory): Generator<string, undefined> {
  const { segmentSize } = archive.inventory
  const [first, last] = [entry.ranges[0], entry.ranges.at(-1)]
  const lost = archive.gaps.filter(({ timeline }) => timeline === entry.timeline)
  const gaps = gapsOf(entry)
  const empty = entry.empty.flatMap((range) => [...namesOf(range, entry.timeline, segmentSize)])
  const broken = archive.broken.filter(({ name }) => parseBackupName(name)?.timeline === entry.timeline)
  const head = {
    id: entry.timeline,
    parent_id: entry.parent,
    switch_point_lsn: entry.switchpoint,
    start_segment: first ? segmentName(entry.timeline, first.first, segmentSize) : null,
    end_segment: last ? segmentName(entry.timeline, last.last, segmentSize) : null,
    segments_count: entry.segmentCount,
  }
  yield `${formatJson(head).slice(0, -1)},"missing_segments":[`
  let comma = ''
  for (const gap of gaps) {
    for (const name of namesOf(gap, entry.timeline, segmentSize)) {
      yield `${comma}"${name}"`
      comma = ','
    }
  }
  yield ']'
  const backups = archive.backups && backupsOf(archive.backups, entry, segmentSize)
  // WAL-G leaves the key out where there are none.
  for (const [index, { json = '' }] of (backups ?? []).entries()) yield `${index === 0 ? ',"backups":[' : ','}${json}`
  if (backups && backups.length > 0) yield ']'
  const tail = {
    segment_range_size: first && last ? last.last - first.first + 1n : 0n,
    status: gaps.length + lost.length + entry.empty.length === 0 ? 'OK' : 'LOST_SEGMENTS',
    durable_lsn: entry.durableEnd ?? null,
    written_at: entry.durableEnd === undefined ? null : new Date(entry.newestMs).toISOString(),
    stored_bytes: entry.storedBytes,
    ...(archive.backups && {
      restore_windows: archive.windows.filter(({ timeline }) => timeline === entry.timeline).map(windowToJson),
    }),
    ...(entry.empty.length > 0 && { empty_segments: empty }),
    ...(broken.length > 0 && {
      broken_backups: broken.map(({ name, problem }) => ({ backup_name: name, problem })),
    }),
    ...(lost.length > 0 && { gaps: lost.map((gap) => gapToJson(gap)) }),
  }
  yield `,${formatJson(tail).slice(1)}`
}

/** LSNs are numbers, as in WAL-G's documents; times are RFC 3339. */
function windowToJson(window: TimedWindow): JsonValue {
  const { backup, backupCount, end, endLsn, endTime, note, startLsn, startTime } = window
  return {
    backup_name: backup.name,
    backups_count: backupCount,
    start_lsn: startLsn,
    end_lsn: endLsn,
    start_time: startTime === undefined ? null : formatRfc3339(startTime),
    end_time: endTime === undefined ? null : formatRfc3339(endTime),
    ends_at: end.kind,
    ...(end.kind === 'hole' && { missing_segment: end.segment }),
    ...(note !== undefined && { note }),
  }
}
