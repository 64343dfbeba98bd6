/**
 * The WAL that a recovery will find in the archive: segments without a gap from the backup's start on, along the
 * timelines that the recovery follows; and the records in them.
 *
 * A segment in which a timeline begins is taken from the new timeline, which has a copy of the old timeline's bytes
 * before the fork (XLogFileReadAnyTLI in xlogrecovery.c asks for the newest one first). Where the archive lacks that
 * copy, the old timeline's segment serves up to the fork.
 */
import { WalrxError } from '../../primitives/errors.ts'
import { addBytes, type Lsn, segmentNumber, segmentStart, type Timeline, toLsn } from '../../postgres/lsn.ts'
import type { ChainLink, TimelineChain } from '../../postgres/wal/timeline-chain.ts'
import { segmentName } from '../../postgres/wal/wal-file.ts'
import type { WalRecord } from '../../postgres/wal/wal-record.ts'
import { WalRecordReader } from '../../postgres/wal/wal-record-reader.ts'
import type { StorageCallOptions } from '../../storage/storage.ts'
import type { WalReader } from '../../walg/wal/wal-reader.ts'
import { type SegmentTail, segmentTail } from '../wal/tail-fetch.ts'

/** Segments of one timeline: numbers, both included. */
export interface SegmentRun {
  readonly timeline: Timeline
  readonly first: bigint
  readonly last: bigint
}

/** What was found. */
export interface ReachableWal {
  readonly segmentSize: number
  /** In the order in which recovery reads them; each begins where the previous one ends. */
  readonly runs: readonly SegmentRun[]
  /** One past the last byte without a gap. */
  readonly end: Lsn
  /** Name of the first segment that the archive lacks. */
  readonly missing: string
  /** True when the archive holds later WAL: recovery stops at the gap, and the server does not start. */
  readonly isGap: boolean
  /**
   * True when the archive has a tail of the missing segment and later segments: recovery ends at the end of the tail.
   */
  readonly isCut?: boolean
  /** The tail of the missing segment, which wal-fetch delivers. */
  readonly tail?: SegmentTail | undefined
}

/**
 * Finds the WAL from `from` on. This costs a listing of every timeline's segments from there on.
 * @throws what the storage throws
 */
export async function reachableWal(
  reader: WalReader,
  chain: TimelineChain,
  from: Lsn,
  segmentSize: number,
  options?: StorageCallOptions,
): Promise<ReachableWal> {
  const runs: SegmentRun[] = []
  let next = segmentNumber(from, segmentSize)
  for (const [index, link] of chain.links.entries()) {
    const successor = chain.links[index + 1]
    // Exclusive: the segment with the fork is read from the successor.
    const stop = successor && segmentNumber(successor.begin, segmentSize)
    if (stop !== undefined && next >= stop) continue
    const before = chain.links[index - 1]
    for (;;) {
      const found = await unbrokenRun(reader, link.timeline, { first: next, stop, segmentSize }, options)
      if (found.last >= next) runs.push({ timeline: link.timeline, first: next, last: found.last })
      const old = found.last < next && segmentNumber(link.begin, segmentSize) === next ? before : undefined
      next = found.last + 1n
      if (stop !== undefined && next >= stop) break
      const end = toLsn(next * BigInt(segmentSize))
      const missing = segmentName(link.timeline, next, segmentSize)
      const own = await segmentTail(reader, missing, options)
      if (own?.bytes.length === segmentSize) {
        // Archived only as chunks, but complete: wal-fetch delivers it like a segment.
        runs.push({ timeline: link.timeline, first: next, last: next })
        next++
        continue
      }
      const isGap = found.isGap || successor !== undefined
      const fork = old && !own ? await forkEnd(reader, old, next, segmentSize, options) : undefined
      if (fork !== undefined && old) {
        runs.push({ timeline: old.timeline, first: next, last: next })
        return { segmentSize, runs, end: fork, missing, isGap }
      }
      const ofOld = old && segmentName(old.timeline, next, segmentSize)
      const tail = own ?? (ofOld && (await segmentTail(reader, ofOld, options)))
      if (!tail) return { segmentSize, runs, end, missing, isGap }
      const tailEnd = addBytes(end, tail.bytes.length)
      const isGapAfter = successor !== undefined
      return { segmentSize, runs, end: tailEnd, missing, isGap: isGapAfter, isCut: found.isGap, tail }
    }
  }
  throw new Error('the newest timeline has no end')
}

/** The run of consecutive segments from `first` on, below `stop`; `last` is first - 1 where there are none. */
async function unbrokenRun(
  reader: WalReader,
  timeline: Timeline,
  range: { readonly first: bigint; readonly stop: bigint | undefined; readonly segmentSize: number },
  options?: StorageCallOptions,
): Promise<{ last: bigint; isGap: boolean }> {
  let last = range.first - 1n
  for await (const { segno, size } of reader.segments(timeline, range.first, range.segmentSize, options)) {
    if (range.stop !== undefined && segno >= range.stop) break
    // wal-fetch ends a recovery at an object of 0 bytes, as it does at a hole.
    if (segno !== last + 1n || size === 0) return { last, isGap: true }
    last = segno
  }
  return { last, isGap: false }
}

/** The LSN at which `link` ends, if the archive has this timeline's own copy of that segment. */
async function forkEnd(
  reader: WalReader,
  link: ChainLink,
  segno: bigint,
  segmentSize: number,
  options?: StorageCallOptions,
): Promise<Lsn | undefined> {
  if (link.end === undefined || link.end % BigInt(segmentSize) === 0n) return undefined
  const found = await reader.find(segmentName(link.timeline, segno, segmentSize), options)
  return found.length > 0 && found.every(({ size }) => size > 0) ? link.end : undefined
}

/**
 * Passes on every complete record that begins in segment `from` or later and ends at `until` or before.
 * @throws WALRX_OBJECT_DAMAGED, WALRX_WAL_INVALID or WALRX_CODEC_UNSUPPORTED for a segment that cannot be read;
 * WALRX_OBJECT_NOT_FOUND for one that was removed meanwhile; what the storage throws
 */
export async function readRecords(
  reader: WalReader,
  wal: ReachableWal,
  from: bigint,
  until: Lsn,
  onRecord: (record: WalRecord) => void,
  options?: StorageCallOptions,
): Promise<void> {
  const records = new WalRecordReader((record) => {
    if (record.end <= until) onRecord(record)
  })
  let extension: string | undefined
  for (const name of segmentNames(wal, from, until)) {
    const file = await reader.openWalFile(name, extension, options)
    if (file) {
      extension = file.extension
      for await (const chunk of file.body) records.write(chunk)
      continue
    }
    const tail = await segmentTail(reader, name, options)
    if (!tail) throw new WalrxError('WALRX_OBJECT_NOT_FOUND', `segment ${name} was removed from the archive meanwhile`)
    records.write(tail.bytes)
  }
  if (!wal.tail || until <= segmentStart(wal.end, wal.segmentSize)) return
  records.write(wal.tail.bytes)
  // The last page is read as the server gets it: with zeros after the last byte.
  records.write(Buffer.alloc(-wal.tail.bytes.length & (walPageSizeMax - 1)))
}

/** Zeros up to a multiple of this complete a page of any size. */
const walPageSizeMax = 64 * 1024

/** What {@link findLast} found. */
export interface LastFound<T> {
  readonly found: T | undefined
  /** True when the whole span was read; false when the search gave up. */
  readonly isWhole: boolean
}

/** How far back {@link findLast} searches: 64 segments of the default size. */
const lookBackBytesMax = 1024 * 1024 * 1024

/**
 * Searches for a record from the end backwards: in the last segment, then in the last two, four and so on, until one is
 * found. Records can be read only forwards.
 * @param span the range in which the records begin and end
 * @param fold gets every record of the span with its own previous result, and returns the new result
 */
export async function findLast<T>(
  reader: WalReader,
  wal: ReachableWal,
  span: { readonly start: Lsn; readonly end: Lsn },
  fold: (record: WalRecord, found: T | undefined) => T | undefined,
  options?: StorageCallOptions,
): Promise<LastFound<T>> {
  const first = segmentNumber(span.start, wal.segmentSize)
  const last = segmentNumber(toLsn(span.end - 1n), wal.segmentSize)
  for (let count = 1n; ; count *= 2n) {
    const from = last - count + 1n > first ? last - count + 1n : first
    let found: T | undefined
    const onRecord = (record: WalRecord) => {
      if (record.start >= span.start) found = fold(record, found)
    }
    await readRecords(reader, wal, from, span.end, onRecord, options)
    if (found !== undefined || from === first) return { found, isWhole: true }
    if (count * BigInt(wal.segmentSize) >= BigInt(lookBackBytesMax)) return { found, isWhole: false }
  }
}

function* segmentNames(wal: ReachableWal, from: bigint, until: Lsn): Generator<string> {
  const stop = segmentNumber(toLsn(until - 1n), wal.segmentSize)
  for (const { first, last, timeline } of wal.runs) {
    const begin = first > from ? first : from
    for (let segno = begin; segno <= last && segno <= stop; segno++) {
      yield segmentName(timeline, segno, wal.segmentSize)
    }
  }
}
