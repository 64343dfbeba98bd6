/** What a recovery must do, from the operator's options, and which options exclude each other. */
import { WalrxError } from '../../primitives/errors.ts'
import { formatLsn, type Lsn, type Timeline } from '../../postgres/lsn.ts'
import { formatTimestamp, parseTimestamp, type TimestampTz } from '../../postgres/timestamp.ts'
import { sourceSettings } from './source-settings.ts'

/** The target at which a recovery ends (recovery_target*, guc_tables.c). */
export type RecoveryTarget =
  | { readonly kind: 'time'; readonly time: TimestampTz }
  | { readonly kind: 'lsn'; readonly lsn: Lsn }
  | { readonly kind: 'name'; readonly name: string }
  /** A transaction id, with or without its epoch: PostgreSQL uses the lower 32 bits. */
  | { readonly kind: 'xid'; readonly xid: bigint }
  | { readonly kind: 'immediate' }

/** The timeline that a recovery follows: the newest one in the archive, the backup's own, or this number. */
export type RecoveryTimeline = 'latest' | 'current' | Timeline

/** What the server does at the target. */
export type RecoveryAction = 'pause' | 'promote' | 'shutdown'

/** What to write into a restored data directory. */
export interface RecoveryRequest {
  /** False: neither recovery.signal nor recovery settings are written. */
  readonly recover: boolean
  /** Undefined recovers to the end of the archive. */
  readonly target: RecoveryTarget | undefined
  /** Whether the record exactly at the time, LSN or transaction id is recovered as well. */
  readonly inclusive: boolean
  readonly action: RecoveryAction
  readonly timeline: RecoveryTimeline
  /** The operator's own restore_command; undefined means that of walrx. */
  readonly restoreCommand: string | undefined
  readonly archiveMode: 'preserve' | 'off'
  /** Settings of the source's own life that stay as they are, and `standby.signal`; none by default. */
  readonly keep?: readonly string[]
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
  readonly keepSettings?: string | undefined
}

/** MAXFNAMELEN without the final zero byte (access/xlog_internal.h): the server refuses to start with a longer name. */
const restorePointBytesMax = 63

/** FirstNormalTransactionId (access/transam.h): lower ids are reserved. */
const firstNormalXid = 3n
const xidMask = 0xffffffffn
const xidMax = 0xffffffffffffffffn

/**
 * Reads the options of a recovery.
 * @throws WALRX_USAGE for an invalid time, name or transaction id, for two targets, and for an option that has no
 * effect without a target or with this one
 */
export function parseRecoveryRequest(options: RecoveryOptions): RecoveryRequest {
  const targets = givenTargets(options)
  const [first, second] = targets
  if (first && second)
    throw usage(`${first.flag} and ${second.flag} are both given`, 'a recovery has one target: give one of them')
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
    ...(options.keepSettings !== undefined && { keep: parseKept(options.keepSettings, recover) }),
  }
}

/** Names of settings, separated by commas, in lower case. */
function parseKept(text: string, recover: boolean): string[] {
  const names = text.split(/[,\s]+/).filter((name) => name !== '')
  return names.map((given) => {
    const name = given.toLowerCase()
    const setting = sourceSettings.find((each) => each.name === name)
    if (!setting && name !== 'standby.signal') {
      const known = [...sourceSettings.map((each) => each.name), 'standby.signal'].join(', ')
      throw usage(`--keep-settings: "${given}" is no setting that walrx turns off`, `give some of: ${known}`)
    }
    if (recover && (setting?.ofRecovery || !setting))
      throw usage(
        `--keep-settings ${name} is given with a recovery, which has its own`,
        `leave out ${name}, or leave out --recover and the options that imply it`,
      )
    return name
  })
}

/** A target for messages: `time 2026-03-01 11:00:00+00`. */
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
    throw usage(
      '--target-action is given without a target',
      'give a target such as --target-time; without one, the server promotes at the end of the archive',
    )
  }
  if (options.targetInclusive === undefined) return
  if (!target) {
    throw usage('--target-inclusive is given without a target', 'give --target-time, --target-lsn or --target-xid')
  }
  if (target.kind === 'name' || target.kind === 'immediate') {
    throw usage(
      `--target-inclusive has no effect with ${flag}`,
      'leave it out, or give --target-time, --target-lsn or --target-xid',
    )
  }
}

function parseName(name: string): RecoveryTarget {
  refuseUnwritable('--target-name', name)
  const bytes = Buffer.byteLength(name)
  if (bytes <= restorePointBytesMax) return { kind: 'name', name }
  throw usage(
    `the name of restore point "${name}" has ${bytes} bytes, more than PostgreSQL's limit of ${restorePointBytesMax}`,
    'give the name as it was passed to pg_create_restore_point()',
  )
}

function parseXid(text: string): RecoveryTarget {
  const xid = /^\d{1,20}$/.test(text) ? BigInt(text) : undefined
  if (xid === undefined || xid > xidMax || (xid & xidMask) < firstNormalXid) {
    throw usage(
      `"${text}" is not a transaction id`,
      'give a whole number from 3 on, as pg_current_xact_id() returns it',
    )
  }
  return { kind: 'xid', xid }
}

/** Numbers as PostgreSQL reads them, decimal or 0x. It would read a number with leading zeros as octal. */
function parseTimeline(text: string): RecoveryTimeline {
  const word = text.toLowerCase()
  if (word === 'latest' || word === 'current') return word
  const timeline = /^(0x[0-9a-f]+|[1-9]\d*)$/.test(word) ? Number(word) : 0
  if (timeline >= 1 && timeline <= 0xffffffff) return timeline
  throw usage(`"${text}" is not a timeline`, 'give latest, current or a number: 2, or 0x2 as in 00000002.history')
}

/** In postgresql.auto.conf a setting is one line, and ALTER SYSTEM would not write such a value back. */
function refuseUnwritable(flag: string, value: string): void {
  if (/[\n\r\0]/.test(value))
    throw usage(`${flag} contains a line break or a zero byte`, 'a setting is one line: remove it')
}

function usage(message: string, hint: string): WalrxError {
  return new WalrxError('WALRX_USAGE', message, { hint })
}
