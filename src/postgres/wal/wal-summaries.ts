/**
 * WAL summaries (PostgreSQL 17): each lists the blocks that a range of WAL has changed. An incremental backup needs
 * them without a gap from its parent's start on (PrepareForIncrementalBackup in
 * src/backend/backup/basebackup_incremental.c).
 */
import { type Lsn, maxLsn, type Timeline } from '../lsn.ts'
import type { TimelineChain } from './timeline-chain.ts'

/** A range of WAL on one timeline, or the summary of one. */
export interface WalSummary {
  readonly timeline: Timeline
  readonly startLsn: Lsn
  /** Exclusive. */
  readonly endLsn: Lsn
}

/** The position of the server's WAL summarizer. */
export interface SummarizerState {
  readonly timeline: Timeline
  /** One past the last WAL in a summary on disk; 0/0 when unknown. */
  readonly summarizedLsn: Lsn
  /** Undefined while the summarizer does not run. */
  readonly pid: number | undefined
  /** The server's end of WAL at the time. */
  readonly serverEnd: Lsn | undefined
}

/**
 * The ranges of WAL between two LSNs, the oldest first: one for each timeline.
 * @param chain the server's timeline with its ancestors
 * @param from a timeline of the chain, and an LSN on it
 * @param end an LSN on the chain
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

/** The first LSN of `needed` that no summary covers; undefined when all are covered. */
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
