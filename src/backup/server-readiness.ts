/**
 * Whether a server can make an increment on a parent: asked before it is, so that a full backup is begun at once where it
 * cannot, with a reason that an operator can do something about. What only SQL tells is left to the server's own judgement
 * where there is no ordinary connection.
 */
import type { Logger } from '../observe/log.ts'
import { hasCode } from '../primitives/errors.ts'
import type { ClusterFacts } from '../postgres/cluster-facts.ts'
import { bytesBetween, formatLsn, type Lsn, minLsn } from '../postgres/lsn.ts'
import type { PgSession } from '../postgres/pg-session.ts'
import { pageBytes } from '../postgres/relation-file.ts'
import type { SqlConnection, SqlOpening } from '../postgres/sql-connection.ts'
import { TimelineChain } from '../postgres/timeline-chain.ts'
import { parseHistory } from '../postgres/wal-file.ts'
import { firstUncovered, stretchesBetween } from '../postgres/wal-summaries.ts'
import type { FullReason } from './full-reason.ts'
import type { DeltaParent } from './parent-choice.ts'

/** The parts of a parent that a server is asked about. */
export type ParentPosition = Pick<DeltaParent, 'name' | 'timeline' | 'startLsn' | 'finishLsn'>

/** What a server can do: its timeline with all ancestors, or why it cannot. */
export type Readiness =
  | { readonly chain: TimelineChain; readonly full?: undefined }
  | { readonly chain?: undefined; readonly full: FullReason }

/** What {@link judgeServer} asks. */
export interface ServerAccess {
  readonly session: PgSession
  readonly cluster: ClusterFacts
  /** Opens an ordinary connection; undefined where none can be. */
  readonly trySql: (() => Promise<SqlOpening>) | undefined
  readonly log: Logger
}

/** Judges. Throws what the server says when it is asked. */
export async function judgeServer(access: ServerAccess, parent: ParentPosition): Promise<Readiness> {
  const { cluster, log, session, trySql } = access
  const incapable = await reasonOfServer(session, cluster)
  if (incapable) return { full: incapable }
  const history = await readChain(session)
  const left = reasonOfHistory(history.chain, history.end, parent)
  if (left) return { full: left }
  const opening = await trySql?.()
  if (!opening?.sql) {
    log.info('no ordinary connection: the server itself has to find out whether its WAL summaries are enough', {
      reason: opening?.reason.message,
    })
    return { chain: history.chain }
  }
  try {
    const missing = await reasonOfSummaries(opening.sql, history.chain, parent, log)
    return missing ? { full: missing } : { chain: history.chain }
  } catch (error) {
    if (!hasCode(error, 'WALRX_NO_PRIVILEGE')) throw error
    log.info('the role may not look at the WAL summaries', { reason: error.message })
    return { chain: history.chain }
  } finally {
    await opening.sql.close()
  }
}

async function reasonOfServer(session: PgSession, cluster: ClusterFacts): Promise<FullReason | undefined> {
  const { host } = session
  if (cluster.serverVersion < 170_000) {
    const version = Math.floor(cluster.serverVersion / 10_000)
    return { code: 'server', message: `${host} is PostgreSQL ${version}, and increments came with 17` }
  }
  if (cluster.blockSize !== pageBytes) {
    const message = `the pages of ${host} have ${cluster.blockSize} bytes, and WAL-G's increments know ${pageBytes} only`
    return { code: 'server', message }
  }
  if ((await session.show('summarize_wal')) === 'on') return undefined
  return {
    code: 'summaries',
    message: `${host} does not summarize its WAL`,
    hint: 'set summarize_wal = on and reload the server: backups that are taken from then on can be built on',
  }
}

async function readChain(session: PgSession): Promise<{ chain: TimelineChain; end: Lsn }> {
  const { timeline, xlogpos } = await session.identifySystem()
  const history = await session.timelineHistory(timeline)
  const ancestors = history ? parseHistory(history.content, history.fileName) : []
  return { chain: new TimelineChain(timeline, ancestors), end: xlogpos }
}

/**
 * Of a parent on an ancestor the server compares the end with its own position only. One that starts before the fork and
 * ends behind it has pages of a history that is not the server's, which no summary of the server's knows of.
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

async function reasonOfSummaries(
  sql: Pick<SqlConnection, 'readSummarizer' | 'readWalSummaries'>,
  chain: TimelineChain,
  parent: ParentPosition,
  log: Logger,
): Promise<FullReason | undefined> {
  const summarizer = await sql.readSummarizer()
  const { pid, serverEnd, summarizedLsn } = summarizer
  const behindBytes = serverEnd === undefined ? undefined : Math.max(0, bytesBetween(summarizedLsn, serverEnd))
  log.info('what the WAL summarizer has', { summarizedLsn, timeline: summarizer.timeline, behindBytes, pid })
  // What it has not come to yet the server waits for.
  const link = chain.link(summarizer.timeline)
  const reached = link?.end === undefined ? summarizedLsn : minLsn(summarizedLsn, link.end)
  const needed = stretchesBetween(chain, parent, reached)
  const missing = firstUncovered(await sql.readWalSummaries(), needed)
  if (!missing) return undefined
  const from = `${formatLsn(missing.startLsn)} on timeline ${missing.timeline}`
  return {
    code: 'summaries',
    message: `the server has no WAL summary of ${from}, and ${parent.name} starts at ${formatLsn(parent.startLsn)}`,
    hint: 'summarize_wal has to be on without a break, and wal_summary_keep_time longer than backups are apart',
  }
}
