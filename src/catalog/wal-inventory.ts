/**
 * What WAL the archive holds: segments by timeline as unbroken ranges, never as names, so that 100,000 segments cost a
 * handful of numbers; how the timelines hang together; and what is missing between the ranges.
 */
import { WalrxError } from '../primitives/errors.ts'
import { type Lsn, type Timeline, toLsn } from '../postgres/lsn.ts'
import { historyName, parseHistory, parseSegmentName, segmentName } from '../postgres/wal/wal-file.ts'
import { decodePageHeader, longHeaderSize } from '../postgres/wal/wal-page.ts'
import type { StorageCallOptions } from '../storage/storage.ts'
import { readWhole } from '../walg/stored/stored-reader.ts'
import { coveredLength, listTails } from '../walg/wal/tail-reader.ts'
import type { WalReader } from '../walg/wal/wal-reader.ts'

/** An unbroken range of segments: numbers, both included. */
export interface SegmentRange {
  readonly first: bigint
  last: bigint
}

/** One timeline of the archive. */
export interface TimelineInventory {
  readonly timeline: Timeline
  /** 0 for timeline 1, and where the archive lacks the history file. */
  readonly parent: Timeline
  /** Where it forked off its parent; 0 without one. */
  readonly switchpoint: Lsn
  readonly ranges: readonly SegmentRange[]
  /** Empty for a timeline that has its history archived, and no segment. */
  readonly segmentCount: bigint
  readonly hasPartial: boolean
  /** One past the last byte that follows the last range without a hole, chunks included; undefined where there is none. */
  readonly durableEnd: Lsn | undefined
  /** When the newest of its objects was written, in milliseconds since 1970 by the clock of the storage. */
  readonly newestMs: number
}

/** The whole archive. */
export interface WalInventory {
  readonly segmentSize: number
  readonly timelines: readonly TimelineInventory[]
}

interface Collected {
  readonly ranges: SegmentRange[]
  count: bigint
  hasPartial: boolean
  hasHistory: boolean
  newestMs: number
  /** Bytes of the tails by the numbers of their segments. */
  readonly tailBytes: Map<bigint, number>
}

/**
 * Reads the archive by one listing, and one history file a timeline.
 * @param segmentSize bytes; undefined reads it from the header of the first segment
 * @throws WALRX_OBJECT_DAMAGED for a history that cannot be read, and what the storage says
 */
export async function readInventory(
  reader: WalReader,
  segmentSize: number | undefined,
  options?: StorageCallOptions,
): Promise<WalInventory> {
  const collected = new Map<Timeline, Collected>()
  let size = segmentSize
  for await (const { kind, lastModifiedMs, name } of reader.walObjects(options)) {
    const entry = entryOf(collected, name)
    if (kind === 'segment') entry.newestMs = Math.max(entry.newestMs, lastModifiedMs)
    if (kind === 'history') entry.hasHistory = true
    else if (kind === 'partial') entry.hasPartial = true
    else if (kind === 'segment') addSegment(entry, name, (size ??= await segmentSizeOfFile(reader, name, options)))
  }
  for await (const { chunks, segment } of listTails(reader.storage, undefined, options)) {
    const entry = entryOf(collected, segment)
    entry.newestMs = Math.max(entry.newestMs, ...chunks.map(({ lastModifiedMs }) => lastModifiedMs))
    const segno = parseSegmentName(segment, (size ??= defaultSegmentSize))?.segno
    if (segno !== undefined) entry.tailBytes.set(segno, coveredLength(chunks))
  }
  const segmentBytes = size ?? defaultSegmentSize
  const timelines: TimelineInventory[] = []
  for (const [timeline, entry] of [...collected].sort(([a], [b]) => a - b)) {
    const { count, hasHistory, hasPartial, newestMs, ranges } = entry
    const origin = hasHistory ? await readOrigin(reader, timeline, options) : undefined
    const { parent, switchpoint } = origin ?? { parent: 0, switchpoint: 0n as Lsn }
    const durableEnd = durableEndOf(entry, segmentBytes)
    timelines.push({ timeline, parent, switchpoint, ranges, segmentCount: count, hasPartial, durableEnd, newestMs })
  }
  return { segmentSize: segmentBytes, timelines }
}

const defaultSegmentSize = 16 * 1024 * 1024

function entryOf(collected: Map<Timeline, Collected>, name: string): Collected {
  const timeline = parseInt(name.slice(0, 8), 16)
  const known = collected.get(timeline)
  if (known) return known
  const entry = { ranges: [], count: 0n, hasPartial: false, hasHistory: false, newestMs: 0, tailBytes: new Map() }
  collected.set(timeline, entry)
  return entry
}

/** The end of the last range, or of the chunks that follow it. */
function durableEndOf({ tailBytes, ranges }: Collected, segmentSize: number): Lsn | undefined {
  const last = ranges.at(-1)?.last
  const first = [...tailBytes.keys()].sort((a, b) => (a < b ? -1 : 1))[0]
  let segno = last === undefined ? first : last + 1n
  if (segno === undefined) return undefined
  while (tailBytes.get(segno) === segmentSize) segno++
  return toLsn(segno * BigInt(segmentSize) + BigInt(tailBytes.get(segno) ?? 0))
}

function addSegment(entry: Collected, name: string, segmentSize: number): void {
  const segno = parseSegmentName(name, segmentSize)?.segno
  if (segno === undefined) return
  const range = entry.ranges.at(-1)
  if (range?.last === segno) return // stored twice, under two extensions
  entry.count++
  if (range && range.last + 1n === segno) range.last = segno
  else entry.ranges.push({ first: segno, last: segno })
}

/**
 * wal_segment_size from the long header of an archived segment.
 * @throws WALRX_OBJECT_DAMAGED where there is no such header
 */
export async function segmentSizeOfFile(
  reader: WalReader,
  name: string,
  options?: StorageCallOptions,
): Promise<number> {
  const file = await reader.openWalFile(name, undefined, options)
  const head: Uint8Array[] = []
  for await (const chunk of file?.body ?? []) {
    head.push(Buffer.from(chunk))
    if (head.reduce((sum, { length }) => sum + length, 0) >= longHeaderSize) break
  }
  const size = decodePageHeader(Buffer.concat(head))?.long?.segmentSize
  if (size !== undefined) return size
  throw new WalrxError('WALRX_OBJECT_DAMAGED', `segment ${name} has no header with wal_segment_size`, {
    hint: 'the archive may be encrypted: set the size with WALG_PG_WAL_SIZE',
  })
}

async function readOrigin(
  reader: WalReader,
  timeline: Timeline,
  options?: StorageCallOptions,
): Promise<{ parent: Timeline; switchpoint: Lsn } | undefined> {
  const name = historyName(timeline)
  const file = await reader.openWalFile(name, undefined, options)
  if (!file) return undefined
  const last = parseHistory(await readWhole(file), name).at(-1)
  return last && { parent: last.timeline, switchpoint: last.switchpoint }
}

/** Ranges that are missing between the first and the last segment of a timeline. */
export function gapsOf({ ranges }: TimelineInventory): SegmentRange[] {
  return ranges.slice(1).map((range, index) => ({ first: (ranges[index]?.last ?? 0n) + 1n, last: range.first - 1n }))
}

/** Names of all segments of a range. */
export function* namesOf(range: SegmentRange, timeline: Timeline, segmentSize: number): Generator<string> {
  for (let segno = range.first; segno <= range.last; segno++) yield segmentName(timeline, segno, segmentSize)
}
