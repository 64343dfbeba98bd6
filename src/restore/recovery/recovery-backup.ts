/** Chooses the backup that a recovery starts from, where the operator named none. */
import { hasCode, WalrxError } from '../../primitives/errors.ts'
import { formatLsn } from '../../postgres/lsn.ts'
import { formatTimestamp } from '../../postgres/timestamp.ts'
import type { StorageCallOptions } from '../../storage/storage.ts'
import { parseBackupName } from '../../walg/backup/backup-names.ts'
import { knownTimestamp } from '../../walg/backup/backup-time.ts'
import type { Sentinel } from '../../walg/backup/sentinel.ts'
import type { RecoveryBackup } from './recovery-check.ts'
import { describeTarget, type RecoveryRequest, type RecoveryTarget } from './recovery-request.ts'
import { type Histories, recoveryChain, whyNotOnChain } from './recovery-timelines.ts'

/**
 * What a recovery needs to know about a backup, from its name and its sentinel. Undefined where the sentinel lacks LSNs
 * or times (WAL-E's, and WAL-G's first ones): then nothing shows whether a target can be reached.
 */
export function recoveryBackup(name: string, sentinel: Sentinel): RecoveryBackup | undefined {
  const timeline = parseBackupName(name)?.timeline
  const { finishLsn, startLsn } = sentinel
  const startTime = knownTimestamp(sentinel.startTime)
  const finishTime = knownTimestamp(sentinel.finishTime)
  if (timeline === undefined || !startLsn || !finishLsn || startTime === undefined || finishTime === undefined) {
    return undefined
  }
  return { name, timeline, startLsn, finishLsn, startTime, finishTime }
}

/** What {@link chooseBackup} chooses from. */
export interface BackupChoice extends StorageCallOptions {
  /** Names of all backups; the one that LATEST means comes first. */
  readonly names: readonly string[]
  /** Reads a sentinel. Undefined for a backup that no recovery can start from: it was removed, or it lacks LSNs. */
  readonly load: (name: string) => Promise<RecoveryBackup | undefined>
  readonly histories: Histories
  readonly request: Pick<RecoveryRequest, 'target' | 'timeline'>
}

/**
 * The newest backup that finished before the target, in the history of the target timeline: the WAL between the two must
 * be replayed.
 * @throws WALRX_TARGET_UNREACHABLE when there is none, with the reason against the oldest backup
 */
export async function chooseBackup(choice: BackupChoice): Promise<RecoveryBackup> {
  const { load, request } = choice
  let why = 'the archive has no backup'
  for (const name of choice.names) {
    const backup = await load(name)
    if (!backup) continue
    // Backups come newest first: where none fits, the oldest one's reason is the one to report.
    const reason = whyTooLate(backup, request.target) ?? (await whyNotFrom(choice, backup))
    if (reason === undefined) return backup
    why = reason
  }
  const timeline = typeof request.timeline === 'number' ? ` on timeline ${request.timeline}` : ''
  throw new WalrxError(
    'WALRX_TARGET_UNREACHABLE',
    `no backup leads to ${describeTarget(request.target)}${timeline}: ${why}`,
    { hint: 'walrx backup-list shows the backups; --target-timeline chooses another timeline' },
  )
}

/** Why a recovery cannot follow the target timeline from this backup; undefined when it can. */
async function whyNotFrom(choice: BackupChoice, backup: RecoveryBackup): Promise<string | undefined> {
  try {
    const chain = await recoveryChain(choice.histories, choice.request.timeline, backup.timeline, choice)
    return whyNotOnChain(chain, backup)
  } catch (error) {
    if (hasCode(error, 'WALRX_TARGET_UNREACHABLE')) return error.message
    throw error
  }
}

function whyTooLate(backup: RecoveryBackup, target: RecoveryTarget | undefined): string | undefined {
  if (target?.kind === 'lsn' && backup.finishLsn > target.lsn) {
    return `backup ${backup.name} finished after it, at ${formatLsn(backup.finishLsn)}`
  }
  if (target?.kind === 'time' && backup.finishTime > target.time) {
    return `backup ${backup.name} finished after it, at ${formatTimestamp(backup.finishTime)}`
  }
  return undefined
}
