/**
 * What WAL the archive holds: segments by timeline as unbroken ranges, never as names, so that 100,000 segments cost a
 * handful of numbers; how the timelines hang together; and what is missing between the ranges.
 */
import { hasCode, WalrxError } from '../primitives/errors.ts'
import { invalidLsn, type Lsn, type Timeline, toLsn } from '../postgres/lsn.ts'
import {
  type HistoryEntry,
  historyName,
  parseHistory,
  parseSegmentName,
  segmentName,
} from '../postgres/wal/wal-file.ts'
import { decodePageHeader, longHeaderSize } from '../postgres/wal/wal-page.ts'
import type { ObjectInfo, StorageCallOptions } from '../storage/storage.ts'
import { withRemedy } from '../walg/damaged-object.ts'
import { parseWalKey, walFolder } from '../walg/names.ts'
import { readWhole } from '../walg/stored/stored-reader.ts'
import { coveredLength, listTails } from '../walg/wal/tail-reader.ts'
import type { WalReader } from '../walg/wal/wal-reader.ts'

/** An unbroken range of segments: numbers, both included. */
export interface SegmentRange {
  readonly first: bigint
  last: bigint
}

/** The tail of a segment that is not there as a whole: how many bytes its chunks cover from its first one on. */
export interface ListedTail {
  readonly segno: bigint
  readonly bytes: number
}

/** One timeline of the archive. */
export interface TimelineInventory {
  readonly timeline: Timeline
  /** 0 for timeline 1, and where the archive lacks the history file. */
  readonly parent: Timeline
  /** Where it forked off its parent; 0 without one. */
  readonly switchpoint: Lsn
  /** All that its history file says, oldest first; empty for timeline 1, and where the archive lacks that file. */
  readonly ancestors: readonly HistoryEntry[]
  /** True where the archive has that file, and it cannot be read: no recovery gets to this timeline. */
  readonly isHistoryDamaged: boolean
  readonly ranges: readonly SegmentRange[]
  /**
   * Segments with an object of 0 bytes, in WAL order: none is that short, encoded or not. They are in no range, for no
   * recovery passes them.
   */
  readonly empty: readonly SegmentRange[]
  /** Empty for a timeline that has its history archived, and no segment. */
  readonly segmentCount: bigint
  readonly hasPartial: boolean
  /** The number of the last segment that has a partial; undefined without one. */
  readonly partial: bigint | undefined
  /** In the order of their segments. */
  readonly tails: readonly ListedTail[]
  /** Bytes of all its objects as they are stored: segments in every form, partials, chunks and its history. */
  readonly storedBytes: number
  /** One past the last byte that follows the last range without a hole, chunks included; undefined where there is none. */
  readonly durableEnd: Lsn | undefined
  /** When the newest of its objects was written, in milliseconds since 1970 by the clock of the storage. */
  readonly newestMs: number
}

/** The whole archive. */
export interface WalInventory {
  readonly segmentSize: number
  readonly timelines: readonly TimelineInventory[]
  /** Histories, and the segments by which the size was to be found, that cannot be read. */
  readonly problems: readonly WalrxError[]
}

interface Collected {
  readonly ranges: SegmentRange[]
  readonly empty: SegmentRange[]
  count: bigint
  lastPartial: string | undefined
  hasHistory: boolean
  storedBytes: number
  newestMs: number
  /** Bytes of the tails by the numbers of their segments. */
  readonly tailBytes: Map<bigint, number>
}

/**
 * Reads the archive by one listing, and one history file a timeline. What is damaged is a problem of the result.
 * @param segmentSize bytes; undefined reads it from the header of the first segment that has one
 * @throws WALRX_OBJECT_DAMAGED where no segment has one, and what the storage says
 */
export async function readInventory(
  reader: WalReader,
  segmentSize: number | undefined,
  options?: StorageCallOptions,
): Promise<WalInventory> {
  const collected = new Map<Timeline, Collected>()
  const problems: WalrxError[] = []
  const size = segmentSize ?? (await findSegmentSize(reader, problems, options)) ?? defaultSegmentSize
  for await (const page of reader.objectPages(options)) for (const info of page) collect(collected, info, size)
  for await (const { chunks, segment } of listTails(reader.storage, undefined, options)) {
    const entry = entryOf(collected, segment)
    const filled = chunks.filter((chunk) => chunk.size > 0)
    entry.newestMs = Math.max(entry.newestMs, ...filled.map(({ lastModifiedMs }) => lastModifiedMs))
    entry.storedBytes += chunks.reduce((sum, chunk) => sum + chunk.size, 0)
    const segno = parseSegmentName(segment, size)?.segno
    if (segno !== undefined && filled.length > 0) entry.tailBytes.set(segno, coveredLength(filled))
  }
  const timelines: TimelineInventory[] = []
  for (const [timeline, entry] of [...collected].sort(([a], [b]) => a - b)) {
    const ancestors = entry.hasHistory ? await ancestorsOf(reader, timeline, problems, options) : []
    timelines.push(inventoryOf(timeline, entry, ancestors, size))
  }
  return { segmentSize: size, timelines, problems }
}

function collect(
  collected: Map<Timeline, Collected>,
  { key, lastModifiedMs, size: bytes }: ObjectInfo,
  segmentSize: number,
): void {
  const parsed = parseWalKey(key)
  if (!parsed) return
  const { kind, name } = parsed
  const entry = entryOf(collected, name)
  entry.storedBytes += bytes
  if (kind === 'history') entry.hasHistory = true
  else if (kind === 'partial' && bytes > 0) entry.lastPartial = name
  else if (kind === 'segment') {
    addSegment(entry, name, segmentSize, bytes === 0)
    if (bytes > 0) entry.newestMs = Math.max(entry.newestMs, lastModifiedMs)
  }
}

/** How many segments are opened for wal_segment_size: the first may be damaged. */
const sizedMax = 5

/** Undefined for an archive without segments. Throws what is wrong with the first, where no one says it. */
async function findSegmentSize(
  reader: WalReader,
  problems: WalrxError[],
  options?: StorageCallOptions,
): Promise<number | undefined> {
  const damaged: WalrxError[] = []
  for await (const { kind, name, size } of reader.walObjects(options)) {
    if (kind !== 'segment' || size === 0) continue
    try {
      const found = await segmentSizeOfFile(reader, name, options)
      problems.push(...damaged)
      return found
    } catch (error) {
      if (!isDamage(error)) throw error
      damaged.push(error)
      if (damaged.length === sizedMax) break
    }
  }
  if (damaged[0]) throw damaged[0]
  return undefined
}

function isDamage(error: unknown): error is WalrxError {
  return hasCode(error, 'WALRX_OBJECT_DAMAGED') || hasCode(error, 'WALRX_CODEC_UNSUPPORTED')
}

/** A timeline of which the archive has nothing. */
export function emptyTimeline(timeline: Timeline): TimelineInventory {
  return inventoryOf(timeline, newEntry(), [], defaultSegmentSize)
}

function inventoryOf(
  timeline: Timeline,
  entry: Collected,
  history: readonly HistoryEntry[] | undefined,
  segmentSize: number,
): TimelineInventory {
  const { count, empty, lastPartial, newestMs, ranges, storedBytes, tailBytes } = entry
  const ancestors = history ?? []
  const origin = ancestors.at(-1)
  return {
    timeline,
    parent: origin?.timeline ?? 0,
    switchpoint: origin?.switchpoint ?? invalidLsn,
    ancestors,
    isHistoryDamaged: history === undefined,
    ranges,
    empty,
    segmentCount: count,
    hasPartial: lastPartial !== undefined,
    partial: lastPartial === undefined ? undefined : parseSegmentName(lastPartial.slice(0, 24), segmentSize)?.segno,
    tails: [...tailBytes].map(([segno, bytes]) => ({ segno, bytes })),
    storedBytes,
    durableEnd: durableEndOf(entry, segmentSize),
    newestMs,
  }
}

const defaultSegmentSize = 16 * 1024 * 1024

function entryOf(collected: Map<Timeline, Collected>, name: string): Collected {
  const timeline = parseInt(name.slice(0, 8), 16)
  const known = collected.get(timeline)
  if (known) return known
  const entry = newEntry()
  collected.set(timeline, entry)
  return entry
}

function newEntry(): Collected {
  return {
    ranges: [],
    empty: [],
    count: 0n,
    lastPartial: undefined,
    hasHistory: false,
    storedBytes: 0,
    newestMs: 0,
    tailBytes: new Map(),
  }
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

/** What is stored twice, under two extensions, comes twice; which of the two is read is not known. */
function addSegment(entry: Collected, name: string, segmentSize: number, isEmpty: boolean): void {
  const segno = parseSegmentName(name, segmentSize)?.segno
  if (segno === undefined || entry.empty.at(-1)?.last === segno) return
  const isKnown = entry.ranges.at(-1)?.last === segno
  if (isEmpty) {
    if (isKnown) removeLast(entry)
    append(entry.empty, segno)
  } else if (!isKnown) {
    entry.count++
    append(entry.ranges, segno)
  }
}

function append(ranges: SegmentRange[], segno: bigint): void {
  const range = ranges.at(-1)
  if (range && range.last + 1n === segno) range.last = segno
  else ranges.push({ first: segno, last: segno })
}

function removeLast(entry: Collected): void {
  const range = entry.ranges.at(-1)
  entry.count--
  if (range && range.first < range.last) range.last--
  else entry.ranges.pop()
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

/** What a history file says; undefined, with a problem, for one that cannot be read. */
async function ancestorsOf(
  reader: WalReader,
  timeline: Timeline,
  problems: WalrxError[],
  options?: StorageCallOptions,
): Promise<readonly HistoryEntry[] | undefined> {
  const name = historyName(timeline)
  try {
    const file = await reader.openWalFile(name, undefined, options)
    const ancestors = file ? parseHistory(await readWhole(file), name) : []
    if (!file || ancestors.length > 0) return ancestors
    throw new WalrxError('WALRX_OBJECT_DAMAGED', `${reader.location}/${file.key} names no timeline`)
  } catch (error) {
    if (!isDamage(error)) throw error
    problems.push(withRemedy(error, walFolder + name))
    return undefined
  }
}

/** Ranges without an object between the first and the last segment of a timeline. */
export function gapsOf({ empty, ranges }: TimelineInventory): SegmentRange[] {
  const there = empty.length === 0 ? ranges : [...ranges, ...empty].sort((a, b) => (a.first < b.first ? -1 : 1))
  return there
    .slice(1)
    .map((range, index) => ({ first: (there[index]?.last ?? 0n) + 1n, last: range.first - 1n }))
    .filter(({ first, last }) => first <= last)
}

/** Names of all segments of a range. */
export function* namesOf(range: SegmentRange, timeline: Timeline, segmentSize: number): Generator<string> {
  for (let segno = range.first; segno <= range.last; segno++) yield segmentName(timeline, segno, segmentSize)
}
