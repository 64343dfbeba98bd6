/**
 * A timeline with all its ancestors: it finds the timeline of each byte of WAL. Built from the history file of the
 * newest one (tliOfPointInHistory in timeline.c).
 */
import type { Lsn, Timeline } from '../lsn.ts'
import type { HistoryEntry } from './wal-file.ts'

/** One timeline of a chain: `begin` inclusive, `end` exclusive; the newest has no end. */
export interface ChainLink {
  readonly timeline: Timeline
  readonly begin: Lsn
  readonly end: Lsn | undefined
}

/** Timelines from the oldest ancestor to the newest. */
export class TimelineChain {
  readonly links: readonly ChainLink[]

  /**
   * @param newest the timeline of the history file
   * @param ancestors its history file's entries, oldest first; empty for timeline 1
   */
  constructor(newest: Timeline, ancestors: readonly HistoryEntry[]) {
    const links: ChainLink[] = []
    let begin = 0n as Lsn
    for (const { timeline, switchpoint } of ancestors) {
      links.push({ timeline, begin, end: switchpoint })
      begin = switchpoint
    }
    links.push({ timeline: newest, begin, end: undefined })
    this.links = links
  }

  /** The newest timeline. */
  get newest(): ChainLink {
    const link = this.links.at(-1)
    if (!link) throw new Error('a chain has at least one timeline')
    return link
  }

  /** The link of a timeline; undefined when it is not in the chain. */
  link(timeline: Timeline): ChainLink | undefined {
    return this.links.find((link) => link.timeline === timeline)
  }

  /**
   * Where the histories of two timelines diverge: the first byte that they do not share (findCommonAncestorTimeline in
   * pg_rewind.c).
   * @returns undefined for two that share nothing, or all
   */
  divergence(other: TimelineChain): { readonly timeline: Timeline; readonly lsn: Lsn } | undefined {
    let common: { readonly timeline: Timeline; readonly lsn: Lsn | undefined } | undefined
    for (const [index, { begin, end, timeline }] of this.links.entries()) {
      const theirs = other.links[index]
      if (theirs?.timeline !== timeline || theirs.begin !== begin) break
      const ends = [end, theirs.end].filter((each) => each !== undefined).sort((a, b) => (a < b ? -1 : 1))
      common = { timeline, lsn: ends[0] }
    }
    return common?.lsn === undefined ? undefined : { timeline: common.timeline, lsn: common.lsn }
  }

  /** The link of the byte at `lsn`. */
  at(lsn: Lsn): ChainLink {
    return this.links.find((link) => link.end === undefined || lsn < link.end) ?? this.newest
  }

  /** The link after `timeline`; undefined for the newest, and for timelines outside the chain. */
  after(timeline: Timeline): ChainLink | undefined {
    const index = this.links.findIndex((link) => link.timeline === timeline)
    return index === -1 ? undefined : this.links[index + 1]
  }
}
