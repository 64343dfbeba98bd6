/**
 * Checks whether the archive can bring a backup to a target. The server finds out only at the end of its recovery,
 * maybe after hours, and then either refuses to start or waits forever. This check runs before the first byte is
 * fetched.
 *
 * An LSN can be checked exactly: the server stops at the first record that begins there or later (recoveryStopsBefore
 * and recoveryStopsAfter in xlogrecovery.c), so there must be one. A time is checked against the records that end
 * transactions, the only ones that the server compares it to. Transaction ids and restore points are left to the
 * server.
 */
import { segmentSizeOfFile } from '../../catalog/wal-inventory.ts'
import { type ErrorCode, WalrxError } from '../../primitives/errors.ts'
import { formatLsn, type Lsn } from '../../postgres/lsn.ts'
import { formatTimestamp, type TimestampTz } from '../../postgres/timestamp.ts'
import type { TimelineChain } from '../../postgres/wal/timeline-chain.ts'
import { parseSegmentName } from '../../postgres/wal/wal-file.ts'
import { laterTransactionTime } from '../../postgres/wal/wal-record.ts'
import type { StorageCallOptions } from '../../storage/storage.ts'
import { describeGap, gapHolding, type GapRecord, isBreak } from '../../walg/wal/gap-records.ts'
import type { WalReader } from '../../walg/wal/wal-reader.ts'
import { describeTarget, type RecoveryRequest, type RecoveryTarget } from './recovery-request.ts'
import { Histories, recoveryChain, type RecoveryStart, whyNotOnChain } from './recovery-timelines.ts'
import { firstBreak, walUpTo } from './wal-breaks.ts'
import { findLast, type LastFound, type ReachableWal, reachableWal } from './recovery-wal.ts'

/** A backup with the times from its sentinel: by the clock of the machine that took it. */
export interface RecoveryBackup extends RecoveryStart {
  readonly startTime: TimestampTz
  readonly finishTime: TimestampTz
}

/** What {@link checkReachable} checks. */
export interface ReachabilityCheck extends StorageCallOptions {
  readonly reader: WalReader
  readonly backup: RecoveryBackup
  readonly request: Pick<RecoveryRequest, 'target' | 'inclusive' | 'timeline'>
  /** In bytes; undefined reads it from the backup's first segment. */
  readonly segmentSize?: number | undefined
  /** The history files of the archive, where they have been read already. */
  readonly histories?: Histories
}

/** The recovery can start and, as far as the archive shows, will reach its target. */
export interface Reachability {
  readonly chain: TimelineChain
  /** One past the last byte of WAL that the archive has without a gap. */
  readonly end: Lsn
  /** Messages for the operator's log. */
  readonly warnings: readonly string[]
}

/** What a check knows. */
interface Known extends ReachabilityCheck {
  readonly chain: TimelineChain
  readonly wal: ReachableWal
  /** The recorded gap that the first missing segment is in: this segment will never be archived. */
  readonly gap: GapRecord | undefined
  readonly warnings: string[]
}

/**
 * Checks whether the archive can bring the backup to the target. This costs a listing from the backup's first segment
 * on and, for an LSN or a time, reading some of the last segments. A recorded gap stops a recovery where its segments
 * are still missing, also when no later segment is archived yet.
 * @throws WALRX_TARGET_UNREACHABLE with the range that can be reached; what the storage throws
 */
export async function checkReachable(check: ReachabilityCheck): Promise<Reachability> {
  const { backup, reader, request } = check
  const histories = check.histories ?? new Histories(reader)
  const chain = await recoveryChain(histories, request.timeline, backup.timeline, check)
  const offChain = whyNotOnChain(chain, backup)
  if (offChain !== undefined) {
    throw unreachable(offChain, 'choose a backup of that timeline, or another timeline with --target-timeline')
  }
  const segmentSize = check.segmentSize ?? (await segmentSizeOfBackup(check))
  const gaps = await reader.gaps(check)
  const found = await reachableWal(reader, chain, backup.startLsn, segmentSize, check)
  const broken = firstBreak(found, chain, backup.startLsn, gaps)
  const wal = broken ? walUpTo(found, broken) : found
  const gap = broken ?? gapAt(wal, gaps)
  if (wal.end < backup.finishLsn) {
    const [needed, end] = [backup.finishLsn, wal.end].map(formatLsn)
    const have = wal.runs.length === 0 ? 'has none of that WAL' : `reaches only ${end}`
    const message = `backup ${backup.name} needs WAL up to ${needed} to be consistent, but the archive ${have}`
    throw unreachable(message, gap ? `${describeGap(gap)}: ${anotherBackup}` : `segment ${wal.missing} is missing`)
  }
  const known: Known = { ...check, chain, wal, gap, warnings: [] }
  await judge(known, request.target)
  warnOfFork(known)
  warnOfCut(known)
  return { chain, end: wal.end, warnings: known.warnings }
}

/** The gap that the first missing segment is in. */
function gapAt({ missing, segmentSize }: ReachableWal, gaps: readonly GapRecord[]): GapRecord | undefined {
  const id = parseSegmentName(missing, segmentSize)
  return id && gapHolding(gaps, id, segmentSize)
}

const anotherBackup = 'choose a backup that started after it, or an earlier target'

async function judge(known: Known, target: RecoveryTarget | undefined): Promise<void> {
  switch (target?.kind) {
    case 'lsn':
      return checkLsn(known, target.lsn)
    case 'time':
      return checkTime(known, target.time)
    case 'name':
    case 'xid': {
      const { missing, isGap } = known.wal
      if (!isGap && !known.gap) return
      const what = known.gap ? describeGap(known.gap) : `segment ${missing} is missing`
      known.warnings.push(`${what}: recovery fails if ${describeTarget(target)} comes after it`)
      return
    }
    case 'immediate':
      return
    case undefined:
      return refuseGap(known)
    default:
      return target satisfies never
  }
}

/**
 * Recovery to the end of the archive would stop at a gap: with a server that does not start, or, where no later WAL is
 * archived, with a server that promotes without the lost WAL.
 */
async function refuseGap(known: Known): Promise<void> {
  const { gap, wal } = known
  if (!wal.isGap && !gap) return
  const last = (await tryToRead(known, () => lastRecord(known)))?.found ?? known.backup.finishLsn
  const what = gap ? describeGap(gap) : missingSegment(wal)
  const message = gap && isBreak(gap) ? what : `the archive has a gap: ${what}`
  throw unreachable(
    message,
    `to recover the WAL before ${gap && isBreak(gap) ? 'that' : 'the gap'}, use --target-lsn=${formatLsn(last)}`,
  )
}

async function checkLsn(known: Known, lsn: Lsn): Promise<void> {
  const { backup, wal } = known
  const last = await tryToRead(known, () => lastRecord(known))
  const end = last?.found ?? (last ? undefined : (wal.end as bigint as Lsn))
  if (lsn >= backup.finishLsn && end !== undefined && lsn <= end) return
  throw outOfRange(known, lsn < backup.finishLsn, formatLsn(backup.finishLsn), end && formatLsn(end))
}

/** The start of the last record that is complete in the archive. */
function lastRecord(known: Known): Promise<LastFound<Lsn>> {
  const { backup, reader, wal } = known
  return findLast<Lsn>(reader, wal, { start: backup.finishLsn, end: wal.end }, (record) => record.start, known)
}

/**
 * Recovery stops before the first transaction that ended after the time, so the archive must have one. No transaction
 * in the WAL that the backup itself needs may have ended after the time: it would be recovered in any case.
 */
async function checkTime(known: Known, time: TimestampTz): Promise<void> {
  const { backup, reader, request, wal } = known
  const { finishLsn, startLsn } = backup
  const ofBackup = await tryToRead(known, () => {
    return findLast(reader, wal, { start: startLsn, end: finishLsn }, laterTransactionTime, known)
  })
  // The records have times by the server's clock, the sentinel by the clock of the machine that took the backup.
  const low = ofBackup?.found ?? (ofBackup?.isWhole ? backup.startTime : backup.finishTime)
  const afterwards = await tryToRead(known, () => {
    return findLast(reader, wal, { start: finishLsn, end: wal.end }, laterTransactionTime, known)
  })
  const high = afterwards?.found
  const lowText = formatTimestamp(low)
  const highText = high === undefined ? undefined : `before ${formatTimestamp(high)}`
  if (request.inclusive ? time < low : time <= low && ofBackup?.found !== undefined) {
    throw outOfRange(known, true, lowText, highText)
  }
  if (high === undefined && afterwards?.isWhole !== true) {
    known.warnings.push(
      `cannot check that the archive reaches time ${formatTimestamp(time)}: no transaction ended in the last WAL that was read`,
    )
  } else if (high === undefined || (request.inclusive ? time >= high : time > high)) {
    throw outOfRange(known, false, lowText, highText)
  }
}

const unreadable: ReadonlySet<ErrorCode> = new Set<ErrorCode>([
  'WALRX_OBJECT_DAMAGED',
  'WALRX_OBJECT_NOT_FOUND',
  'WALRX_CODEC_UNSUPPORTED',
  'WALRX_WAL_INVALID',
])

/** The result of `read`; undefined, with a warning, where the WAL can't be read: an earlier target may be reachable. */
async function tryToRead<T>(known: Known, read: () => Promise<T>): Promise<T | undefined> {
  try {
    return await read()
  } catch (error) {
    if (!(error instanceof WalrxError) || !unreadable.has(error.code)) throw error
    known.warnings.push(`WAL of the archive cannot be read, and recovery may fail there: ${error.message}`)
    return undefined
  }
}

/**
 * The server asks for the new timeline's first segment and, where the archive lacks it, continues with the old one's.
 */
function warnOfFork({ chain, gap, request, wal, warnings }: Known): void {
  if (gap && isBreak(gap)) return
  const isExact = request.target?.kind === 'lsn' || request.target?.kind === 'immediate'
  const isTail = wal.tail?.segment === wal.missing
  if (wal.end % BigInt(wal.segmentSize) === 0n || isExact || isTail) return
  const { begin, timeline } = chain.newest
  const at = formatLsn(begin)
  warnings.push(
    `timeline ${timeline} began at ${at}, but its segment ${wal.missing} is not archived: ` +
      `recovery replays WAL of the old timeline after ${at} instead, if there is any`,
  )
}

/** The server takes the end of a tail for the end of all WAL, and does not ask for later segments. */
function warnOfCut({ request, wal, warnings }: Known): void {
  const kind = request.target?.kind
  if (wal.isCut !== true || kind === 'lsn' || kind === 'time' || kind === 'immediate') return
  warnings.push(`${cutAt(wal)}: recovery ends there`)
}

function cutAt({ end, missing }: ReachableWal): string {
  return `the archive has segment ${missing} only up to ${formatLsn(end)}, although it holds later segments`
}

function outOfRange(known: Known, isTooEarly: boolean, low: string, high: string | undefined): WalrxError {
  const { backup, gap, request, wal } = known
  const target = describeTarget(request.target)
  const where = `from backup ${backup.name} the archive reaches`
  const range = high === undefined ? `${where} only ${low}` : `${where} from ${low} to ${high}`
  if (isTooEarly) return unreachable(`${target} is too early: ${range}`, 'choose an older backup')
  if (gap) return unreachable(`${target} is too late: ${range}; ${describeGap(gap)}`, anotherBackup)
  const why = wal.isGap
    ? missingSegment(wal)
    : wal.isCut === true
      ? cutAt(wal)
      : 'later WAL is not archived yet; to recover all archived WAL, set no target'
  return unreachable(`${target} is too late: ${range}`, why)
}

function missingSegment({ missing }: ReachableWal): string {
  return `segment ${missing} is missing, although the archive holds later WAL`
}

/** wal_segment_size from the segment in the backup's name. */
async function segmentSizeOfBackup({ backup, reader, ...options }: ReachabilityCheck): Promise<number> {
  const segment = backup.name.replace(/^base_/, '').slice(0, 24)
  if (await reader.has(segment, options)) return segmentSizeOfFile(reader, segment, options)
  throw unreachable(
    `backup ${backup.name} starts in segment ${segment}, which the archive lacks`,
    'choose another backup',
  )
}

function unreachable(message: string, hint: string): WalrxError {
  return new WalrxError('WALRX_TARGET_UNREACHABLE', message, { hint })
}
