/**
 * Which of several hosts that accept writes is the primary. After a failover the former one may come back and take
 * writes again, and a receiver that was away meanwhile has seen neither event: the first in the list need not be the
 * right one. All hosts are asked at once, and their histories compared: when another host has left
 * the timeline of a host, that host is a former primary. Where two histories diverge, the archive decides; where it
 * cannot, no host is taken.
 */
import type { Logger } from '../../observe/log.ts'
import { formatLsn, invalidLsn, type Timeline } from '../../postgres/lsn.ts'
import type { ReplicationServer } from '../../postgres/protocol/session.ts'
import { readServerHistory } from '../../postgres/wal/server-history.ts'
import type { TimelineChain } from '../../postgres/wal/timeline-chain.ts'
import { historyName } from '../../postgres/wal/wal-file.ts'
import { WalrxError } from '../../primitives/errors.ts'
import type { ReceiveArchive } from '../ports.ts'

/** A host that accepts writes. */
export interface WritableHost {
  readonly host: string
  readonly systemId: bigint
  readonly chain: TimelineChain
}

/** What the archive is asked. */
export type KnownTimelines = Pick<ReceiveArchive, 'forksOf' | 'timelinesAfter'>

/** What {@link refusedHosts} needs. */
export interface SurveyOptions {
  /** Every host; undefined where there is only one. */
  readonly everyHost: ReplicationServer | undefined
  readonly archive: KnownTimelines
  readonly log: Logger
  readonly signal: AbortSignal
}

/**
 * Asks all hosts at once, and judges those that accept writes. One that does not answer in time is passed over.
 * @returns why hosts, by name, are not to be streamed from
 * @throws WALRX_SOURCE_AMBIGUOUS, the signal's reason, and what the storage says
 */
export async function refusedHosts(options: SurveyOptions): Promise<ReadonlyMap<string, WalrxError>> {
  const { archive, everyHost, log, signal } = options
  const hosts: WritableHost[] = []
  await everyHost?.survey?.(signal, async (session) => {
    const { host, inRecovery } = session
    if (inRecovery) return
    const { systemId, timeline } = await session.identifySystem()
    const { chain } = await readServerHistory(session, timeline)
    hosts.push({ host, systemId, chain })
  })
  const refused = new Map<string, WalrxError>()
  for (const systemId of new Set(hosts.map((host) => host.systemId))) {
    const ofCluster = hosts.filter((host) => host.systemId === systemId)
    for (const [host, why] of await judgeHosts(ofCluster, archive, signal)) refused.set(host, why)
  }
  for (const [host, { message }] of refused)
    log.warn('a host that accepts writes is not the primary', { host, message })
  return refused
}

/**
 * Judges hosts of one cluster that accept writes.
 * @returns why some of them are not to be streamed from; what is left has one and the same history
 * @throws WALRX_SOURCE_AMBIGUOUS when histories diverge and the archive does not show which is the right one
 */
export async function judgeHosts(
  hosts: readonly WritableHost[],
  archive: KnownTimelines,
  signal: AbortSignal,
): Promise<Map<string, WalrxError>> {
  const refused = new Map<string, WalrxError>()
  for (const former of hosts) {
    const newer = hosts.find(({ chain }) => isFormer(former.chain, chain))
    if (newer) refused.set(former.host, formerPrimary(former, newer))
  }
  const newest = hosts.filter(({ host }) => !refused.has(host))
  const [first] = newest
  if (!first || newest.every(({ chain }) => isSame(chain, first.chain))) return refused
  const archived = await newestArchived(archive, signal)
  const right: WritableHost[] = []
  for (const one of newest) if (await holds(one.chain, archived, archive, signal)) right.push(one)
  const [chosen] = right
  if (!chosen || !right.every(({ chain }) => isSame(chain, chosen.chain))) throw ambiguous(newest, archived)
  for (const other of newest) {
    if (right.includes(other)) continue
    const facts = `the archive holds timeline ${archived}, which is not in its history`
    const message = `${other.host} is on timeline ${other.chain.newest.timeline}, and ${facts}`
    refused.set(other.host, new WalrxError('WALRX_SOURCE_BEHIND', message))
  }
  return refused
}

function formerPrimary(former: WritableHost, newer: WritableHost): WalrxError {
  const { timeline } = former.chain.newest
  const at = formatLsn(newer.chain.link(timeline)?.end ?? invalidLsn)
  const message = `${former.host} is on timeline ${timeline}, which ${newer.host} left at ${at} for timeline ${newer.chain.newest.timeline}`
  return new WalrxError('WALRX_SOURCE_BEHIND', message, {
    hint: 'this is a former primary: shut it down, or rejoin it as a standby with pg_rewind',
  })
}

function ambiguous(hosts: readonly WritableHost[], archived: Timeline): WalrxError {
  const histories = hosts.map(({ chain, host }) => `${host} has ${describeChain(chain)}`)
  const holding = archived === 0 ? 'nothing yet' : `timeline ${archived}`
  return new WalrxError(
    'WALRX_SOURCE_AMBIGUOUS',
    `several hosts accept writes, and their histories diverge: ${histories.join('; ')}; the archive holds ${holding}`,
    {
      hint: `shut down the host that should not be the primary, or remove it from the connection string; if the archive has followed the wrong one, see walrx wal-finalize --set-aside ${historyName(Math.max(archived, 2))}`,
    },
  )
}

function describeChain({ links }: TimelineChain): string {
  return links
    .map(({ end, timeline }) => `${timeline}${end === undefined ? '' : ` up to ${formatLsn(end)}`}`)
    .join(', ')
}

/** True when both have the same timelines, which began at the same positions, up to the newest of the first. */
function isBeginningOf(shorter: TimelineChain, longer: TimelineChain): boolean {
  return shorter.links.every(({ begin, timeline }, index) => {
    const other = longer.links[index]
    return other?.timeline === timeline && other.begin === begin
  })
}

function isSame(one: TimelineChain, other: TimelineChain): boolean {
  return one.links.length === other.links.length && isBeginningOf(one, other)
}

function isFormer(former: TimelineChain, newer: TimelineChain): boolean {
  return newer.links.length > former.links.length && isBeginningOf(former, newer)
}

/** The newest timeline that the archive has any file of; 0 for an empty archive. */
async function newestArchived(archive: KnownTimelines, signal: AbortSignal): Promise<Timeline> {
  let newest = 0
  for await (const timeline of archive.timelinesAfter(0, { signal })) newest = Math.max(newest, timeline)
  return newest
}

/** True when the newest archived timeline is one of the chain's, and began where the archive says. */
async function holds(
  chain: TimelineChain,
  archived: Timeline,
  archive: KnownTimelines,
  signal: AbortSignal,
): Promise<boolean> {
  const link = chain.link(archived)
  if (!link) return false
  const parent = chain.links[chain.links.indexOf(link) - 1]
  if (!parent) return true
  for await (const fork of archive.forksOf(parent.timeline, { signal })) {
    if (fork.timeline === archived) return fork.switchpoint === link.begin
  }
  return true
}
