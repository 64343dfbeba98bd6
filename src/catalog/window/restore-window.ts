/**
 * To which positions the archive can bring a cluster: from where the oldest usable backup is consistent to the end of the
 * WAL that follows it without a hole, along the timelines of a recovery. Where WAL is missing, the window ends, and the
 * next one begins with the next backup after that place.
 *
 * Everything here comes from listings, history files and sentinels; no WAL is read. `window-times.ts` reads some of it, and
 * adds the times.
 */
import { type Lsn, minLsn, segmentNumber, type Timeline, toLsn } from '../../postgres/lsn.ts'
import { TimelineChain } from '../../postgres/wal/timeline-chain.ts'
import { segmentName } from '../../postgres/wal/wal-file.ts'
import { parseBackupName } from '../../walg/backup/backup-names.ts'
import type { Sentinel } from '../../walg/backup/sentinel.ts'
import { gapHolding, isBreak } from '../../walg/wal/gap-records.ts'
import { followChain, linkOf } from '../chains.ts'
import type { OpenGap } from '../open-gaps.ts'
import type { SegmentRange, TimelineInventory, WalInventory } from '../wal-inventory.ts'

/** What a window needs to know of a backup. */
export interface WindowBackup {
  readonly name: string
  /** Undefined where it cannot be read. */
  readonly sentinel: Pick<Sentinel, 'delta' | 'finishLsn' | 'finishTime' | 'startLsn'> | undefined
  /** What it lacks that a restore needs; undefined for nothing. See walg/backup/backup-listing.ts. */
  readonly lack?: string | undefined
}

/** Why a window ends where it does. */
export type WindowEnd =
  /** It is the end of the newest WAL: the window grows. */
  | { readonly kind: 'newest' }
  /** This segment is missing, although later WAL is there. */
  | { readonly kind: 'hole'; readonly segment: string }
  /** The WAL after it is lost, or no recovery passes the place. */
  | { readonly kind: 'gap' | 'break'; readonly gap: OpenGap }

/** Positions that a recovery to one timeline can end at, without a gap between them. */
export interface RestoreWindow {
  /** The timeline that the recovery follows to its end. */
  readonly timeline: Timeline
  /** It, and its ancestors. */
  readonly chain: TimelineChain
  /** The backup that is consistent first: the one for the whole window. It may be on an ancestor. */
  readonly backup: WindowBackup
  /** How many backups a recovery in this window can start from. */
  readonly backupCount: number
  /** The first position: where that backup is consistent. */
  readonly startLsn: Lsn
  /** One past the last byte of WAL without a hole, the tail included. */
  readonly endLsn: Lsn
  readonly end: WindowEnd
}

interface Start {
  readonly backup: WindowBackup
  readonly timeline: Timeline
  readonly startLsn: Lsn
  readonly finishLsn: Lsn
}

interface Reach {
  readonly endLsn: Lsn
  readonly end: WindowEnd
}

/**
 * The windows of an archive, by timeline and position.
 * @param gaps those that are open, breaks included
 * @param backups all of the archive: a backup that lacks something does not count, and neither does a delta that builds on one
 */
export function restoreWindows(
  inventory: WalInventory,
  gaps: readonly OpenGap[],
  backups: readonly WindowBackup[],
): RestoreWindow[] {
  const starts = startsOf(backups)
  return inventory.timelines.flatMap((entry) => {
    if (entry.isHistoryDamaged || (entry.durableEnd === undefined && entry.partial === undefined)) return []
    const chain = new TimelineChain(entry.timeline, entry.ancestors)
    return windowsAlong(new WalOnChain(inventory, chain, gaps), starts)
  })
}

/** The backups that a recovery can start from, by the first WAL that they need. */
function startsOf(backups: readonly WindowBackup[]): Start[] {
  const links = new Map(backups.map((backup) => [backup.name, linkOf(backup)]))
  const starts = backups.flatMap((backup): Start[] => {
    const timeline = parseBackupName(backup.name)?.timeline
    const { finishLsn, startLsn } = backup.sentinel ?? {}
    if (timeline === undefined || !startLsn || !finishLsn) return []
    return followChain(backup.name, links).problem === undefined ? [{ backup, timeline, startLsn, finishLsn }] : []
  })
  return starts.sort((a, b) => Number(a.startLsn > b.startLsn) - Number(a.startLsn < b.startLsn))
}

function windowsAlong(wal: WalOnChain, starts: readonly Start[]): RestoreWindow[] {
  const { chain } = wal
  const windows: { first: Start; count: number; reach: Reach }[] = []
  let reach: Reach | undefined
  for (const start of starts) {
    const { finishLsn, startLsn, timeline } = start
    const link = chain.link(timeline)
    if (!link || (link.end !== undefined && finishLsn > link.end)) continue
    // What begins in a range of WAL without a hole ends where the range ends.
    if (!reach || startLsn >= reach.endLsn) reach = wal.from(startLsn)
    // A recovery along this timeline would be one along its ancestor: that one has the window.
    const isOfAncestor = timeline !== chain.newest.timeline && reach.endLsn <= chain.newest.begin
    if (reach.endLsn < finishLsn || isOfAncestor) continue
    const window = windows.at(-1)
    if (window?.reach !== reach) windows.push({ first: start, count: 1, reach })
    else {
      window.count++
      if (finishLsn < window.first.finishLsn) window.first = start
    }
  }
  return windows.map(({ count, first, reach: { end, endLsn } }) => {
    const { backup, finishLsn: startLsn } = first
    return { timeline: chain.newest.timeline, chain, backup, backupCount: count, startLsn, endLsn, end }
  })
}

/** The WAL of one timeline and its ancestors. */
class WalOnChain {
  readonly chain: TimelineChain
  readonly #inventory: WalInventory
  readonly #gaps: readonly OpenGap[]
  readonly #breaks: readonly OpenGap[]

  constructor(inventory: WalInventory, chain: TimelineChain, gaps: readonly OpenGap[]) {
    this.#inventory = inventory
    this.chain = chain
    this.#gaps = gaps
    this.#breaks = gaps
      .filter((gap) => isBreak(gap) && chain.at(gap.startLsn).timeline === gap.timeline)
      .sort((a, b) => Number(a.startLsn > b.startLsn) - Number(a.startLsn < b.startLsn))
  }

  /** How far the WAL from a position on goes without a hole, a gap or a break. */
  from(startLsn: Lsn): Reach {
    const reach = this.#unbroken(startLsn)
    const first = this.#breaks.find((gap) => gap.startLsn >= startLsn)
    if (!first || first.startLsn >= reach.endLsn) return reach
    return { endLsn: first.startLsn, end: { kind: 'break', gap: first } }
  }

  /** As `reachableWal` in restore/recovery finds it, segment by segment, for one backup. */
  #unbroken(startLsn: Lsn): Reach {
    const { segmentSize } = this.#inventory
    let next = segmentNumber(startLsn, segmentSize)
    for (const [index, link] of this.chain.links.entries()) {
      const successor = this.chain.links[index + 1]
      // The segment with the fork is read from the successor, which has a copy of it.
      const stop = successor && segmentNumber(successor.begin, segmentSize)
      if (stop !== undefined && next >= stop) continue
      const entry = this.#entry(link.timeline)
      const first = next
      next = nextMissing(entry, first, segmentSize)
      if (stop !== undefined && next >= stop) {
        next = stop
        continue
      }
      const begin = toLsn(next * BigInt(segmentSize))
      const tail = this.#tailEnd(entry, next)
      if (tail !== undefined) return { endLsn: tail, end: this.#endAt(index, next) }
      // The predecessor's own copy of the segment in which this timeline began serves up to the fork.
      const before = next === segmentNumber(link.begin, segmentSize) ? this.chain.links[index - 1] : undefined
      const old = before && this.#entry(before.timeline)
      const isWhole = old !== undefined && nextMissing(old, next, segmentSize) > next
      const oldEnd = isWhole ? toLsn(begin + BigInt(segmentSize)) : this.#tailEnd(old, next)
      const endLsn = oldEnd === undefined ? begin : minLsn(oldEnd, link.begin)
      return { endLsn: endLsn > begin ? endLsn : begin, end: this.#endAt(index, next) }
    }
    throw new Error('the newest timeline has no end')
  }

  #entry(timeline: Timeline): TimelineInventory | undefined {
    return this.#inventory.timelines.find((entry) => entry.timeline === timeline)
  }

  /** The end of a segment's tail, as wal-fetch delivers it: nothing after the first fork. */
  #tailEnd(entry: TimelineInventory | undefined, segno: bigint): Lsn | undefined {
    const tail = entry?.tails.find((each) => each.segno === segno)
    if (!entry || !tail) return undefined
    const begin = segno * BigInt(this.#inventory.segmentSize)
    let end = toLsn(begin + BigInt(tail.bytes))
    for (const { ancestors } of this.#inventory.timelines) {
      const fork = ancestors.find(({ timeline }) => timeline === entry.timeline)?.switchpoint
      if (fork !== undefined && fork < end) end = fork
    }
    return end > begin ? end : undefined
  }

  /** Why it ends in this segment of this link. */
  #endAt(index: number, segno: bigint): WindowEnd {
    const { segmentSize } = this.#inventory
    const timeline = this.chain.links[index]?.timeline ?? 0
    const gap = gapHolding(this.#gaps, { timeline, segno }, segmentSize) as OpenGap | undefined
    if (gap) return { kind: 'gap', gap }
    const entry = this.#entry(timeline)
    // A recovery takes an object of 0 bytes for damage, and not for the end of the archive.
    const isLater = [entry?.ranges, entry?.empty].some((ranges) => (ranges?.at(-1)?.last ?? -1n) >= segno)
    const isNewest = index === this.chain.links.length - 1 && !isLater
    return isNewest ? { kind: 'newest' } : { kind: 'hole', segment: segmentName(timeline, segno, segmentSize) }
  }
}

/** The first segment from `segno` on that is not there, neither as a whole nor as a tail of a whole segment's length. */
function nextMissing(entry: TimelineInventory | undefined, segno: bigint, segmentSize: number): bigint {
  if (!entry) return segno
  let next = segno
  for (;;) {
    const last = rangeWith(entry.ranges, next)?.last
    if (last !== undefined) next = last + 1n
    else if (entry.tails.some((tail) => tail.segno === next && tail.bytes === segmentSize)) next++
    else return next
  }
}

/** The range that holds a segment, by halving. */
function rangeWith(ranges: readonly SegmentRange[], segno: bigint): SegmentRange | undefined {
  let [low, high] = [0, ranges.length]
  while (low < high) {
    const middle = (low + high) >> 1
    const range = ranges[middle]
    if (range && range.last < segno) low = middle + 1
    else high = middle
  }
  const range = ranges[low]
  return range && range.first <= segno ? range : undefined
}
