/**
 * Fetches the WAL that pg_rewind needs, where the pg_wal of two clusters that have diverged no longer has it: an old
 * primary, the target, and the new one, the source.
 *
 * pg_rewind reads the target's WAL from the last checkpoint before the divergence to the target's end, to see which blocks
 * have changed (findLastCheckpoint and extractPageMap in parsexlog.c). The rewound server then recovers from where that
 * checkpoint's recovery begins, along the source's timeline. So the target needs its own history from there on, and the
 * source its own: WAL-G's wal-restore fetches only the source's. What is in pg_wal already is never replaced.
 */
import { createReadStream } from 'node:fs'
import { WalrxError } from '../../primitives/errors.ts'
import { formatLsn, type Lsn, segmentNumber, type Timeline, toLsn } from '../../postgres/lsn.ts'
import type { TimelineChain } from '../../postgres/wal/timeline-chain.ts'
import { historyName, segmentName } from '../../postgres/wal/wal-file.ts'
import { checkpointRedo } from '../../postgres/wal/wal-record.ts'
import { WalRecordReader } from '../../postgres/wal/wal-record-reader.ts'
import { DataDirectory, type FetchTo } from './data-directory.ts'

/** What {@link restoreWal} needs. */
export interface WalRestoreOptions {
  /** Data directory of the cluster that is to be rewound. */
  readonly target: string
  /** Data directory of the cluster that it is to follow. */
  readonly source: string
  readonly fetch: FetchTo
  /** Bytes of a segment, where it is set; else by the control file. */
  readonly segmentSize: number | undefined
  readonly signal: AbortSignal
}

/** What became of one directory. */
export interface RestoredDirectory {
  readonly path: string
  readonly timeline: Timeline
  /** WAL files that were fetched. */
  readonly fetched: readonly string[]
  /** WAL files that are needed, and that neither it nor the archive has. */
  readonly missing: readonly string[]
}

/** The result of {@link restoreWal}. */
export interface RestoredWal {
  /** Undefined where the target is on a timeline of the source's history, or both are on one: there is nothing to rewind. */
  readonly divergence: { readonly timeline: Timeline; readonly lsn: Lsn } | undefined
  /** The last checkpoint that both share; undefined where it was not found. */
  readonly checkpoint: Lsn | undefined
  readonly target: RestoredDirectory
  readonly source: RestoredDirectory
}

interface Checkpoint {
  readonly start: Lsn
  readonly redo: Lsn
}

/**
 * Fetches the files, the target's first.
 * @throws WALRX_USAGE for what are no two data directories of one cluster; WALRX_ARCHIVE_HOLE for a history file that is
 * nowhere; what fetching throws
 */
export async function restoreWal(options: WalRestoreOptions): Promise<RestoredWal> {
  const target = await DataDirectory.open(options.target, options.fetch)
  const source = await DataDirectory.open(options.source, options.fetch)
  refuseOtherClusters(target, source)
  const segmentSize = options.segmentSize ?? target.state.segmentSize
  if (segmentSize === undefined) {
    throw new WalrxError('WALRX_USAGE', `${target.path}/global/pg_control is of a version that walrx does not know`, {
      hint: "set WALG_PG_WAL_SIZE to the server's wal_segment_size in MB",
    })
  }
  const timelines = { target: target.state.timeline, source: await newestTimeline(source) }
  const result = (divergence: RestoredWal['divergence'], checkpoint: Lsn | undefined): RestoredWal => ({
    divergence,
    checkpoint,
    target: { path: target.path, timeline: timelines.target, fetched: target.fetched, missing: target.missing },
    source: { path: source.path, timeline: timelines.source, fetched: source.fetched, missing: source.missing },
  })
  if (timelines.target === timelines.source) return result(undefined, undefined)
  const chains = { target: await target.chain(timelines.target), source: await source.chain(timelines.source) }
  const divergence = chains.target.divergence(chains.source)
  if (!divergence) throw noCommonHistory(timelines.target, timelines.source)
  const walk = { segmentSize, signal: options.signal }
  const checkpoint = await lastCheckpoint(target, chains.target, divergence.lsn, walk)
  const first = segmentNumber(checkpoint?.redo ?? divergence.lsn, segmentSize)
  // From its last checkpoint on every server has its own WAL: it could not start without.
  await ensureRange(target, chains.target, first, segmentNumber(target.state.checkpoint, segmentSize), walk)
  await ensureRange(source, chains.source, first, segmentNumber(source.state.checkpoint, segmentSize), walk)
  return result(divergence, checkpoint?.start)
}

function refuseOtherClusters({ path, state }: DataDirectory, source: DataDirectory): void {
  const [own, other] = [state.systemId, source.state.systemId]
  if (own === other) return
  throw new WalrxError(
    'WALRX_OTHER_CLUSTER',
    `${path} is of the cluster with system identifier ${own}, ${source.path} of that with ${other}`,
    { hint: 'give the data directory of the old primary, then that of the server which was promoted' },
  )
}

function noCommonHistory(target: Timeline, source: Timeline): WalrxError {
  const message = `the histories of timelines ${target} and ${source} do not show where they diverged`
  return new WalrxError('WALRX_USAGE', message, {
    hint: `compare ${historyName(target)} and ${historyName(source)} in both folders pg_wal`,
  })
}

/** The checkpoint after a promotion may not be written yet: then the history file and WAL of the new timeline show it. */
async function newestTimeline(source: DataDirectory): Promise<Timeline> {
  const { timeline } = source.state
  for (const newer of source.historyTimelines()) {
    if (newer <= timeline) break
    if (source.segments(newer).length === 0) continue
    if ((await source.chain(newer)).link(timeline)) return newer
  }
  return timeline
}

interface Walk {
  readonly segmentSize: number
  readonly signal: AbortSignal
}

/** The last checkpoint that begins before the divergence, from there backwards; each segment is fetched where it is missing. */
async function lastCheckpoint(
  target: DataDirectory,
  chain: TimelineChain,
  divergence: Lsn,
  { segmentSize, signal }: Walk,
): Promise<Checkpoint | undefined> {
  for (let segno = segmentNumber(toLsn(divergence - 1n), segmentSize); segno >= 0n; segno--) {
    signal.throwIfAborted()
    const name = nameAt(chain, segno, segmentSize)
    if (!(await target.ensure(name))) return undefined
    let found: Checkpoint | undefined
    const records = new WalRecordReader((record) => {
      const redo = record.start < divergence ? checkpointRedo(record) : undefined
      if (redo !== undefined) found = { start: record.start, redo }
    })
    for await (const chunk of createReadStream(target.pathOf(name))) records.write(chunk as Buffer)
    if (found) return found
  }
  return undefined
}

async function ensureRange(
  directory: DataDirectory,
  chain: TimelineChain,
  first: bigint,
  last: bigint,
  { segmentSize, signal }: Walk,
): Promise<void> {
  for (let segno = first; segno <= last; segno++) {
    signal.throwIfAborted()
    await directory.ensure(nameAt(chain, segno, segmentSize))
  }
}

/** A segment with a fork is that of the newer timeline, which has a copy of what was before. */
function nameAt(chain: TimelineChain, segno: bigint, segmentSize: number): string {
  const link = chain.links.findLast(({ begin }) => segmentNumber(begin, segmentSize) <= segno) ?? chain.newest
  return segmentName(link.timeline, segno, segmentSize)
}

/** The divergence for people. */
export function describeDivergence({ divergence, source, target }: RestoredWal): string {
  if (!divergence) return `both are on timeline ${target.timeline}: there is nothing to rewind`
  const { lsn, timeline } = divergence
  return `timelines ${target.timeline} and ${source.timeline} diverged at ${formatLsn(lsn)} on timeline ${timeline}`
}
