/**
 * Whether a server can make an increment on a parent: asked before it is, so that a full backup is begun at once where it
 * cannot, with a reason that an operator can do something about. It takes an ordinary connection: nothing else
 * shows what a server forgets of relations that were cut (wal-cuts.ts).
 */
import type { Logger } from '../../observe/log.ts'
import { hasCode, type WalrxError } from '../../primitives/errors.ts'
import { summariesOf } from '../../postgres/relations/block-changes.ts'
import type { ClusterFacts } from '../../postgres/backup/cluster-facts.ts'
import { bytesBetween, formatLsn, type Lsn, minLsn } from '../../postgres/lsn.ts'
import type { PgSession } from '../../postgres/connect/pg-session.ts'
import { pageBytes } from '../../postgres/relations/relation-file.ts'
import type { SqlConnection, SqlOpening } from '../../postgres/connect/sql-connection.ts'
import { readKnownHistory } from '../../postgres/wal/server-history.ts'
import type { TimelineChain } from '../../postgres/wal/timeline-chain.ts'
import {
  firstUncovered,
  stretchesBetween,
  type SummarizerState,
  type WalSummary,
} from '../../postgres/wal/wal-summaries.ts'
import type { FullReason } from './full-reason.ts'
import type { DeltaParent } from './parent-choice.ts'
import { WalCuts } from './wal-cuts.ts'

/** The parts of a parent that a server is asked about. */
export type ParentPosition = Pick<DeltaParent, 'name' | 'timeline' | 'startLsn' | 'finishLsn'>

/** What a server can do, or why it can make no increment; and what it said meanwhile. */
export type Readiness =
  | ({ readonly full?: undefined; readonly cuts: WalCuts; readonly summaries: SummaryCover } & Position)
  | ({ readonly full: FullReason; readonly cuts?: undefined; readonly summaries?: SummaryCover } & Partial<Position>)

/** Where a server is. */
interface Position {
  /** Its timeline with all ancestors. */
  readonly chain: TimelineChain
  /** Its end of WAL. */
  readonly serverEnd: Lsn
}

/** The WAL summaries of a server against what an increment needs. */
export interface SummaryCover {
  readonly summarizer: SummarizerState
  /** WAL from the parent's start to where the summarizer is, one stretch for each timeline; the oldest first. */
  readonly needed: readonly WalSummary[]
  /** Those that the server has of it. */
  readonly available: readonly WalSummary[]
  /** The first position that has none; undefined where all is covered. */
  readonly missing: Pick<WalSummary, 'timeline' | 'startLsn'> | undefined
  /** Bytes of WAL that are in no summary yet; undefined where the server's end is not known. */
  readonly behindBytes: number | undefined
}

/** What {@link judgeServer} asks. */
export interface ServerAccess {
  readonly session: PgSession
  readonly cluster: ClusterFacts
  /** Opens an ordinary connection; undefined where none can be. */
  readonly trySql: (() => Promise<SqlOpening>) | undefined
  readonly log: Logger
  readonly signal: AbortSignal
}

/** Judges. Throws what the server says when it is asked. */
export async function judgeServer(access: ServerAccess, parent: ParentPosition): Promise<Readiness> {
  const { cluster, log, session, signal, trySql } = access
  const incapable = await reasonOfServer(session, cluster)
  if (incapable) return { full: incapable }
  const { timeline: newest, xlogpos: serverEnd } = await session.identifySystem()
  const { chain } = await readKnownHistory(session, newest)
  const left = reasonOfHistory(chain, serverEnd, parent)
  if (left) return { full: left, chain, serverEnd }
  const position = { chain, serverEnd }
  const opening = await trySql?.()
  if (!opening?.sql) return { ...position, full: reasonOfBlindness(opening?.reason) }
  try {
    const summaries = await readCover(opening.sql, chain, parent)
    const { behindBytes, missing, summarizer } = summaries
    const { pid, summarizedLsn, timeline } = summarizer
    log.info('what the WAL summarizer has', { summarizedLsn, timeline, behindBytes, pid })
    if (missing) return { ...position, summaries, full: reasonOfHole(missing, parent) }
    const cuts = new WalCuts()
    await cuts.read(opening.sql, summaries.available, signal)
    return { ...position, summaries, cuts }
  } catch (error) {
    if (hasCode(error, 'WALRX_NO_PRIVILEGE')) return { ...position, full: reasonOfBlindness(error) }
    // A summary may go just when it is to be read.
    if (hasCode(error, 'WALRX_SERVER_ERROR'))
      return { ...position, full: { code: 'summaries', message: error.message } }
    throw error
  } finally {
    await opening.sql.close()
  }
}

/** Why there is no increment where walrx cannot read the WAL summaries. */
export function reasonOfBlindness(error: WalrxError | undefined): FullReason {
  const why = error === undefined ? '' : `: ${error.message}`
  return {
    code: 'summaries',
    message: `walrx cannot read the WAL summaries over an ordinary connection, and unchecked the server may leave changes out${why}`,
    ...(error?.hint === undefined ? {} : { hint: error.hint }),
  }
}

async function reasonOfServer(session: PgSession, cluster: ClusterFacts): Promise<FullReason | undefined> {
  const { host } = session
  if (cluster.serverVersion < 170_000) {
    const version = Math.floor(cluster.serverVersion / 10_000)
    return { code: 'server', message: `${host} is PostgreSQL ${version}, and incremental backups need 17` }
  }
  if (cluster.blockSize !== pageBytes) {
    const message = `the pages of ${host} have ${cluster.blockSize} bytes, and WAL-G's increments support only ${pageBytes}`
    return { code: 'server', message }
  }
  if ((await session.show('summarize_wal')) === 'on') return undefined
  return {
    code: 'summaries',
    message: `${host} does not summarize its WAL`,
    hint: 'set summarize_wal = on and reload the server: backups that are taken from then on can be built on',
  }
}

/**
 * Of a parent on an ancestor the server compares the end with its own position only. One that starts before the fork and
 * ends after it has pages of a history that is not the server's, and no summary of the server's lists them.
 */
export function reasonOfHistory(
  chain: TimelineChain,
  serverEnd: Lsn,
  { finishLsn, name, timeline }: ParentPosition,
): FullReason | undefined {
  const link = chain.link(timeline)
  const newest = chain.newest.timeline
  if (!link) {
    const message = `${name} is of timeline ${timeline}, which is not in the history of the server's, ${newest}`
    return { code: 'history', message }
  }
  const end = link.end ?? serverEnd
  if (finishLsn <= end) return undefined
  const where = link.end === undefined ? 'the server is at' : `the server's history left timeline ${timeline} at`
  return { code: 'history', message: `${name} ends at ${formatLsn(finishLsn)}, and ${where} ${formatLsn(end)}` }
}

async function readCover(
  sql: Pick<SqlConnection, 'readSummarizer' | 'readWalSummaries'>,
  chain: TimelineChain,
  parent: ParentPosition,
): Promise<SummaryCover> {
  const summarizer = await sql.readSummarizer()
  const { serverEnd, summarizedLsn } = summarizer
  const behindBytes = serverEnd === undefined ? undefined : Math.max(0, bytesBetween(summarizedLsn, serverEnd))
  // What it has not come to yet the server waits for.
  const link = chain.link(summarizer.timeline)
  const reached = link?.end === undefined ? summarizedLsn : minLsn(summarizedLsn, link.end)
  const needed = stretchesBetween(chain, parent, reached)
  const all = await sql.readWalSummaries()
  const missing = firstUncovered(all, needed)
  return { summarizer, needed, available: summariesOf(all, needed), missing, behindBytes }
}

function reasonOfHole(missing: Pick<WalSummary, 'timeline' | 'startLsn'>, parent: ParentPosition): FullReason {
  const from = `${formatLsn(missing.startLsn)} on timeline ${missing.timeline}`
  return {
    code: 'summaries',
    message: `the server has no WAL summary of ${from}, and ${parent.name} starts at ${formatLsn(parent.startLsn)}`,
    hint: 'summarize_wal has to be on without a break, and wal_summary_keep_time longer than backups are apart',
  }
}
