/** The history of the timeline that a server is on, as the server sends it. */
import { WalrxError } from '../../primitives/errors.ts'
import type { Timeline } from '../lsn.ts'
import type { HistoryFile, ReplicationSession } from '../protocol/session.ts'
import { TimelineChain } from './timeline-chain.ts'
import { parseHistory } from './wal-file.ts'

/** A server's timeline with all its ancestors. */
export interface ServerHistory {
  readonly chain: TimelineChain
  /** The file that lists the ancestors; undefined for timeline 1, which has none. */
  readonly file: HistoryFile | undefined
}

/** A connection that can be asked for histories. */
export type HistorySession = Pick<ReplicationSession, 'host' | 'timelineHistory'>

/**
 * Reads the history of the timeline that a server is on.
 * @param timeline the server's own, by IDENTIFY_SYSTEM
 * @throws WALRX_SERVER_ERROR where the server lacks its own history file, WALRX_OBJECT_DAMAGED for a file that is none,
 * and what the server says
 */
export async function readServerHistory(session: HistorySession, timeline: Timeline): Promise<ServerHistory> {
  const history = await readKnownHistory(session, timeline)
  if (timeline === 1 || history.file) return history
  throw new WalrxError('WALRX_SERVER_ERROR', `${session.host} has no history file of its own timeline ${timeline}`)
}

/**
 * The same, but a server that lacks its own history file has no ancestors: it takes its own timeline for one without
 * ancestors then (readTimeLineHistory in timeline.c).
 * @throws as {@link readServerHistory} for all else
 */
export async function readKnownHistory(session: HistorySession, timeline: Timeline): Promise<ServerHistory> {
  const file = timeline === 1 ? undefined : await session.timelineHistory(timeline)
  return { chain: new TimelineChain(timeline, file ? parseHistory(file.content, file.fileName) : []), file }
}
