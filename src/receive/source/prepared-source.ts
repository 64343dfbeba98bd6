/**
 * Everything between "connected" and "streaming": is it our cluster, may we stream from it, which timelines lead to
 * it, is there a slot, and are the histories archived.
 */
import { WalrxError } from '../../primitives/errors.ts'
import type { Logger } from '../../observe/log.ts'
import { formatLsn, type Lsn, type Timeline } from '../../postgres/lsn.ts'
import type { HistoryFile, ReplicationSession } from '../../postgres/protocol/session.ts'
import { readServerHistory } from '../../postgres/wal/server-history.ts'
import type { ChainLink, TimelineChain } from '../../postgres/wal/timeline-chain.ts'
import { historyName, parseHistory, parseSegmentSize } from '../../postgres/wal/wal-file.ts'
import { ensureSlot, noSlot, type SlotState } from '../slot/ensure-slot.ts'
import { parseTimeoutMs } from '../stream/stream-timings.ts'
import type { ReceiveArchive } from '../ports.ts'

/** A connected server that may be streamed from. */
export interface PreparedSource {
  readonly session: ReplicationSession
  readonly systemId: bigint
  readonly segmentSize: number
  readonly walSenderTimeoutMs: number
  readonly chain: TimelineChain
  /** The server's flush position when we asked. */
  readonly serverEnd: Lsn
  /** The slot's restart_lsn; undefined without a slot, or where it cannot be read. */
  readonly slotRestart: Lsn | undefined
  readonly slotState: SlotState
}

/** What preparing needs. */
export interface PrepareOptions {
  readonly archive: ReceiveArchive
  /** Undefined streams without a slot. */
  readonly slot: string | undefined
  /** True when the server has shown that the slot keeps nothing: it is dropped, and created again. */
  readonly remakeSlot: boolean
  readonly allowStandby: boolean
  readonly log: Logger
  readonly signal: AbortSignal
  /** History files that this process has archived already, or found missing (empty then). */
  readonly archivedHistories: Map<Timeline, Buffer>
  /** The newest timeline that any server knew. */
  readonly newestTimeline: Timeline
}

/**
 * Asks the server who it is and makes ready to stream.
 * @throws WALRX_SOURCE_IN_RECOVERY, WALRX_SOURCE_BEHIND (a newer timeline has left the server's), WALRX_OTHER_CLUSTER, WALRX_ARCHIVE_CONFLICT (another history file),
 * WALRX_SLOT_UNUSABLE, and what server and storage say
 */
export async function prepareSource(session: ReplicationSession, options: PrepareOptions): Promise<PreparedSource> {
  const { archive, log, signal } = options
  if (session.inRecovery && !options.allowStandby) {
    throw new WalrxError('WALRX_SOURCE_IN_RECOVERY', `${session.host} is a standby (in_hot_standby = on)`, {
      hint: 'give the address of the primary, or --allow-standby to stream from a standby',
    })
  }
  const identity = await session.identifySystem()
  const segmentSize = parseSegmentSize(await session.show('wal_segment_size'))
  const walSenderTimeoutMs = parseTimeoutMs(await session.show('wal_sender_timeout'))
  await archive.bindSystem(identity.systemId, segmentSize, { signal })
  const { chain, file } = await readServerHistory(session, identity.timeline)
  await refuseFormerPrimary(session, chain, options)
  const isFirstStart = () => isEmpty(archive, signal)
  const slot =
    options.slot === undefined ? noSlot : await ensureSlot(session, options.slot, { ...options, isFirstStart })
  await archiveHistories(session, chain, file, options)
  log.info('connected', {
    host: session.host,
    serverVersion: session.serverVersion,
    systemId: identity.systemId,
    timeline: identity.timeline,
    serverEnd: formatLsn(identity.xlogpos),
    slotRestart: slot.restartLsn === undefined ? undefined : formatLsn(slot.restartLsn),
    segmentSize,
    walSenderTimeoutMs,
  })
  return {
    session,
    systemId: identity.systemId,
    segmentSize,
    walSenderTimeoutMs,
    chain,
    serverEnd: identity.xlogpos,
    slotRestart: slot.restartLsn,
    slotState: slot.state,
  }
}

/** True when the archive has no WAL file of any timeline. One request. */
async function isEmpty(archive: ReceiveArchive, signal: AbortSignal): Promise<boolean> {
  for await (const _ of archive.timelinesAfter(0, { signal })) return false
  return true
}

/**
 * A former primary that came back after a failover: what it writes is not part of the cluster's history. The archive
 * shows that by the histories of newer timelines, this process by the servers that it has seen. A standby may only be
 * slow.
 */
async function refuseFormerPrimary(
  session: ReplicationSession,
  chain: TimelineChain,
  { archive, newestTimeline, signal }: PrepareOptions,
): Promise<void> {
  const { timeline } = chain.newest
  const formerPrimary = (newer: Timeline, where: string) =>
    new WalrxError('WALRX_SOURCE_BEHIND', `${session.host} is on timeline ${timeline}, and ${where}`, {
      hint: `this is probably a former primary: connect to the current primary; if this host is the right one, run walrx wal-finalize --set-aside ${historyName(newer)}`,
    })
  if (timeline < newestTimeline) throw formerPrimary(newestTimeline, `timeline ${newestTimeline} has begun already`)
  if (session.inRecovery) return
  for await (const newer of archive.forksOf(timeline, { signal })) {
    const at = formatLsn(newer.switchpoint)
    throw formerPrimary(
      newer.timeline,
      `${historyName(newer.timeline)} in the archive says that timeline ${newer.timeline} left it at ${at}`,
    )
  }
}

/**
 * Archives the history of the server's timeline and of every ancestor, oldest first. Two standbys that were promoted
 * independently give the same number to different timelines, and what was archived of one must not be taken for the other's: the
 * server's own is compared again at every connection, and an ancestor's where it does not say what the server's own does.
 */
async function archiveHistories(
  session: ReplicationSession,
  chain: TimelineChain,
  newest: HistoryFile | undefined,
  options: PrepareOptions,
): Promise<void> {
  const { archive, archivedHistories, log, signal } = options
  for (const { timeline } of chain.links) {
    const isNewest = timeline === newest?.timeline
    const known = archivedHistories.get(timeline)
    if (timeline === 1 || (known && (isNewest ? known.equals(newest.content) : isHistoryOf(chain, timeline, known))))
      continue
    const file = isNewest ? newest : await session.timelineHistory(timeline)
    if (file) {
      const outcome = await archive.archiveHistory(file.fileName, file.content, { signal })
      log.info('archived', { file: file.fileName, outcome })
    } else if (!(await archive.has(historyName(timeline), { signal }))) {
      // A standby of a standby may never have had the ancestors' files; the newest one lists them all.
      log.warn('neither the server nor the archive has this history file', { file: historyName(timeline) })
    }
    archivedHistories.set(timeline, file?.content ?? Buffer.alloc(0))
  }
}

/** True when a history file's content is that of this ancestor, as the chain has it. An empty one is of a file that was missing. */
function isHistoryOf(chain: TimelineChain, timeline: Timeline, content: Buffer): boolean {
  if (content.length === 0) return true
  const entries = parseHistory(content, historyName(timeline))
  const before = chain.links.slice(
    0,
    chain.links.findIndex((link) => link.timeline === timeline),
  )
  const isSame = (link: ChainLink, index: number) =>
    link.timeline === entries[index]?.timeline && link.end === entries[index].switchpoint
  return before.length === entries.length && before.every(isSame)
}
