/**
 * The WAL that a recovery will find in the archive: whole segments without a gap from the backup's start on, along the
 * timelines that it follows; and the records in it.
 *
 * A segment in which a timeline begins is taken from the new timeline, which has a copy of what came before
 * (XLogFileReadAnyTLI in xlogrecovery.c asks for the newest one first). Where the archive lacks that copy, the old
 * timeline's segment serves up to the fork.
 */
import { WalrxError } from '../../primitives/errors.ts'
import { addBytes, type Lsn, segmentNumber, segmentStart, type Timeline, toLsn } from '../../postgres/lsn.ts'
import type { ChainLink, TimelineChain } from '../../postgres/wal/timeline-chain.ts'
import { segmentName } from '../../postgres/wal/wal-file.ts'
import type { WalRecord } from '../../postgres/wal/wal-record.ts'
import { WalRecordReader } from '../../postgres/wal/wal-record-reader.ts'
import type { StorageCallOptions } from '../../storage/storage.ts'
import type { WalReader } from '../../walg/wal/wal-reader.ts'
import { type SegmentBeginning, segmentBeginning } from '../wal/tail-fetch.ts'

/** Segments of one timeline: numbers, both included. */
export interface SegmentRun {
  readonly timeline: Timeline
  readonly first: bigint
  readonly last: bigint
}

/** What was found. */
export interface ReachableWal {
  readonly segmentSize: number
  /** In the order in which recovery reads them, each beginning where the one before ends. */
  readonly runs: readonly SegmentRun[]
  /** One past the last byte that is there. */
  readonly end: Lsn
  /** Name of the first segment that is not there. */
  readonly missing: string
  /** True when WAL follows behind it in the archive: recovery stops there, and the server does not start. */
  readonly isHole: boolean
  /** True when the missing segment has a beginning and whole ones follow it: recovery ends at the end of the beginning. */
  readonly isCut?: boolean
  /** What the archive has of the missing segment: wal-fetch gives it out. */
  readonly beginning?: SegmentBeginning | undefined
}

/**
 * Finds the WAL from `from` on. Costs a listing of every timeline's segments from there on.
 * @throws what the storage says
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
    // Exclusive; the successor's first segment is its own.
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
      const own = await segmentBeginning(reader, missing, options)
      if (own?.bytes.length === segmentSize) {
        // In chunks alone: wal-fetch gives it out like a whole one.
        runs.push({ timeline: link.timeline, first: next, last: next })
        next++
        continue
      }
      const isHole = found.isHole || successor !== undefined
      const fork = old && !own ? await forkEnd(reader, old, next, segmentSize, options) : undefined
      if (fork !== undefined && old) {
        runs.push({ timeline: old.timeline, first: next, last: next })
        return { segmentSize, runs, end: fork, missing, isHole }
      }
      const ofOld = old && segmentName(old.timeline, next, segmentSize)
      const beginning = own ?? (ofOld && (await segmentBeginning(reader, ofOld, options)))
      if (!beginning) return { segmentSize, runs, end, missing, isHole }
      const beginningEnd = addBytes(end, beginning.bytes.length)
      const isHoleBehind = successor !== undefined
      return { segmentSize, runs, end: beginningEnd, missing, isHole: isHoleBehind, isCut: found.isHole, beginning }
    }
  }
  throw new Error('the newest timeline has no end')
}

/** How far segments follow each other from `first` on, below `stop`; `last` is first - 1 where there are none. */
async function unbrokenRun(
  reader: WalReader,
  timeline: Timeline,
  range: { readonly first: bigint; readonly stop: bigint | undefined; readonly segmentSize: number },
  options?: StorageCallOptions,
): Promise<{ last: bigint; isHole: boolean }> {
  let last = range.first - 1n
  for await (const { segno } of reader.segments(timeline, range.first, range.segmentSize, options)) {
    if (range.stop !== undefined && segno >= range.stop) break
    if (segno !== last + 1n) return { last, isHole: true }
    last = segno
  }
  return { last, isHole: false }
}

/** Where `link` ends, if the archive has its own copy of the segment in which it does. */
async function forkEnd(
  reader: WalReader,
  link: ChainLink,
  segno: bigint,
  segmentSize: number,
  options?: StorageCallOptions,
): Promise<Lsn | undefined> {
  if (link.end === undefined || link.end % BigInt(segmentSize) === 0n) return undefined
  return (await reader.has(segmentName(link.timeline, segno, segmentSize), options)) ? link.end : undefined
}

/**
 * Shows every whole record that begins in segment `from` or later and ends at `until` or before.
 * @throws WALRX_OBJECT_DAMAGED, WALRX_WAL_INVALID or WALRX_CODEC_UNSUPPORTED for a segment that cannot be read;
 * WALRX_OBJECT_NOT_FOUND for one that has gone; what the storage says
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
    const beginning = await segmentBeginning(reader, name, options)
    if (!beginning) throw new WalrxError('WALRX_OBJECT_NOT_FOUND', `segment ${name} has gone from the archive`)
    records.write(beginning.bytes)
  }
  if (!wal.beginning || until <= segmentStart(wal.end, wal.segmentSize)) return
  records.write(wal.beginning.bytes)
  // The last page is read as the server gets it: with zeros behind the last byte.
  records.write(Buffer.alloc(-wal.beginning.bytes.length & (walPageSizeMax - 1)))
}

/** Zeros up to a multiple of this end every page, whatever its size is. */
const walPageSizeMax = 64 * 1024

/** What {@link findLast} found. */
export interface LastFound<T> {
  readonly found: T | undefined
  /** True when all that was asked for was read; false when it gave up. */
  readonly isWhole: boolean
}

/** How far back {@link findLast} looks: 64 segments of the usual size. */
const lookBackBytesMax = 1024 * 1024 * 1024

/**
 * Looks for records from the end backwards: in the last segment, then in the last two, four and so on, until there is
 * one. Records can be read forwards only.
 * @param span where the records are to begin and to have ended
 * @param fold gets every record of the span with what it returned last, and returns what is then the result
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
