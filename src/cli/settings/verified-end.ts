/** Up to where `wal-verify` checks: the position of the server, one that was given, or the end of the archive. */
import type { WalInventory } from '../../catalog/wal-inventory.ts'
import type { OptionValues } from '../../config/options/options.ts'
import { WalrxError } from '../../primitives/errors.ts'
import { type Lsn, segmentNumber, type Timeline, toLsn } from '../../postgres/lsn.ts'
import { parseSegmentSize } from '../../postgres/wal/wal-file.ts'
import { type ServerContext, serverOf } from './server-of.ts'

/** See the file's header. */
export interface VerifiedEnd {
  readonly source: 'server' | 'given' | 'archive'
  /** For people: which server. */
  readonly host: string | undefined
  /** 0 for an archive without WAL. */
  readonly timeline: Timeline
  readonly lsn: Lsn
  /** Undefined unless a server has said it. */
  readonly systemId: bigint | undefined
  readonly segmentSize: number | undefined
}

/** Settings that name a server. Without one of them libpq would try the machine's own. */
const serverSettings = ['PGHOST', 'PGHOSTADDR', 'PGPORT', 'PGSERVICE']

/** What {@link askedEnd} needs. */
export interface EndContext extends ServerContext {
  readonly options: ServerContext['options'] & Pick<OptionValues<'wal-verify'>, 'finalizeTimeline' | 'verifyLsn'>
}

/**
 * The end that the operator gave, or that of the server where one is named; undefined where there is neither.
 * @throws WALRX_USAGE for one of --lsn and --timeline without the other; what connecting throws
 */
export async function askedEnd(context: EndContext, signal: AbortSignal): Promise<VerifiedEnd | undefined> {
  const { finalizeTimeline: timeline, verifyLsn: lsn } = context.options
  if ((timeline === undefined) !== (lsn === undefined)) {
    throw new WalrxError('WALRX_USAGE', '--lsn and --timeline go together: one is of no use without the other', {
      hint: 'walrx wal-show prints the timelines, and to which LSN each is durable',
    })
  }
  if (lsn !== undefined && timeline !== undefined) {
    return { source: 'given', host: undefined, timeline, lsn, systemId: undefined, segmentSize: undefined }
  }
  const { pgEnvironment } = context.settings
  const isNamed = context.options.conninfo !== undefined || serverSettings.some((name) => pgEnvironment[name])
  if (!isNamed) return undefined
  const session = await serverOf(context, true).connect(signal)
  try {
    const { systemId, timeline, xlogpos } = await session.identifySystem()
    const segmentSize = parseSegmentSize(await session.show('wal_segment_size'))
    return { source: 'server', host: session.host, timeline, lsn: xlogpos, systemId, segmentSize }
  } finally {
    await session.close()
  }
}

/** The end of the newest timeline that has WAL; segments of 0 bytes at its end are to be looked at, too. */
export function endOfArchive({ segmentSize, timelines }: WalInventory): VerifiedEnd {
  const newest = timelines.findLast(({ durableEnd, empty }) => durableEnd !== undefined || empty.length > 0)
  const durableEnd = newest?.durableEnd ?? toLsn(0n)
  const emptyEnd = toLsn(((newest?.empty.at(-1)?.last ?? -1n) + 1n) * BigInt(segmentSize))
  return {
    source: 'archive',
    host: undefined,
    timeline: newest?.timeline ?? 0,
    lsn: emptyEnd > durableEnd ? emptyEnd : durableEnd,
    systemId: undefined,
    segmentSize: undefined,
  }
}

/**
 * The segment that is being written to. At a boundary that is the one before it, as for WAL-G; of an archive it is the
 * one after its last whole one.
 */
export function currentSegment({ lsn, source }: VerifiedEnd, segmentSize: number): bigint {
  return segmentNumber(source === 'archive' || lsn === 0n ? lsn : toLsn(lsn - 1n), segmentSize)
}
