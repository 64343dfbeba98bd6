/**
 * Which WAL the kept backups need. A segment is needed when some recovery of a kept backup reads it: one of its own
 * timeline from its start on, one of a timeline that left it later, from there on, and so on through all histories.
 * Numbers of segments decide, never names: timelines begin again at 1 after pg_upgrade, positions in the WAL go on.
 */
import type { Lsn, Timeline } from '../../postgres/lsn.ts'
import type { HistoryEntry } from '../../postgres/wal/wal-file.ts'
import type { OwnWal } from '../contents/restorable.ts'

/** A backup from which recovery goes on as far as there is WAL. */
export interface RecoveryStart {
  /** Undefined where the name does not say it: then it may be any. */
  readonly timeline: Timeline | undefined
  readonly segno: number
  /** Where it starts; undefined for the first byte of the segment. */
  readonly lsn: Lsn | undefined
  readonly name: string
}

/** Segments that are needed, and for which backup. */
export interface NeededSpan {
  readonly first: number
  readonly last: number
  readonly name: string
}

/** What is needed of one timeline. */
export interface TimelineNeeds {
  /** From this segment on all; Infinity for none. */
  readonly from: number
  /** The backup that needs it. */
  readonly fromName: string
  /** Others, in order and apart from each other. */
  readonly spans: readonly NeededSpan[]
}

/** What {@link needsOf} goes by. */
export interface NeedsInput {
  readonly segmentSize: number
  /** Of the archive. A timeline that is not among them is needed as a whole: it came later. */
  readonly timelines: Iterable<Timeline>
  readonly histories: ReadonlyMap<Timeline, readonly HistoryEntry[]>
  readonly starts: readonly RecoveryStart[]
  readonly own: readonly OwnWal[]
  /** Timelines that are needed from this segment on where no start leads to them. */
  readonly young: ReadonlyMap<Timeline, number>
}

/** What shows in place of a backup that needs a timeline which was written to within the last day. */
export const youngName = 'a backup to come'

interface Draft {
  from: number
  fromName: string
  readonly spans: NeededSpan[]
}

/** The needs of each timeline of the archive. */
export function needsOf(input: NeedsInput): ReadonlyMap<Timeline, TimelineNeeds> {
  const { histories, own, starts } = input
  const drafts = new Map<Timeline, Draft>()
  const draftOf = (timeline: Timeline): Draft => {
    const known = drafts.get(timeline)
    if (known) return known
    const draft: Draft = { from: Infinity, fromName: '', spans: [] }
    drafts.set(timeline, draft)
    return draft
  }
  for (const timeline of input.timelines) draftOf(timeline)
  for (const timeline of histories.keys()) draftOf(timeline)
  const require = (timeline: Timeline, from: number, name: string): void => {
    const draft = draftOf(timeline)
    if (from < draft.from) Object.assign(draft, { from, fromName: name })
  }
  for (const start of starts) {
    if (start.timeline !== undefined) require(start.timeline, start.segno, start.name)
    for (const timeline of [...drafts.keys()]) {
      const path = pathTo(timeline, start, input)
      for (const step of path) require(step.timeline, step.from, start.name)
    }
  }
  for (const { first, last, name, timeline } of own) draftOf(timeline).spans.push({ first, last, name })
  for (const [timeline, from] of input.young) {
    if (draftOf(timeline).from === Infinity) require(timeline, from, youngName)
  }
  addForkSegments(drafts, input)
  return new Map([...drafts].map(([timeline, draft]) => [timeline, { ...draft, spans: merged(draft.spans) }]))
}

/** The same spans in order, those that overlap as one. */
function merged(spans: readonly NeededSpan[]): NeededSpan[] {
  const apart: NeededSpan[] = []
  for (const span of spans.toSorted((a, b) => a.first - b.first)) {
    const before = apart.at(-1)
    if (!before || span.first > before.last) apart.push(span)
    else if (span.last > before.last) apart[apart.length - 1] = { ...before, last: span.last }
  }
  return apart
}

/** The timelines that a recovery from `start` reads on its way to `target`, each from its beginning on. */
function pathTo(
  target: Timeline,
  { lsn, segno, timeline }: RecoveryStart,
  { histories, segmentSize }: NeedsInput,
): { timeline: Timeline; from: number }[] {
  if (timeline === undefined) return [{ timeline: target, from: segno }]
  if (target === timeline) return []
  const history = histories.get(target)
  // Where nothing says where it came from, it may have left this one at any place.
  if (!history) return target > timeline ? [{ timeline: target, from: segno }] : []
  const at = history.findIndex((entry) => entry.timeline === timeline)
  const left = history[at]
  if (!left || left.switchpoint < (lsn ?? BigInt(segno) * BigInt(segmentSize))) return []
  const later = [...history.slice(at + 1).map((entry) => entry.timeline), target]
  return later.map((each, index) => ({
    timeline: each,
    from: segmentOf(history[at + index]?.switchpoint ?? 0n, segmentSize),
  }))
}

/**
 * A timeline has a copy of the segment in which it began. Until all of that is archived, its parent's segment has more of
 * it (see walg/wal/forked-tail.ts), so that one stays as long as the copy. Children have higher numbers than parents.
 */
function addForkSegments(drafts: ReadonlyMap<Timeline, Draft>, { histories, segmentSize }: NeedsInput): void {
  for (const [timeline, history] of [...histories].sort(([a], [b]) => b - a)) {
    const origin = history.at(-1)
    const needs = drafts.get(timeline)
    if (!origin || !needs) continue
    const fork = segmentOf(origin.switchpoint, segmentSize)
    const span = needs.spans.find(({ first, last }) => first <= fork && fork <= last)
    const name = fork >= needs.from ? needs.fromName : span?.name
    if (name !== undefined) drafts.get(origin.timeline)?.spans.push({ first: fork, last: fork, name })
  }
}

function segmentOf(lsn: bigint, segmentSize: number): number {
  return Number(lsn / BigInt(segmentSize))
}

/** The backup that needs any segment of a range, both ends included; undefined for none. */
export function whoNeeds({ from, fromName, spans }: TimelineNeeds, first: number, last: number): string | undefined {
  if (last >= from) return fromName
  let [low, high] = [0, spans.length]
  while (low < high) {
    const middle = (low + high) >>> 1
    if ((spans[middle]?.last ?? Infinity) < first) low = middle + 1
    else high = middle
  }
  const span = spans[low]
  return span && span.first <= last ? span.name : undefined
}
