/**
 * Whether an archive lacks WAL between its earliest backup and the present segment of the server: WAL-G's check
 * (wal-g: internal/databases/postgres/integrity_check_runner.go), on ranges instead of names.
 *
 * The segment that the server writes to is not looked at. Downwards from the one before it, missing segments count as
 * delayed before the first that is there (as many as are allowed), then as being uploaded (as many as a writer uploads
 * at a time), then as lost. What a gap record says is lost, wherever it lies.
 *
 * A segment of 0 bytes is found, as for WAL-G. The result names it besides.
 *
 * In three ways it looks closer than WAL-G. A segment whose chunks are complete counts as found: wal-fetch delivers it. A
 * segment is looked for on the timeline that the history gives it, also where two forks lie in one segment. And a break
 * (wal_level=minimal) is a failure: no recovery from the earliest backup passes it.
 */
import { segmentNumber, type Timeline } from '../postgres/lsn.ts'
import type { TimelineChain } from '../postgres/wal/timeline-chain.ts'
import { isBreak, isInGap } from '../walg/wal/gap-records.ts'
import type { OpenGap } from './open-gaps.ts'
import type { SegmentRange, TimelineInventory, WalInventory } from './wal-inventory.ts'

/** What is known of a segment, in WAL-G's words. */
export type SegmentStatus = 'FOUND' | 'MISSING_DELAYED' | 'MISSING_UPLOADING' | 'MISSING_LOST'

/** The result of a check, in WAL-G's words. */
export type CheckStatus = 'OK' | 'WARNING' | 'FAILURE'

/** Consecutive segments of one timeline and one status: numbers, both included. */
export interface SegmentSequence extends SegmentRange {
  readonly timeline: Timeline
  readonly status: SegmentStatus
}

/** What {@link checkIntegrity} looks at. */
export interface IntegrityQuestion {
  readonly inventory: WalInventory
  /** The server's timeline and its ancestors. */
  readonly chain: TimelineChain
  /** The number of the segment that the server writes to. */
  readonly current: bigint
  /** The first segment that has to be there. */
  readonly first: bigint
  /** False where no backup gives the first one: then the WAL may begin later. */
  readonly isFirstNeeded: boolean
  /** How many missing segments before the current one may still be on their way. */
  readonly delayedMax: number
  /** How many segments after those a writer may be uploading. */
  readonly uploadingMax: number
  /** Those that are open, breaks included. */
  readonly gaps: readonly OpenGap[]
}

/** The result of {@link checkIntegrity}. */
export interface Integrity {
  readonly status: CheckStatus
  /** In WAL order. */
  readonly sequences: readonly SegmentSequence[]
  /** The gaps and breaks in the WAL that was looked at. */
  readonly gaps: readonly OpenGap[]
  /** Segments of 0 bytes among the found ones: no recovery passes them. */
  readonly empty: readonly (SegmentRange & { readonly timeline: Timeline })[]
}

/** Looks at the segments from `first` to the one before `current`. See the file's header. */
export function checkIntegrity(question: IntegrityQuestion): Integrity {
  const { chain, current, first, gaps, inventory } = question
  const runs = runsBetween(question, first, current - 1n)
  const sequences = joined(runs.flatMap((run) => statusesOf(question, runs, run)))
  const inside = gaps.filter((gap) => {
    const segno = segmentNumber(gap.startLsn, inventory.segmentSize)
    const isOnChain = chain.at(gap.startLsn).timeline === gap.timeline
    if (isBreak(gap)) return isOnChain && segno >= first && segno <= current
    return sequences.some((each) => each.status === 'MISSING_LOST' && overlaps(question, gap, each))
  })
  const empty = runs.filter(({ isFound }) => isFound).flatMap((run) => emptyIn(inventory, run))
  return { status: statusOf(question, sequences, inside), sequences, gaps: inside, empty }
}

interface Run extends SegmentRange {
  readonly timeline: Timeline
  readonly isFound: boolean
}

/** Ranges of what is there and what is missing, in WAL order. */
function runsBetween({ chain, inventory }: IntegrityQuestion, first: bigint, last: bigint): Run[] {
  const { segmentSize, timelines } = inventory
  const runs: Run[] = []
  for (const { begin, end, timeline } of chain.links) {
    const begins = segmentNumber(begin, segmentSize)
    const from = begins > first ? begins : first
    // The segment with the fork belongs to the newer timeline, which has a copy of it.
    const until = end === undefined ? last : segmentNumber(end, segmentSize) - 1n
    const to = until < last ? until : last
    let next = from
    for (const range of wholeRanges(
      timelines.find((entry) => entry.timeline === timeline),
      segmentSize,
    )) {
      if (range.last < next) continue
      if (range.first > to || next > to) break
      if (range.first > next) runs.push({ timeline, first: next, last: range.first - 1n, isFound: false })
      const found = { first: range.first > next ? range.first : next, last: range.last < to ? range.last : to }
      runs.push({ timeline, ...found, isFound: true })
      next = found.last + 1n
    }
    if (next <= to) runs.push({ timeline, first: next, last: to, isFound: false })
  }
  return runs
}

/** The ranges of a timeline, with the segments of 0 bytes, and those that it has all chunks of. */
function wholeRanges(entry: TimelineInventory | undefined, segmentSize: number): readonly SegmentRange[] {
  const complete = entry?.tails.filter(({ bytes }) => bytes === segmentSize) ?? []
  if (!entry || complete.length + entry.empty.length === 0) return entry?.ranges ?? []
  const more = complete.map(({ segno }) => ({ first: segno, last: segno }))
  return [...entry.ranges, ...entry.empty, ...more].sort((a, b) => Number(a.first - b.first))
}

/** The segments of 0 bytes in a run; not those that have all their chunks. */
function emptyIn({ segmentSize, timelines }: WalInventory, { first, last, timeline }: Run): Integrity['empty'] {
  const entry = timelines.find((each) => each.timeline === timeline)
  const isWhole = (segno: bigint) => entry?.tails.some((tail) => tail.segno === segno && tail.bytes === segmentSize)
  return (entry?.empty ?? []).flatMap((range) => {
    const within = { timeline, first: max(range.first, first), last: min(range.last, last) }
    const isOne = within.first === within.last
    return within.first > within.last || (isOne && isWhole(within.first)) ? [] : [within]
  })
}

/** The statuses within a run: one that is missing is cut where another one begins. */
function statusesOf(question: IntegrityQuestion, runs: readonly Run[], run: Run): SegmentSequence[] {
  const { timeline } = run
  if (run.isFound) return [{ timeline, first: run.first, last: run.last, status: 'FOUND' }]
  const { current, delayedMax, uploadingMax } = question
  const newest = runs.findLast((each) => each.isFound)?.last ?? question.first - 1n
  // As many as are missing before the first that is there, and that one, which WAL-G's first scan takes too.
  const toFirst = current - newest
  const delayed = toFirst < BigInt(delayedMax) ? toFirst : BigInt(delayedMax)
  const [delayedFrom, uploadingFrom] = [current - delayed, current - delayed - BigInt(uploadingMax)]
  const bySide = [
    { first: run.first, last: min(run.last, uploadingFrom - 1n), status: 'MISSING_LOST' },
    { first: max(run.first, uploadingFrom), last: min(run.last, delayedFrom - 1n), status: 'MISSING_UPLOADING' },
    { first: max(run.first, delayedFrom), last: run.last, status: 'MISSING_DELAYED' },
  ] as const
  return bySide.filter(({ first, last }) => first <= last).flatMap((side) => cutByGaps(question, { timeline, ...side }))
}

/** What a gap record holds is lost, whatever its place says. */
function cutByGaps({ gaps, inventory }: IntegrityQuestion, sequence: SegmentSequence): SegmentSequence[] {
  const { first, last, status, timeline } = sequence
  if (status === 'MISSING_LOST') return [sequence]
  // At most as many as a writer uploads at a time, or may be delayed.
  const cut: SegmentSequence[] = []
  for (let segno = first; segno <= last; segno++) {
    const isLost = gaps.some((gap) => isInGap(gap, { timeline, segno }, inventory.segmentSize))
    cut.push({ timeline, first: segno, last: segno, status: isLost ? 'MISSING_LOST' : status })
  }
  return cut
}

function joined(sequences: readonly SegmentSequence[]): SegmentSequence[] {
  const all: SegmentSequence[] = []
  for (const sequence of sequences) {
    const before = all.at(-1)
    if (before?.timeline === sequence.timeline && before.status === sequence.status) before.last = sequence.last
    else all.push({ ...sequence })
  }
  return all
}

function overlaps({ inventory }: IntegrityQuestion, gap: OpenGap, { first, last, timeline }: SegmentSequence): boolean {
  if (gap.timeline !== timeline) return false
  const [from, to] = [gap.startLsn, gap.endLsn - 1n].map((lsn) => lsn / BigInt(inventory.segmentSize))
  return from !== undefined && to !== undefined && from <= last && to >= first
}

function statusOf(
  { isFirstNeeded }: IntegrityQuestion,
  sequences: readonly SegmentSequence[],
  gaps: readonly OpenGap[],
): CheckStatus {
  if (gaps.some(isBreak)) return 'FAILURE'
  let [status, hasFound]: [CheckStatus, boolean] = ['OK', false]
  for (const { status: each } of sequences) {
    if (each === 'FOUND') hasFound = true
    else if (each === 'MISSING_LOST' && (isFirstNeeded || hasFound)) return 'FAILURE'
    else status = 'WARNING'
  }
  return status
}

function min(a: bigint, b: bigint): bigint {
  return a < b ? a : b
}

function max(a: bigint, b: bigint): bigint {
  return a > b ? a : b
}

/**
 * Whether the server's timeline is the newest of the archive (wal-g: timeline_check_runner.go).
 * @param newest of the archive; 0 for an archive without WAL
 */
export function checkTimeline(current: Timeline, newest: Timeline): CheckStatus {
  if (newest === 0) return 'WARNING'
  return current === newest ? 'OK' : 'FAILURE'
}
