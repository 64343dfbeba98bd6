/**
 * Whether the archive can bring a backup to a target. A server finds out only at the end of its recovery, after hours
 * maybe, and then either refuses to start or stops for ever; we look before the first byte is fetched.
 *
 * What can be known: a position exactly, because the server stops at the first record that begins there or later
 * (recoveryStopsBefore and recoveryStopsAfter in xlogrecovery.c), so there must be one. A time by the records that end
 * transactions, the only ones that the server compares it to. Transactions and restore points are left to the server.
 */
import { segmentSizeOfFile } from '../../catalog/wal-inventory.ts'
import { type ErrorCode, WalrxError } from '../../primitives/errors.ts'
import { formatLsn, type Lsn } from '../../postgres/lsn.ts'
import type { TimelineChain } from '../../postgres/wal/timeline-chain.ts'
import { parseSegmentName } from '../../postgres/wal/wal-file.ts'
import { transactionTime, type WalRecord } from '../../postgres/wal/wal-record.ts'
import type { StorageCallOptions } from '../../storage/storage.ts'
import { describeGap, gapHolding, type GapRecord } from '../../walg/wal/gap-records.ts'
import type { WalReader } from '../../walg/wal/wal-reader.ts'
import { describeTarget, type RecoveryRequest, type RecoveryTarget } from './recovery-request.ts'
import { Histories, recoveryChain, type RecoveryStart, whyNotOnChain } from './recovery-timelines.ts'
import { formatTimestamp, type TimestampTz } from './recovery-time.ts'
import { findLast, type LastFound, type ReachableWal, reachableWal } from './recovery-wal.ts'

/** A backup with the times that its sentinel says: by the clock of the machine that took it. */
export interface RecoveryBackup extends RecoveryStart {
  readonly startTime: TimestampTz
  readonly finishTime: TimestampTz
}

/** What {@link checkReachable} looks at. */
export interface ReachabilityCheck extends StorageCallOptions {
  readonly reader: WalReader
  readonly backup: RecoveryBackup
  readonly request: Pick<RecoveryRequest, 'target' | 'inclusive' | 'timeline'>
  /** Bytes; undefined reads it from the backup's first segment. */
  readonly segmentSize?: number | undefined
  /** Those of the archive, where they have been read already. */
  readonly histories?: Histories
}

/** The recovery can begin, and as far as can be known it will reach its target. */
export interface Reachability {
  readonly chain: TimelineChain
  /** One past the last byte of WAL that the archive has without a gap. */
  readonly end: Lsn
  /** What the operator should know, each a message for the log. */
  readonly warnings: readonly string[]
}

/** What a check goes by. */
interface Known extends ReachabilityCheck {
  readonly chain: TimelineChain
  readonly wal: ReachableWal
  /** The recorded gap that the first missing segment lies in: it will never come. */
  readonly gap: GapRecord | undefined
  readonly warnings: string[]
}

/**
 * Looks whether the archive can bring the backup to the target. Costs a listing from the backup's first segment on, and
 * for a position or a time some of the last segments. A recorded gap stops a recovery where segments of it are missing
 * still, also when nothing has been archived behind it yet.
 * @throws WALRX_TARGET_UNREACHABLE with the range that can be reached; what the storage says
 */
export async function checkReachable(check: ReachabilityCheck): Promise<Reachability> {
  const { backup, reader, request } = check
  const histories = check.histories ?? new Histories(reader)
  const chain = await recoveryChain(histories, request.timeline, backup.timeline, check)
  const strange = whyNotOnChain(chain, backup)
  if (strange !== undefined) {
    throw unreachable(strange, 'choose a backup of that timeline, or another timeline with --target-timeline')
  }
  const segmentSize = check.segmentSize ?? (await segmentSizeOfBackup(check))
  const wal = await reachableWal(reader, chain, backup.startLsn, segmentSize, check)
  const gap = gapAt(wal, await reader.gaps(check))
  if (wal.end < backup.finishLsn) {
    const [needed, end] = [backup.finishLsn, wal.end].map(formatLsn)
    const have = wal.runs.length === 0 ? 'has none of it' : `ends at ${end}`
    const message = `backup ${backup.name} is consistent with WAL up to ${needed}, but the archive ${have}`
    throw unreachable(message, gap ? `${describeGap(gap)}: ${anotherBackup}` : `segment ${wal.missing} is missing`)
  }
  const known: Known = { ...check, chain, wal, gap, warnings: [] }
  await judge(known, request.target)
  warnOfFork(known)
  warnOfCut(known)
  return { chain, end: wal.end, warnings: known.warnings }
}

/** The gap that the first missing segment lies in. */
function gapAt({ missing, segmentSize }: ReachableWal, gaps: readonly GapRecord[]): GapRecord | undefined {
  const id = parseSegmentName(missing, segmentSize)
  return id && gapHolding(gaps, id, segmentSize)
}

const anotherBackup = 'choose a backup that was begun behind it, or an earlier target'

async function judge(known: Known, target: RecoveryTarget | undefined): Promise<void> {
  switch (target?.kind) {
    case 'lsn':
      return checkLsn(known, target.lsn)
    case 'time':
      return checkTime(known, target.time)
    case 'name':
    case 'xid': {
      const { missing, isHole } = known.wal
      if (!isHole && !known.gap) return
      const what = known.gap ? describeGap(known.gap) : `segment ${missing} is missing`
      known.warnings.push(`${what}: recovery fails if ${describeTarget(target)} comes after it`)
      return
    }
    case 'immediate':
      return
    case undefined:
      return refuseHole(known)
    default:
      return target satisfies never
  }
}

/** Recovery to the end ends in a hole with a server that doesn't start, and before a gap without what was lost. */
async function refuseHole(known: Known): Promise<void> {
  const { gap, wal } = known
  if (!wal.isHole && !gap) return
  const last = (await tryToRead(known, () => lastRecord(known)))?.found ?? known.backup.finishLsn
  const message = `the archive has a hole: ${gap ? describeGap(gap) : holeAt(wal)}`
  throw unreachable(message, `what comes before the hole can be recovered with --target-lsn=${formatLsn(last)}`)
}

async function checkLsn(known: Known, lsn: Lsn): Promise<void> {
  const { backup, wal } = known
  const last = await tryToRead(known, () => lastRecord(known))
  const end = last?.found ?? (last ? undefined : (wal.end as bigint as Lsn))
  if (lsn >= backup.finishLsn && end !== undefined && lsn <= end) return
  throw outOfRange(known, lsn < backup.finishLsn, formatLsn(backup.finishLsn), end && formatLsn(end))
}

/** The start of the last record that is in the archive whole. */
function lastRecord(known: Known): Promise<LastFound<Lsn>> {
  const { backup, reader, wal } = known
  return findLast<Lsn>(reader, wal, { start: backup.finishLsn, end: wal.end }, (record) => record.start, known)
}

/**
 * Recovery stops before the first transaction that ended after the time, so the archive must have one. And none that
 * the backup itself needs may have ended after it: it would be recovered in any case.
 */
async function checkTime(known: Known, time: TimestampTz): Promise<void> {
  const { backup, reader, request, wal } = known
  const { finishLsn, startLsn } = backup
  const ofBackup = await tryToRead(known, () => {
    return findLast(reader, wal, { start: startLsn, end: finishLsn }, latestEnd, known)
  })
  // The records are by the server's clock, the sentinel by that of the machine that took the backup.
  const low = ofBackup?.found ?? (ofBackup?.isWhole ? backup.startTime : backup.finishTime)
  const afterwards = await tryToRead(known, () => {
    return findLast(reader, wal, { start: finishLsn, end: wal.end }, latestEnd, known)
  })
  const high = afterwards?.found
  const lowText = formatTimestamp(low)
  const highText = high === undefined ? undefined : `before ${formatTimestamp(high)}`
  if (request.inclusive ? time < low : time <= low && ofBackup?.found !== undefined) {
    throw outOfRange(known, true, lowText, highText)
  }
  if (high === undefined && afterwards?.isWhole !== true) {
    known.warnings.push(
      `whether the archive reaches time ${formatTimestamp(time)} cannot be told: no transaction ended in its last WAL`,
    )
  } else if (high === undefined || (request.inclusive ? time >= high : time > high)) {
    throw outOfRange(known, false, lowText, highText)
  }
}

function latestEnd(record: WalRecord, found: TimestampTz | undefined): TimestampTz | undefined {
  const time = transactionTime(record)
  return time === undefined || (found !== undefined && found > time) ? found : time
}

const unreadable: ReadonlySet<ErrorCode> = new Set<ErrorCode>([
  'WALRX_OBJECT_DAMAGED',
  'WALRX_OBJECT_NOT_FOUND',
  'WALRX_CODEC_UNSUPPORTED',
  'WALRX_WAL_INVALID',
])

/** What `read` finds; undefined, with a warning, where the WAL can't be read: an earlier target may be fine. */
async function tryToRead<T>(known: Known, read: () => Promise<T>): Promise<T | undefined> {
  try {
    return await read()
  } catch (error) {
    if (!(error instanceof WalrxError) || !unreadable.has(error.code)) throw error
    known.warnings.push(`the archive's WAL cannot be read, recovery may fail at it: ${error.message}`)
    return undefined
  }
}

/** The server asks for the new timeline's first segment, hears that there is none, and goes on with the old one's. */
function warnOfFork({ chain, request, wal, warnings }: Known): void {
  const isExact = request.target?.kind === 'lsn' || request.target?.kind === 'immediate'
  const isBeginning = wal.beginning?.segment === wal.missing
  if (wal.end % BigInt(wal.segmentSize) === 0n || isExact || isBeginning) return
  const { begin, timeline } = chain.newest
  const at = formatLsn(begin)
  warnings.push(
    `timeline ${timeline} began at ${at}, but its segment ${wal.missing} is not archived: ` +
      'what the old timeline may have written behind that is recovered instead',
  )
}

/** The server takes the end of a segment's beginning for the end of all WAL, and does not ask for what follows. */
function warnOfCut({ request, wal, warnings }: Known): void {
  const kind = request.target?.kind
  if (wal.isCut !== true || kind === 'lsn' || kind === 'time' || kind === 'immediate') return
  warnings.push(`${cutAt(wal)}: recovery ends there`)
}

function cutAt({ end, missing }: ReachableWal): string {
  return `of segment ${missing} the archive has no more than what comes before ${formatLsn(end)}, and whole segments follow behind it`
}

function outOfRange(known: Known, isTooEarly: boolean, low: string, high: string | undefined): WalrxError {
  const { backup, gap, request, wal } = known
  const target = describeTarget(request.target)
  const where = `from backup ${backup.name} the archive reaches`
  const range = high === undefined ? `${where} no further than ${low}` : `${where} from ${low} to ${high}`
  if (isTooEarly) return unreachable(`${target} is too early: ${range}`, 'choose an older backup')
  if (gap) return unreachable(`${target} is too late: ${range}; ${describeGap(gap)}`, anotherBackup)
  const why = wal.isHole
    ? holeAt(wal)
    : wal.isCut === true
      ? cutAt(wal)
      : 'without a target the server recovers all that is there; later WAL is not archived yet'
  return unreachable(`${target} is too late: ${range}`, why)
}

function holeAt({ missing }: ReachableWal): string {
  return `segment ${missing} is missing, and WAL follows behind it`
}

/** wal_segment_size by the segment that the backup is named for. */
async function segmentSizeOfBackup({ backup, reader, ...options }: ReachabilityCheck): Promise<number> {
  const segment = backup.name.replace(/^base_/, '').slice(0, 24)
  if (await reader.has(segment, options)) return segmentSizeOfFile(reader, segment, options)
  throw unreachable(`backup ${backup.name} begins in segment ${segment}, which the archive lacks`, 'choose another one')
}

function unreachable(message: string, hint: string): WalrxError {
  return new WalrxError('WALRX_TARGET_UNREACHABLE', message, { hint })
}
