/**
 * Which timelines a recovery will follow: what recovery_target_timeline will mean to the server, computed in advance.
 */
import { WalrxError } from '../../primitives/errors.ts'
import { formatLsn, type Lsn, type Timeline } from '../../postgres/lsn.ts'
import { TimelineChain } from '../../postgres/wal/timeline-chain.ts'
import { type HistoryEntry, historyName, parseHistory } from '../../postgres/wal/wal-file.ts'
import type { StorageCallOptions } from '../../storage/storage.ts'
import { readWhole } from '../../walg/stored/stored-reader.ts'
import type { WalReader } from '../../walg/wal/wal-reader.ts'
import type { RecoveryTimeline } from './recovery-request.ts'

/** What a recovery needs to know about the backup that it starts from. */
export interface RecoveryStart {
  readonly name: string
  readonly timeline: Timeline
  /** The first LSN that the recovery needs. */
  readonly startLsn: Lsn
  /** The LSN at which the backup becomes consistent. */
  readonly finishLsn: Lsn
}

/** The history files of an archive, each read once. */
export class Histories {
  readonly #reader: WalReader
  readonly #known = new Map<Timeline, Promise<readonly HistoryEntry[] | undefined>>()

  constructor(reader: WalReader) {
    this.#reader = reader
  }

  /**
   * The ancestors of a timeline, oldest first; undefined when the archive has no history file for it.
   * @throws WALRX_OBJECT_DAMAGED for a file that cannot be read; what the storage throws
   */
  ancestors(timeline: Timeline, options?: StorageCallOptions): Promise<readonly HistoryEntry[] | undefined> {
    if (timeline === 1) return Promise.resolve([])
    const known = this.#known.get(timeline) ?? this.#read(timeline, options)
    this.#known.set(timeline, known)
    return known
  }

  async #read(timeline: Timeline, options?: StorageCallOptions): Promise<readonly HistoryEntry[] | undefined> {
    const name = historyName(timeline)
    const file = await this.#reader.openWalFile(name, undefined, options)
    if (!file) return undefined
    return parseHistory(await readWhole(file), name)
  }
}

/**
 * The timelines that a recovery from timeline `from` will follow. `latest` is found as the server finds it, by asking
 * for one number after the other until there is no such history file (findNewestTimeLine in timeline.c).
 * @throws WALRX_TARGET_UNREACHABLE for a timeline without a history file in the archive
 */
export async function recoveryChain(
  histories: Histories,
  wanted: RecoveryTimeline,
  from: Timeline,
  options?: StorageCallOptions,
): Promise<TimelineChain> {
  let timeline = from
  if (wanted === 'latest') while (await histories.ancestors(timeline + 1, options)) timeline++
  else if (wanted !== 'current') timeline = wanted
  const ancestors = await histories.ancestors(timeline, options)
  if (ancestors) return new TimelineChain(timeline, ancestors)
  // The server takes a timeline without a history file for one without ancestors, unless it is the target timeline.
  if (timeline === from) return new TimelineChain(timeline, [])
  throw new WalrxError('WALRX_TARGET_UNREACHABLE', `the archive lacks ${historyName(timeline)}`, {
    hint: 'choose another --target-timeline: walrx wal-show lists the timelines of the archive',
  })
}

/**
 * Why a recovery cannot follow these timelines from this backup; undefined when it can. The server would end with
 * "requested timeline is not a child of this server's history".
 */
export function whyNotOnChain(chain: TimelineChain, backup: RecoveryStart): string | undefined {
  const { newest } = chain
  const link = chain.link(backup.timeline)
  if (!link)
    return `backup ${backup.name} is on timeline ${backup.timeline}, which is not an ancestor of timeline ${newest.timeline}`
  if (link.end === undefined || backup.finishLsn <= link.end) return undefined
  const fork = `timeline ${chain.after(backup.timeline)?.timeline} forked from timeline ${backup.timeline}`
  return `backup ${backup.name} ends at ${formatLsn(backup.finishLsn)}, but ${fork} before that, at ${formatLsn(link.end)}`
}
