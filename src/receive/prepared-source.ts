/**
 * Everything between "connected" and "streaming": is it our cluster, may we stream from it, which timelines lead to
 * it, is there a slot, and are the histories archived.
 */
import { WalrxError } from '../primitives/errors.ts'
import type { Logger } from '../observe/log.ts'
import { formatLsn, type Lsn, type Timeline } from '../postgres/lsn.ts'
import type { ReplicationSession } from '../postgres/session.ts'
import { TimelineChain } from '../postgres/timeline-chain.ts'
import { historyName, parseHistory, parseSegmentSize } from '../postgres/wal-file.ts'
import { parseTimeoutMs } from './ack-policy.ts'
import type { ReceiveArchive } from './ports.ts'

/** A connected server that may be streamed from. */
export interface PreparedSource {
  readonly session: ReplicationSession
  readonly systemId: bigint
  readonly segmentSize: number
  readonly walSenderTimeoutMs: number
  readonly chain: TimelineChain
  /** The server's flush position when we asked. */
  readonly serverEnd: Lsn
  /** The slot's restart_lsn; undefined without a slot, unreadable, or not reserved. */
  readonly slotRestart: Lsn | undefined
}

/** What preparing needs. */
export interface PrepareOptions {
  readonly archive: ReceiveArchive
  /** Undefined streams without a slot. */
  readonly slot: string | undefined
  readonly allowStandby: boolean
  readonly log: Logger
  readonly signal: AbortSignal
  /** Timelines whose history this process has archived already. */
  readonly archivedHistories: Set<Timeline>
}

/**
 * Asks the server who it is and makes ready to stream.
 * @throws WALRX_SOURCE_IN_RECOVERY, WALRX_OTHER_CLUSTER, WALRX_ARCHIVE_CONFLICT (another history file),
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
  const chain = await readChain(session, identity.timeline)
  const slotRestart = options.slot === undefined ? undefined : await ensureSlot(session, options.slot, log)
  await archiveHistories(session, chain, options)
  log.info('connected', {
    host: session.host,
    serverVersion: session.serverVersion,
    systemId: identity.systemId,
    timeline: identity.timeline,
    serverEnd: formatLsn(identity.xlogpos),
    slotRestart: slotRestart === undefined ? undefined : formatLsn(slotRestart),
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
    slotRestart,
  }
}

async function readChain(session: ReplicationSession, timeline: Timeline): Promise<TimelineChain> {
  if (timeline === 1) return new TimelineChain(1, [])
  const file = await session.timelineHistory(timeline)
  if (!file) {
    throw new WalrxError('WALRX_SERVER_ERROR', `${session.host} has no history file of its own timeline ${timeline}`)
  }
  return new TimelineChain(timeline, parseHistory(file.content, file.fileName))
}

/** The slot's restart_lsn, after making the slot where it is missing. */
async function ensureSlot(session: ReplicationSession, slot: string, log: Logger): Promise<Lsn | undefined> {
  let reading = await session.readSlot(slot)
  if (reading.kind === 'missing' || reading.kind === 'unreadable') {
    await session.createSlot(slot)
    if (reading.kind === 'missing') log.warn('created the replication slot', { slot, host: session.host })
    reading = await session.readSlot(slot)
  }
  if (reading.kind === 'logical') {
    throw new WalrxError('WALRX_SLOT_UNUSABLE', `slot "${slot}" on ${session.host} is logical`, {
      hint: 'choose another name with WALG_SLOTNAME',
    })
  }
  return reading.kind === 'physical' ? reading.restartLsn : undefined
}

/** Archives the history of the server's timeline and of every ancestor, oldest first. */
async function archiveHistories(
  session: ReplicationSession,
  chain: TimelineChain,
  options: PrepareOptions,
): Promise<void> {
  const { archive, archivedHistories, log, signal } = options
  for (const { timeline } of chain.links) {
    if (timeline === 1 || archivedHistories.has(timeline)) continue
    const file = await session.timelineHistory(timeline)
    if (file) {
      const outcome = await archive.archiveHistory(file.fileName, file.content, { signal })
      log.info('archived', { file: file.fileName, outcome })
    } else if (!(await archive.has(historyName(timeline), { signal }))) {
      // A standby of a standby may never have had the ancestors' files; the newest one lists them all.
      log.warn('neither the server nor the archive has this history file', { file: historyName(timeline) })
    }
    archivedHistories.add(timeline)
  }
}
