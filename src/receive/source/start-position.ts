/**
 * Where a stream begins: decided from the slot, the archive and the timeline history, never skipping a byte that the
 * archive lacks while there is a place to get it from.
 *
 * With a slot, its restart_lsn is the most that we ever acknowledged, so everything before it was durable; we start
 * there even when the archive holds more, because what was uploaded out of order before a crash may have holes, and
 * sending a segment again only costs a comparison. Only when the archive ends before the slot begins (the slot was
 * dropped and created again, by us or by somebody else) do we try the archive's end first; the slot's position is the
 * fallback, after a reported gap.
 *
 * Without a readable slot the archive alone decides: its newest segment, less the holes that parallel uploads of a
 * killed receiver can have left before it. A segment there that does not decode to a whole one counts as a hole: S3 shows
 * no object before its last byte has come, but not every store keeps that promise when it crashes.
 */
import {
  addBytes,
  formatLsn,
  invalidLsn,
  type Lsn,
  maxLsn,
  minLsn,
  segmentStart,
  type Timeline,
} from '../../postgres/lsn.ts'
import type { TimelineChain } from '../../postgres/wal/timeline-chain.ts'
import { segmentName } from '../../postgres/wal/wal-file.ts'
import type { ArchivedSegment, ReceiveArchive } from '../ports.ts'

/** What the decision rests on. */
export interface StartFacts {
  /** History of the server's timeline. */
  readonly chain: TimelineChain
  readonly segmentSize: number
  /** The slot's restart_lsn; undefined without a slot, or where it cannot be read or is not set. */
  readonly slotRestart: Lsn | undefined
  /** The server's flush position. */
  readonly serverEnd: Lsn
  /** True when the slot was made just now, so that its position says nothing about what is archived. Default false. */
  readonly isSlotNew?: boolean
  /** Segments before the newest that may be missing after a crash. */
  readonly holeWindow: number
}

/** A place to stream from: the first byte of a segment. */
export interface StartPosition {
  readonly timeline: Timeline
  readonly startLsn: Lsn
}

/** The decision. */
export interface StartPlan extends StartPosition {
  /** Where to go on when the server no longer has WAL at the first place: what lies between is a gap. */
  readonly fallback: StartPosition | undefined
  /** Why, for the log. */
  readonly reason: 'slot' | 'archive' | 'server position'
}

/** A run that has ended: all WAL of its timeline's history up to `lsn` is in the archive. */
export interface SettledRun {
  readonly timeline: Timeline
  readonly lsn: Lsn
}

/** What the server says of itself. */
type ServerFacts = Pick<StartFacts, 'chain' | 'segmentSize' | 'slotRestart' | 'serverEnd'>

/** Where the server's history goes on after a settled run; undefined when it doesn't know that timeline. */
export function positionAfter(settled: SettledRun, { chain, segmentSize }: ServerFacts): StartPosition | undefined {
  const { timeline, lsn } = settled
  const link = chain.link(timeline)
  if (!link) return undefined
  const next = link.end !== undefined && link.end <= lsn ? chain.after(timeline) : undefined
  if (next) return { timeline: next.timeline, startLsn: segmentStart(next.begin, segmentSize) }
  return { timeline, startLsn: segmentStart(lsn, segmentSize) }
}

/**
 * Where to stream again to learn whether the server's history is the one that is archived up to `durableLsn`: from one
 * segment before the end of what both have. Records hold transaction ids, times and the place of their predecessor, so
 * a segment beyond the point where two histories diverged is never the same in both, and the archive notices.
 */
export function comparePosition(facts: ServerFacts, durableLsn: Lsn): StartPosition {
  const { segmentSize, serverEnd, slotRestart } = facts
  const end = segmentStart(minLsn(durableLsn, serverEnd), segmentSize)
  const slotStart = slotRestart === undefined ? invalidLsn : segmentStart(slotRestart, segmentSize)
  return position(facts, maxLsn(addBytes(end, end > 0n ? -segmentSize : 0), slotStart))
}

type Archive = Pick<ReceiveArchive, 'segmentsWithTail' | 'isWhole' | 'segments'>

/** Decides. Reads the archive by one small listing in the common case, and the last segments before the place. */
export async function planStart(facts: StartFacts, archive: Archive, signal: AbortSignal): Promise<StartPlan> {
  const { isSlotNew, slotRestart, segmentSize, serverEnd } = facts
  if (slotRestart === undefined) return planFromArchive(facts, archive, signal)
  const slotStart = position(facts, segmentStart(slotRestart, segmentSize))
  // A receiver that was killed may have left holes before the newest segment, for which the old slot kept the WAL.
  if (!isSlotNew && (await arePredecessorsWhole(facts, slotStart.startLsn, archive, signal))) {
    return { ...slotStart, fallback: undefined, reason: 'slot' }
  }
  const archiveEnd = await newestArchivedEnd(facts, archive, signal, slotStart.startLsn)
  if (archiveEnd === undefined || archiveEnd >= slotStart.startLsn || archiveEnd > serverEnd) {
    return { ...slotStart, fallback: undefined, reason: 'slot' }
  }
  return { ...position(facts, archiveEnd), fallback: slotStart, reason: 'archive' }
}

async function planFromArchive(facts: StartFacts, archive: Archive, signal: AbortSignal): Promise<StartPlan> {
  const now = position(facts, segmentStart(facts.serverEnd, facts.segmentSize))
  const archiveEnd = await newestArchivedEnd(facts, archive, signal, undefined)
  if (archiveEnd === undefined || archiveEnd > facts.serverEnd)
    return { ...now, fallback: undefined, reason: 'server position' }
  return { ...position(facts, archiveEnd), fallback: now, reason: 'archive' }
}

/**
 * The timeline to ask for WAL from `startLsn` on is the one the byte belongs to. When it ends within that segment, the
 * stream delivers its tail for the `.partial` and then names the next one.
 */
export function position({ chain }: Pick<StartFacts, 'chain'>, startLsn: Lsn): StartPosition {
  return { timeline: chain.at(startLsn).timeline, startLsn }
}

/**
 * True when the archive holds the segment just before `startLsn`, on the timeline of its last byte, and no hole and
 * nothing damaged in the window before that: a slot that was created again a moment before a receiver was killed looks like
 * one that had confirmed it all. One small listing, and the segments of the window are read.
 */
async function arePredecessorsWhole(
  { chain, holeWindow, segmentSize }: StartFacts,
  startLsn: Lsn,
  archive: Archive,
  signal: AbortSignal,
): Promise<boolean> {
  if (startLsn === 0n) return true
  const { begin, timeline } = chain.at(addBytes(startLsn, -1))
  const end = startLsn / BigInt(segmentSize)
  const first = maxLsn(begin, addBytes(startLsn, -Math.min(holeWindow * segmentSize, Number(startLsn))))
  let next: bigint | undefined
  for await (const { segno, size } of archive.segments(timeline, first / BigInt(segmentSize), segmentSize, {
    signal,
  })) {
    if (segno >= end) break
    if (size === 0) return false
    if (next !== undefined && segno > next) return false
    if (!(await archive.isWhole(segmentName(timeline, segno, segmentSize), segmentSize, { signal }))) return false
    next = segno + 1n
  }
  return next === end
}

/**
 * End of what the archive holds of the chain, newest timeline first; holes within the window before the end count as
 * its end, and so do segments that are damaged: those within the window are read. On a finished timeline never beyond the
 * segment in which the next one begins.
 * @param before only segments that end at or before this position count
 */
async function newestArchivedEnd(
  facts: StartFacts,
  archive: Archive,
  signal: AbortSignal,
  before: Lsn | undefined,
): Promise<Lsn | undefined> {
  const { chain, segmentSize } = facts
  for (const link of [...chain.links].reverse()) {
    if (before !== undefined && link.begin >= before) continue
    const from = link.begin / BigInt(segmentSize)
    const limit = before === undefined ? undefined : before / BigInt(segmentSize)
    const end = await endOfTimeline(facts, link.timeline, from, limit, archive, signal)
    if (end === undefined) continue
    if (link.end === undefined || end <= link.end) return end
    return segmentStart(link.end, segmentSize)
  }
  return undefined
}

async function endOfTimeline(
  facts: StartFacts,
  timeline: Timeline,
  from: bigint,
  limit: bigint | undefined,
  archive: Archive,
  signal: AbortSignal,
): Promise<Lsn | undefined> {
  const { segmentSize, holeWindow } = facts
  /** Ends of the runs that are followed by a hole within the window, oldest first; the last one is the newest end. */
  let runEnds: bigint[] = []
  /** Segments within the window, oldest first. */
  let recent: bigint[] = []
  for await (const { segno, size } of archive.segments(timeline, from, segmentSize, { signal })) {
    if (limit !== undefined && segno >= limit) break
    if (size === 0) continue
    recent = [...recent.filter((other) => segno - other < BigInt(holeWindow)), segno]
    const last = runEnds.at(-1)
    if (last === undefined || segno > last) runEnds.push(segno + 1n)
    else if (segno === last) runEnds[runEnds.length - 1] = segno + 1n
    const newest = runEnds.at(-1) ?? 0n
    runEnds = runEnds.filter((end) => newest - end <= BigInt(holeWindow))
  }
  for (const segno of recent) {
    if (runEnds[0] === undefined || segno >= runEnds[0]) break
    const name = segmentName(timeline, segno, segmentSize)
    if (!(await archive.isWhole(name, segmentSize, { signal }))) return (segno * BigInt(segmentSize)) as Lsn
  }
  // Without a whole segment the archive may still have a tail.
  const end = runEnds[0] ?? (await lowest(archive.segmentsWithTail(timeline, segmentSize, { signal }), limit))
  return end === undefined ? undefined : ((end * BigInt(segmentSize)) as Lsn)
}

/** The lowest segment number, below `limit` where there is one. */
async function lowest(found: AsyncIterable<ArchivedSegment>, limit: bigint | undefined): Promise<bigint | undefined> {
  let first: bigint | undefined
  for await (const { segno } of found) {
    if ((limit === undefined || segno < limit) && (first === undefined || segno < first)) first = segno
  }
  return first
}

/** A position for the log. */
export function describePosition({ startLsn, timeline }: StartPosition): { timeline: Timeline; startLsn: string } {
  return { timeline, startLsn: formatLsn(startLsn) }
}
