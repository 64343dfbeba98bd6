/**
 * WAL that the archive will never have: the server no longer had it when it was asked for. Each such range is an object
 * of its own, `walrx_005/gap/<timeline>/<start>-<end>.json`, written before the stream goes on after it, so that a
 * restore years later shows why segments are missing, and since when that was known.
 *
 * A record of one byte is a **break**: all WAL is there, but no recovery passes that place, because the server went on
 * with wal_level=minimal. It lacks no segment.
 *
 * A record says what was lost when it was written. Whether it still is missing is for its readers to see: segments may
 * have come since, from another receiver or from an archive_command.
 */
import { hasCode, type WalrxError } from '../../primitives/errors.ts'
import { formatJson } from '../../primitives/json/json.ts'
import { formatLsn, type Lsn, segmentNumber, type Timeline, toLsn } from '../../postgres/lsn.ts'
import type { SegmentId } from '../../postgres/wal/wal-file.ts'
import type { Storage, StorageCallOptions } from '../../storage/storage.ts'
import { parseBackupTime } from '../backup/backup-time.ts'
import { JsonDocument } from '../json-document.ts'
import { gapFolder } from '../names.ts'
import { readDocument } from '../stored/stored-reader.ts'
import { createDocument } from '../stored/stored-writer.ts'

/** A range of WAL on one timeline. */
export interface GapRange {
  readonly timeline: Timeline
  /** First byte that is lost. */
  readonly startLsn: Lsn
  /** One past the last one. Within a segment only where the timeline ended there. */
  readonly endLsn: Lsn
}

/** What a gap's object says. */
export interface GapRecord extends GapRange {
  /** RFC 3339 in UTC, by the clock of the receiver. */
  readonly detectedAt: string
  /** Why the WAL was lost, for people. */
  readonly reason: string
  /** The server that no longer had it. */
  readonly host: string
  /** The slot that should have kept it; undefined without one. */
  readonly slot: string | undefined
}

/** Alignment of records (MAXALIGN), of ends of timelines, and of segments. */
const alignment = 8n

/** True for a break: WAL is not lost, but a recovery from before `startLsn` ends there. */
export function isBreak({ endLsn, startLsn }: Pick<GapRange, 'endLsn' | 'startLsn'>): boolean {
  return endLsn - startLsn === 1n && startLsn % alignment === 0n
}

const hex = (value: number | bigint, digits: number): string => value.toString(16).toUpperCase().padStart(digits, '0')

/** Key of a gap's object. Keys of one timeline sort by where the gaps begin. */
export function gapKey({ endLsn, startLsn, timeline }: GapRange): string {
  return `${gapFolder}${hex(timeline, 8)}/${hex(startLsn, 16)}-${hex(endLsn, 16)}.json`
}

/** Takes a key apart; undefined for any other key. */
export function parseGapKey(key: string): GapRange | undefined {
  if (!key.startsWith(gapFolder)) return undefined
  const match = /^([0-9A-F]{8})\/([0-9A-F]{16})-([0-9A-F]{16})\.json$/.exec(key.slice(gapFolder.length))
  if (!match) return undefined
  const [startLsn, endLsn] = [toLsn(BigInt(`0x${match[2]}`)), toLsn(BigInt(`0x${match[3]}`))]
  const timeline = parseInt(match[1] ?? '', 16)
  return timeline > 0 && startLsn < endLsn ? { timeline, startLsn, endLsn } : undefined
}

/**
 * Writes a gap's object; one that is there already stays as it is, with the time at which the gap was first seen.
 * @throws what the storage says
 */
export async function writeGap(
  storage: Storage,
  gap: GapRecord,
  options?: StorageCallOptions,
): Promise<'created' | 'same'> {
  const document = {
    Timeline: gap.timeline,
    StartLsn: formatLsn(gap.startLsn),
    EndLsn: formatLsn(gap.endLsn),
    DetectedAt: gap.detectedAt,
    Reason: gap.reason,
    Host: gap.host,
    Slot: gap.slot ?? null,
  }
  const bytes = Buffer.from(`${formatJson(document, 2)}\n`)
  const outcome = await createDocument(storage, gapKey(gap), bytes, options)
  return outcome === 'created' ? 'created' : 'same'
}

/**
 * Every gap that was ever recorded, by timeline and start. One listing, and a small object for each.
 * @param timeline only those of this one; default all
 * @param onDamaged called for an object that does not say what its key says; it is called with the key
 * @throws WALRX_OBJECT_DAMAGED for such an object without `onDamaged`, and what the storage says
 */
export async function listGaps(
  storage: Storage,
  options?: StorageCallOptions,
  timeline?: Timeline,
  onDamaged?: (error: WalrxError, key: string) => void,
): Promise<GapRecord[]> {
  const gaps: GapRecord[] = []
  for await (const range of gapRanges(storage, options, timeline)) {
    try {
      gaps.push(await readGap(storage, range, options))
    } catch (error) {
      if (!onDamaged || !hasCode(error, 'WALRX_OBJECT_DAMAGED')) throw error
      onDamaged(error, gapKey(range))
      gaps.push({ ...range, detectedAt: '', reason: 'its record cannot be read', host: '', slot: undefined })
    }
  }
  return gaps
}

/**
 * Where gaps were recorded, by timeline and start. One listing: what the keys say is enough for it.
 * @param timeline only those of this one; default all
 * @throws what the storage says
 */
export async function* gapRanges(
  storage: Storage,
  options?: StorageCallOptions,
  timeline?: Timeline,
): AsyncGenerator<GapRange, undefined> {
  const folder = timeline === undefined ? gapFolder : `${gapFolder}${hex(timeline, 8)}/`
  for await (const { key } of storage.list(folder, options)) {
    const range = parseGapKey(key)
    if (range) yield range
  }
}

/** Segment numbers, both included. */
export interface SegnoRange {
  readonly first: bigint
  readonly last: bigint
}

/**
 * The segments that a gap's timeline lacks by it; undefined for none. The segment in which the timeline ended is not one
 * of them: the next timeline's first segment has a copy of it.
 */
export function segmentsOf({ endLsn, startLsn }: GapRange, segmentSize: number): SegnoRange | undefined {
  const range = { first: segmentNumber(startLsn, segmentSize), last: segmentNumber(endLsn, segmentSize) - 1n }
  return range.last < range.first ? undefined : range
}

/** The first of these gaps that a segment lies in. */
export function gapHolding(gaps: readonly GapRecord[], id: SegmentId, segmentSize: number): GapRecord | undefined {
  return gaps.find((gap) => isInGap(gap, id, segmentSize))
}

/** True for a segment that lies in a gap. */
export function isInGap(gap: GapRange, id: SegmentId, segmentSize: number): boolean {
  const range = segmentsOf(gap, segmentSize)
  return gap.timeline === id.timeline && range !== undefined && range.first <= id.segno && id.segno <= range.last
}

/** A gap for people: `WAL from 0/6000000 to 0/8000000 on timeline 1 was lost (detected at 2026-03-01T12:00:00Z)`. */
export function describeGap({ detectedAt, endLsn, startLsn, timeline }: GapRecord): string {
  if (isBreak({ endLsn, startLsn })) {
    const from = `from ${formatLsn(startLsn)} on timeline ${timeline} on`
    return `the server ran with wal_level=minimal ${from}, and no recovery passes that${detected(detectedAt)}`
  }
  const range = `from ${formatLsn(startLsn)} to ${formatLsn(endLsn)} on timeline ${timeline}`
  return `WAL ${range} was lost${detected(detectedAt)}`
}

function detected(at: string): string {
  return at === '' ? '' : ` (detected at ${at})`
}

async function readGap(storage: Storage, range: GapRange, options?: StorageCallOptions): Promise<GapRecord> {
  const key = gapKey(range)
  const where = `${storage.location}/${key}`
  const document = JsonDocument.parse(await readDocument(storage, key, options), where)
  const take = (name: string, expected: string) => {
    const value = document.take(name)
    if (value === undefined || String(value) !== expected)
      throw document.wrong(name, value, `${expected} as in its key`)
  }
  take('Timeline', String(range.timeline))
  take('StartLsn', formatLsn(range.startLsn))
  take('EndLsn', formatLsn(range.endLsn))
  const detectedAt = document.text('DetectedAt')
  if (detectedAt === undefined || parseBackupTime(detectedAt) === undefined) {
    throw document.wrong('DetectedAt', detectedAt, 'a time such as 2026-03-01T12:00:00Z')
  }
  const [reason = '', host = '', slot] = [document.text('Reason'), document.text('Host'), document.text('Slot')]
  return { ...range, detectedAt, reason, host, slot }
}
