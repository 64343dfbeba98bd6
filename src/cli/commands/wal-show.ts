/** `walrx wal-show`: which WAL the archive holds. */
import { gapToJson } from '../../catalog/gap-json.ts'
import { type OpenGap, openGaps } from '../../catalog/open-gaps.ts'
import {
  emptyTimeline,
  gapsOf,
  namesOf,
  readInventory,
  type SegmentRange,
  type TimelineInventory,
  type WalInventory,
} from '../../catalog/wal-inventory.ts'
import { openStorage } from '../../config/open-storage.ts'
import { systemClock } from '../../primitives/clock.ts'
import { formatJson } from '../../primitives/json.ts'
import { formatLsn } from '../../postgres/lsn.ts'
import { segmentName } from '../../postgres/wal/wal-file.ts'
import { describeGap, isBreak } from '../../walg/wal/gap-records.ts'
import { readSystem } from '../../walg/wal/system-marker.ts'
import { WalReader } from '../../walg/wal/wal-reader.ts'
import type { Command } from '../command.ts'
import { segmentSizeOf } from '../settings/segment-size.ts'
import { alignColumns } from '../terminal/align-columns.ts'
import { durationText } from '../terminal/duration-text.ts'

/** See the file's header. */
export const walShow: Command<'wal-show'> = {
  name: 'wal-show',
  positionals: [],
  examples: [
    { call: 'walrx wal-show', means: 'timelines, their segments and what is missing' },
    {
      call: "walrx wal-show --json | jq '.[].missing_segments'",
      means: "the same in the shape of WAL-G's --detailed-json",
    },
  ],
  async run({ options, signals, stdout }) {
    const storage = await openStorage(options)
    const signal = signals.drain
    try {
      const configured = segmentSizeOf(options) ?? (await readSystem(storage, { signal }))?.segmentSize
      const reader = new WalReader(storage)
      const inventory = await readInventory(reader, configured, { signal })
      const open = openGaps(await reader.gaps({ signal }), inventory)
      if (options.json) await writeAll(stdout, toJson(inventory, open), signal)
      else stdout.write(toText(inventory, open, storage.location))
      return 0
    } finally {
      await storage.close()
    }
  },
}

/**
 * WAL-G's array: one object for each timeline, in order of its id. A timeline is left out if the archive has only its
 * history file, and no gap of it is known.
 * `durable_lsn` and `written_at` are ours: how far its WAL reaches, chunks included, and when the last of it came.
 * `gaps` is ours, and there where WAL is known to be lost: those segments will never come, unlike others that are
 * missing. In pieces, because one segment far ahead makes millions of names missing.
 */
function* toJson({ segmentSize, timelines }: WalInventory, open: readonly OpenGap[]): Generator<string, undefined> {
  let separator = '[\n  '
  for (const entry of withLostOnes(timelines, open)) {
    const [first, last] = [entry.ranges[0], entry.ranges.at(-1)]
    const lost = open.filter(({ timeline }) => timeline === entry.timeline)
    if (entry.durableEnd === undefined && lost.length === 0) continue
    const gaps = gapsOf(entry)
    const head = {
      id: entry.timeline,
      parent_id: entry.parent,
      switch_point_lsn: entry.switchpoint,
      start_segment: first ? segmentName(entry.timeline, first.first, segmentSize) : null,
      end_segment: last ? segmentName(entry.timeline, last.last, segmentSize) : null,
      segments_count: entry.segmentCount,
    }
    yield `${separator}${formatJson(head).slice(0, -1)},"missing_segments":[`
    let comma = ''
    for (const gap of gaps) {
      for (const name of namesOf(gap, entry.timeline, segmentSize)) {
        yield `${comma}"${name}"`
        comma = ','
      }
    }
    const tail = {
      segment_range_size: first && last ? last.last - first.first + 1n : 0n,
      status: gaps.length === 0 && lost.length === 0 ? 'OK' : 'LOST_SEGMENTS',
      durable_lsn: entry.durableEnd ?? null,
      written_at: entry.durableEnd === undefined ? null : new Date(entry.newestMs).toISOString(),
      ...(lost.length > 0 && { gaps: lost.map(gapToJson) }),
    }
    yield `],${formatJson(tail).slice(1)}`
    separator = ',\n  '
  }
  yield separator.startsWith('[') ? '[]\n' : '\n]\n'
}

/** The timelines, and those without any WAL in the archive because all of it was lost. */
function withLostOnes(timelines: readonly TimelineInventory[], open: readonly OpenGap[]): TimelineInventory[] {
  const lost = [...new Set(open.map(({ timeline }) => timeline))]
    .filter((id) => !timelines.some(({ timeline }) => timeline === id))
    .map(emptyTimeline)
  return [...timelines, ...lost].sort((a, b) => a.timeline - b.timeline)
}

/** Characters that are written at once. */
const pieceCharacters = 64 * 1024

/** Writes the pieces, only as fast as they are read. */
async function writeAll(to: NodeJS.WritableStream, pieces: Iterable<string>, signal: AbortSignal): Promise<void> {
  let text = ''
  const flush = () => new Promise<void>((resolve) => void to.write(text, () => resolve()))
  for (const piece of pieces) {
    text += piece
    if (text.length < pieceCharacters) continue
    signal.throwIfAborted()
    await flush()
    text = ''
  }
  await flush()
}

/** Lines of missing segments in the text. */
const gapLinesMax = 20

function toText({ segmentSize, timelines }: WalInventory, open: readonly OpenGap[], location: string): string {
  const lost = open.map((gap) => `${describeGap(gap)}${isBreak(gap) ? '' : `: ${gap.reason}`}\n`).join('')
  if (timelines.length === 0) return `no WAL at ${location}\n${lost}`
  const rows = timelines.map((entry) => timelineCells(entry, segmentSize, open))
  const missing = timelines.flatMap((entry) => missingLines(entry, segmentSize))
  const more = missing.length - gapLinesMax
  if (more > 0)
    missing.splice(gapLinesMax, more, `… and ${more} more ranges of missing segments; --json names every segment`)
  return alignColumns([heads, ...rows], gapOfColumns) + missing.map((line) => `${line}\n`).join('') + lost
}

/** Beginning of every line, and distance of the columns. */
const [margin, gapOfColumns] = [' ', '    ']

const heads = [
  ...[`${margin}TLI`, 'parent', 'forked at', 'first segment', 'last segment'],
  ...['segments', 'missing', 'status', 'durable to', 'written'],
]

function timelineCells(entry: TimelineInventory, segmentSize: number, open: readonly OpenGap[]): string[] {
  const { durableEnd, hasPartial, parent, ranges, segmentCount, switchpoint, timeline } = entry
  const name = namer(timeline, segmentSize)
  const missing = gapsOf(entry).reduce((sum, { first, last }) => sum + last - first + 1n, 0n)
  const isLost = open.some((gap) => gap.timeline === timeline)
  return [
    `${margin}${timeline}`,
    ...(parent === 0 ? ['-', '-'] : [String(parent), formatLsn(switchpoint)]),
    name(ranges[0]?.first),
    `${name(ranges.at(-1)?.last)}${hasPartial ? ' + partial' : ''}`,
    String(segmentCount),
    String(missing),
    missing > 0n || isLost ? 'LOST_SEGMENTS' : 'OK',
    ...(durableEnd === undefined ? ['-', '-'] : [formatLsn(durableEnd), `${ageOf(entry.newestMs)} ago`]),
  ]
}

function missingLines(entry: TimelineInventory, segmentSize: number): string[] {
  return gapsOf(entry).map((gap) => describeRange(gap, namer(entry.timeline, segmentSize)))
}

/** Names of a timeline's segments by their numbers; `-` for none. */
function namer(timeline: number, segmentSize: number): (segno: bigint | undefined) => string {
  return (segno) => (segno === undefined ? '-' : segmentName(timeline, segno, segmentSize))
}

function describeRange({ first, last }: SegmentRange, name: (segno: bigint) => string): string {
  return first === last
    ? `missing ${name(first)}`
    : `missing ${name(first)} to ${name(last)}, ${last - first + 1n} segments`
}

/** How long ago that was, in one unit. */
function ageOf(ms: number): string {
  return durationText(Math.max(0, Math.round((systemClock.now() - ms) / 1000)))
}
