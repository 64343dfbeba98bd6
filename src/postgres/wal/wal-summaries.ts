/**
 * WAL summaries (PostgreSQL 17): each says which blocks a stretch of WAL has changed. An incremental backup needs them
 * without a hole from where its parent starts (PrepareForIncrementalBackup in src/backend/backup/basebackup_incremental.c).
 */
import { type Lsn, maxLsn, type Timeline } from '../lsn.ts'
import type { TimelineChain } from './timeline-chain.ts'

/** A stretch of WAL on one timeline, or the summary of one. */
export interface WalSummary {
  readonly timeline: Timeline
  readonly startLsn: Lsn
  /** Exclusive. */
  readonly endLsn: Lsn
}

/** How far the server's WAL summarizer is. */
export interface SummarizerState {
  readonly timeline: Timeline
  /** One past the last WAL that is in a summary on disk; 0/0 where it does not know. */
  readonly summarizedLsn: Lsn
  /** Undefined while it does not run. */
  readonly pid: number | undefined
  /** The server's end of WAL at the time. */
  readonly serverEnd: Lsn | undefined
}

/**
 * The stretches of WAL between two positions, the oldest first: one for each timeline.
 * @param chain the server's timeline with its ancestors
 * @param from a timeline of the chain, and where on it
 * @param end a position on the chain
 */
export function stretchesBetween(
  chain: TimelineChain,
  from: Pick<WalSummary, 'timeline' | 'startLsn'>,
  end: Lsn,
): WalSummary[] {
  const first = chain.links.findIndex(({ timeline }) => timeline === from.timeline)
  return chain.links.slice(first).flatMap((link) => {
    const startLsn = link.timeline === from.timeline ? maxLsn(link.begin, from.startLsn) : link.begin
    const endLsn = link.end === undefined || end < link.end ? end : link.end
    return startLsn < endLsn ? [{ timeline: link.timeline, startLsn, endLsn }] : []
  })
}

/** The first position of `needed` that no summary covers; undefined where all is covered. */
export function firstUncovered(
  summaries: readonly WalSummary[],
  needed: readonly WalSummary[],
): Pick<WalSummary, 'timeline' | 'startLsn'> | undefined {
  for (const { endLsn, startLsn, timeline } of needed) {
    const own = summaries.filter((each) => each.timeline === timeline)
    own.sort((a, b) => (a.startLsn < b.startLsn ? -1 : 1))
    let at = startLsn
    for (const summary of own) if (summary.startLsn <= at) at = maxLsn(at, summary.endLsn)
    if (at < endLsn) return { timeline, startLsn: at }
  }
  return undefined
}
