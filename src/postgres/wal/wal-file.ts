/**
 * Names of WAL files and the content of timeline history files, defined only here
 * (access/xlog_internal.h, access/transam/timeline.c).
 */
import { WalrxError } from '../../primitives/errors.ts'
import { type Lsn, parseLsn, type Timeline, toLsn } from '../lsn.ts'

/** Smallest and largest `wal_segment_size` that initdb allows (1 MB to 1 GB, powers of two). */
export const segmentSizeMin = 1024 * 1024
export const segmentSizeMax = 1024 * 1024 * 1024

const hex8 = (value: number | bigint): string => value.toString(16).toUpperCase().padStart(8, '0')

/** Segments per 4 GB of WAL, the middle group of a segment name (XLogSegmentsPerXLogId). */
function segmentsPerId(segmentSize: number): bigint {
  return 0x100000000n / BigInt(segmentSize)
}

/** Name of segment `segno` (position / segment size) on `timeline`: 24 hex digits (XLogFileName). */
export function segmentName(timeline: Timeline, segno: bigint, segmentSize: number): string {
  const perId = segmentsPerId(segmentSize)
  return hex8(timeline) + hex8(segno / perId) + hex8(segno % perId)
}

/** Name of the segment that holds the byte at `lsn`. */
export function segmentNameAt(timeline: Timeline, lsn: Lsn, segmentSize: number): string {
  return segmentName(timeline, lsn / BigInt(segmentSize), segmentSize)
}

/** A parsed segment name. */
export interface SegmentId {
  readonly timeline: Timeline
  /** Segment number: start position / segment size. */
  readonly segno: bigint
}

/** True for 24 upper-case hex digits. */
export function isSegmentName(name: string): boolean {
  return /^[0-9A-F]{24}$/.test(name)
}

/** Parses a segment name; undefined when it is not one, or not valid with this segment size. */
export function parseSegmentName(name: string, segmentSize: number): SegmentId | undefined {
  if (!isSegmentName(name)) return undefined
  const perId = Number(segmentsPerId(segmentSize))
  const low = parseInt(name.slice(16), 16)
  const timeline = parseInt(name.slice(0, 8), 16)
  if (low >= perId || timeline === 0) return undefined
  // Below 2^44, and so exact: texts are turned into numbers several times as fast as into bigints.
  return { timeline, segno: BigInt(parseInt(name.slice(8, 16), 16) * perId + low) }
}

/** First byte of a segment. */
export function segmentStartLsn(id: SegmentId, segmentSize: number): Lsn {
  return toLsn(id.segno * BigInt(segmentSize))
}

/** Name of the partial segment that PostgreSQL keeps at the end of a timeline. */
export function partialName(segment: string): string {
  return `${segment}.partial`
}

/** Name of a timeline's history file (TLHistoryFileName). Timeline 1 has none. */
export function historyName(timeline: Timeline): string {
  return `${hex8(timeline)}.history`
}

/** Kinds of file that a restore_command is asked for, or an archive holds. */
export type WalFileKind = 'segment' | 'partial' | 'history' | 'backup'

/** The kind of a WAL file name, or undefined: `<24>`, `<24>.partial`, `<8>.history`, `<24>.<8>.backup`. */
export function walFileKind(name: string): WalFileKind | undefined {
  if (isSegmentName(name)) return 'segment'
  if (/^[0-9A-F]{24}\.partial$/.test(name)) return 'partial'
  if (/^[0-9A-F]{8}\.history$/.test(name)) return 'history'
  if (/^[0-9A-F]{24}\.[0-9A-F]{8}\.backup$/.test(name)) return 'backup'
  return undefined
}

/** One line of a history file: `timeline` ended at `switchpoint`, where the next one forked from it. */
export interface HistoryEntry {
  readonly timeline: Timeline
  readonly switchpoint: Lsn
}

/**
 * Parses the content of a history file: lines of `timeline<TAB>switchpoint<TAB>reason`, `#` comments and blank lines
 * ignored, as readTimeLineHistory does (timeline.c). Oldest ancestor first; the file's own timeline is not in it.
 * Throws WALRX_OBJECT_DAMAGED for anything else, and for timelines that do not increase.
 */
export function parseHistory(content: Uint8Array, name: string): HistoryEntry[] {
  const entries: HistoryEntry[] = []
  for (const line of Buffer.from(content).toString('latin1').split('\n')) {
    if (/^\s*(#|$)/.test(line)) continue
    const match = /^\s*(\d{1,10})\s+([0-9A-Fa-f]{1,8}\/[0-9A-Fa-f]{1,8})(\s|$)/.exec(line)
    if (!match) throw new WalrxError('WALRX_OBJECT_DAMAGED', `${name} has an invalid line: ${shownLine(line)}`)
    const timeline = Number(match[1])
    const previous = entries.at(-1)
    if (previous && previous.timeline >= timeline) {
      throw new WalrxError('WALRX_OBJECT_DAMAGED', `${name} lists timeline ${timeline} after ${previous.timeline}`)
    }
    entries.push({ timeline, switchpoint: parseLsn(match[2] ?? '') })
  }
  return entries
}

/** What a message has of a line that may be anything. */
function shownLine(line: string): string {
  const shown = line
    .slice(0, shownMax)
    .replaceAll('\t', ' ')
    .replace(/[^ -~]/g, '?')
  return `"${shown}${line.length > shownMax ? '…' : ''}"`
}

const shownMax = 60

/**
 * Parses the result of `SHOW wal_segment_size` (`16MB`, `1GB`, `1024kB`, plain bytes). Throws WALRX_PROTOCOL when it is
 * not a power of two between 1 MB and 1 GB.
 */
export function parseSegmentSize(text: string): number {
  const match = /^(\d+)\s*(B|kB|MB|GB)?$/.exec(text.trim())
  const unit = { B: 1, kB: 1024, MB: 1024 ** 2, GB: 1024 ** 3 }[match?.[2] ?? 'B'] ?? 1
  const size = Number(match?.[1] ?? 0) * unit
  if (size < segmentSizeMin || size > segmentSizeMax || (size & (size - 1)) !== 0) {
    throw new WalrxError(
      'WALRX_PROTOCOL',
      `the server's wal_segment_size "${text}" is not a power of two between 1MB and 1GB`,
    )
  }
  return size
}
