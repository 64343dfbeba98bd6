/** What becomes of a run: which of several due ones counts, what is tried again, and when. Functions of their arguments. */
import type { OptionKey } from '../../config/options/options.ts'
import { optionTable } from '../../config/options/options.ts'
import type { ErrorCode } from '../../primitives/errors.ts'
import type { CommandCall } from '../configuration/cluster-plan.ts'
import type { JobName } from '../configuration/shape.ts'
import type { EndedRun, JobRecord, PendingRun, RunMode, RunningRun } from './job-record.ts'

/** Exit statuses after which the same may succeed later: server or store out, a standby too early, this machine. */
const passing: ReadonlySet<number> = new Set([3, 4, 7, 8, 9])

/** Errors with another status that may pass as well: a service of keys, or a key file of a volume that comes late. */
const passingCodes: ReadonlySet<string> = new Set<ErrorCode>(['WALRX_KEY_UNAVAILABLE'])

/**
 * True where a run that ended with this status is worth another attempt. A signal that others sent counts, too.
 * @param code of the error that ended it, where that is known
 */
export function mayPass(status: number | undefined, code?: string): boolean {
  if (code !== undefined && passingCodes.has(code)) return true
  return status === undefined || status > 128 || passing.has(status)
}

/** What a job does to the archive, beside the slot and the marks of its own that it takes away again. */
export type JobEffect = 'deletes' | 'writes' | 'reads'

/** By the names of jobs. */
export const jobEffects: Readonly<Record<JobName, JobEffect>> = {
  backup: 'writes',
  retention: 'deletes',
  // It records its result.
  verify: 'writes',
  'wal-verify': 'reads',
  scrub: 'reads',
}

/** First and longest wait between attempts, in milliseconds. */
const retryMs = { first: 60_000, max: 3600_000 } as const

/** The next attempt of a run that has failed: after a minute at first, after an hour at last. */
export function afterFailure(run: PendingRun, nowMs: number, random: () => number): PendingRun {
  const ceiling = Math.min(retryMs.max, retryMs.first * 2 ** Math.min(run.attempts, 20))
  return { ...run, attempts: run.attempts + 1, notBeforeMs: nowMs + ceiling / 2 + (ceiling / 2) * random() }
}

/** How much a run does: a full backup makes up for any other that is due. */
const weight: Readonly<Record<RunMode, number>> = { full: 3, schedule: 2, delta: 1, asked: 0 }

/** A pending run with another one that is due: it is the heavier of the two, and begins at once. */
export function withDue(
  pending: PendingRun | undefined,
  due: { readonly name: RunMode; readonly dueMs: number },
  nowMs: number,
): PendingRun {
  const mode = pending && weight[pending.mode] > weight[due.name] ? pending.mode : due.name
  return { mode, dueMs: pending ? Math.min(pending.dueMs, due.dueMs) : due.dueMs, attempts: 0, notBeforeMs: nowMs }
}

/** The call of a run: a backup is a full one, or may be a delta, by its trigger. */
export function callFor(call: CommandCall, mode: RunMode): CommandCall {
  if (mode === 'full') return { ...call, flags: new Map<OptionKey, string>([...call.flags, ['full', 'true']]) }
  const { env, type } = optionTable.deltaMaxSteps
  if (mode !== 'delta' || call.environment[env[0]] !== undefined) return call
  // The schedule of full backups ends the chain.
  return { ...call, environment: { ...call.environment, [env[0]]: String(type.max) } }
}

/** The same run once more, as soon as it may. */
export function again(
  { attempts, dueMs, mode }: { readonly attempts: number; readonly dueMs: number; readonly mode: RunMode },
  nowMs: number,
): PendingRun {
  return { mode, dueMs, attempts, notBeforeMs: nowMs }
}

/** What becomes of a run that was under way when its walrx ended: it runs again, unless another is due. */
export function interrupted(record: JobRecord, running: RunningRun, nowMs: number): JobRecord {
  const { mode, startedMs } = running
  const error = 'walrx ended while it ran'
  const last: EndedRun = { mode, startedMs, endedMs: nowMs, outcome: 'stopped', status: undefined, error }
  return { ...record, running: undefined, last, pending: record.pending ?? again(running, nowMs) }
}
