/** What a recovery is to do, as the operator said it by options, and which of them go together. */
import { WalrxError } from '../../primitives/errors.ts'
import { formatLsn, type Lsn, type Timeline } from '../../postgres/lsn.ts'
import { formatTimestamp, parseTimestamp, type TimestampTz } from './recovery-time.ts'

/** Where a recovery ends (recovery_target*, guc_tables.c). */
export type RecoveryTarget =
  | { readonly kind: 'time'; readonly time: TimestampTz }
  | { readonly kind: 'lsn'; readonly lsn: Lsn }
  | { readonly kind: 'name'; readonly name: string }
  /** A transaction id, with or without its epoch: PostgreSQL looks at the lower 32 bits. */
  | { readonly kind: 'xid'; readonly xid: bigint }
  | { readonly kind: 'immediate' }

/** Which timeline a recovery follows: the newest that can be found from the backup's on, the backup's own, or that one. */
export type RecoveryTimeline = 'latest' | 'current' | Timeline

/** What the server does at the target. */
export type RecoveryAction = 'pause' | 'promote' | 'shutdown'

/** What is to be written into a restored data directory. */
export interface RecoveryRequest {
  /** False: neither recovery.signal nor recovery settings are written. */
  readonly recover: boolean
  /** Undefined recovers to the end of the archive. */
  readonly target: RecoveryTarget | undefined
  /** Whether what lies exactly at a time, position or transaction is recovered as well. */
  readonly inclusive: boolean
  readonly action: RecoveryAction
  readonly timeline: RecoveryTimeline
  /** The operator's own restore_command; undefined means that of walrx. */
  readonly restoreCommand: string | undefined
  readonly archiveMode: 'preserve' | 'off'
}

/** The values of the options in `config/options-recovery.ts`. */
export interface RecoveryOptions {
  readonly recover: boolean
  readonly targetTime: string | undefined
  readonly targetLsn: Lsn | undefined
  readonly targetName: string | undefined
  readonly targetXid: string | undefined
  readonly targetImmediate: boolean
  readonly targetInclusive: boolean | undefined
  readonly targetAction: RecoveryAction | undefined
  readonly targetTimeline: string | undefined
  readonly restoreCommand: string | undefined
  readonly archiveMode: 'preserve' | 'off'
}

/** MAXFNAMELEN less the closing zero (access/xlog_internal.h): the server refuses to start with a longer one. */
const restorePointBytesMax = 63

/** FirstNormalTransactionId (access/transam.h): those below belong to the server itself. */
const firstNormalXid = 3n
const xidMask = 0xffffffffn
const xidMax = 0xffffffffffffffffn

/**
 * Reads the options of a recovery.
 * @throws WALRX_USAGE for what is no time, name or transaction, for two targets, and for what has no effect without a
 * target or with this one
 */
export function parseRecoveryRequest(options: RecoveryOptions): RecoveryRequest {
  const targets = givenTargets(options)
  const [first, second] = targets
  if (first && second) throw usage(`${first.flag} and ${second.flag} are both given`, 'a recovery has one target')
  const target = first?.parse()
  refuseWithoutEffect(options, target, first?.flag)
  const { restoreCommand, targetTimeline } = options
  if (restoreCommand !== undefined) refuseUnwritable('--restore-command', restoreCommand)
  const recover =
    options.recover || target !== undefined || targetTimeline !== undefined || restoreCommand !== undefined
  return {
    recover,
    target,
    inclusive: options.targetInclusive ?? true,
    action: options.targetAction ?? 'pause',
    timeline: parseTimeline(targetTimeline ?? 'latest'),
    restoreCommand,
    archiveMode: options.archiveMode,
  }
}

/** A target for people: `time 2026-03-01 11:00:00+00`. */
export function describeTarget(target: RecoveryTarget | undefined): string {
  switch (target?.kind) {
    case 'time':
      return `time ${formatTimestamp(target.time)}`
    case 'lsn':
      return `LSN ${formatLsn(target.lsn)}`
    case 'name':
      return `restore point "${target.name}"`
    case 'xid':
      return `transaction ${target.xid}`
    case 'immediate':
      return 'the end of the backup'
    case undefined:
      return 'the end of the archive'
    default:
      return target satisfies never
  }
}

interface GivenTarget {
  readonly flag: string
  readonly parse: () => RecoveryTarget
}

function givenTargets(options: RecoveryOptions): GivenTarget[] {
  const { targetImmediate, targetLsn, targetName, targetTime, targetXid } = options
  const targets: GivenTarget[] = []
  const add = <V>(value: V | undefined, flag: string, parse: (value: V) => RecoveryTarget) => {
    if (value !== undefined) targets.push({ flag, parse: () => parse(value) })
  }
  add(targetTime, '--target-time', (text) => ({ kind: 'time', time: parseTimestamp(text) }))
  add(targetLsn, '--target-lsn', (lsn) => ({ kind: 'lsn', lsn }))
  add(targetName, '--target-name', parseName)
  add(targetXid, '--target-xid', parseXid)
  add(targetImmediate || undefined, '--target-immediate', () => ({ kind: 'immediate' }))
  return targets
}

function refuseWithoutEffect(options: RecoveryOptions, target: RecoveryTarget | undefined, flag = ''): void {
  if (options.targetAction !== undefined && !target) {
    throw usage('--target-action is given without a target', 'without one, the server goes on by itself at the end')
  }
  if (options.targetInclusive === undefined) return
  if (!target) throw usage('--target-inclusive is given without a target', 'it says what happens exactly at one')
  if (target.kind === 'name' || target.kind === 'immediate') {
    throw usage(`--target-inclusive has no meaning with ${flag}`, 'it belongs to a time, a position or a transaction')
  }
}

function parseName(name: string): RecoveryTarget {
  refuseUnwritable('--target-name', name)
  const bytes = Buffer.byteLength(name)
  if (bytes <= restorePointBytesMax) return { kind: 'name', name }
  throw usage(
    `restore point "${name}" has ${bytes} bytes`,
    `names of restore points have ${restorePointBytesMax} at most`,
  )
}

function parseXid(text: string): RecoveryTarget {
  const xid = /^\d{1,20}$/.test(text) ? BigInt(text) : undefined
  if (xid === undefined || xid > xidMax || (xid & xidMask) < firstNormalXid) {
    throw usage(`"${text}" is no transaction id`, 'pg_current_xact_id() gives it, a whole number from 3 on')
  }
  return { kind: 'xid', xid }
}

/** Numbers as PostgreSQL reads them, decimal or 0x; with leading zeros it would take them for octal ones. */
function parseTimeline(text: string): RecoveryTimeline {
  const word = text.toLowerCase()
  if (word === 'latest' || word === 'current') return word
  const timeline = /^(0x[0-9a-f]+|[1-9]\d*)$/.test(word) ? Number(word) : 0
  if (timeline >= 1 && timeline <= 0xffffffff) return timeline
  throw usage(`"${text}" is no timeline`, 'it is latest, current or a number: 2, or 0x2 as in 00000002.history')
}

/** postgresql.auto.conf has a line a setting, and ALTER SYSTEM would not write such a value back. */
function refuseUnwritable(flag: string, value: string): void {
  if (/[\n\r\0]/.test(value)) throw usage(`${flag} has a line break or a zero byte in it`, 'a setting has one line')
}

function usage(message: string, hint: string): WalrxError {
  return new WalrxError('WALRX_USAGE', message, { hint })
}
