/**
 * Processes that are told apart from later ones of the same id: the startup process that a recovery runs in, its
 * postmaster, and the prefetcher. By /proc, so on Linux only; elsewhere nothing is known, and there is no prefetching.
 */
import { readFileSync } from 'node:fs'

/** A process that ran when this was made. */
export interface ProcessIdentity {
  readonly pid: number
  /** When it started, in clock ticks since boot (field 22 of /proc/PID/stat): no two processes share pid and this. */
  readonly startTime: number
}

/** A process that is there now. */
export interface RunningProcess extends ProcessIdentity {
  readonly parentPid: number
}

/** What runs under this id; undefined when nothing does, when it is a zombie, or when there is no /proc. */
export function runningProcess(pid: number): RunningProcess | undefined {
  const text = readStat(pid)
  if (text === undefined) return undefined
  // The second field is the name in parentheses, which may itself hold spaces and parentheses (proc_pid_stat(5)).
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ')
  const [state, parentPid] = fields
  const startTime = Number(fields[19])
  if (state === undefined || /^[ZXx]$/.test(state) || !Number.isSafeInteger(startTime)) return undefined
  return { pid, startTime, parentPid: Number(parentPid) }
}

/** True while that very process runs. */
export function isRunning(identity: ProcessIdentity): boolean {
  return runningProcess(identity.pid)?.startTime === identity.startTime
}

function readStat(pid: number): string | undefined {
  try {
    return readFileSync(`/proc/${pid}/stat`, 'latin1')
  } catch {
    return undefined
  }
}

/** The recovery that a restore_command serves: it lives as long as both processes do. */
export interface Recovery {
  /** The startup process. */
  readonly startup: ProcessIdentity
  /** The startup process's parent. */
  readonly postmaster: ProcessIdentity
}

/** The recovery of this startup process; undefined when there is no such process any more. */
export function findRecovery(startupPid: number): Recovery | undefined {
  const startup = runningProcess(startupPid)
  const postmaster = startup && runningProcess(startup.parentPid)
  if (!postmaster) return undefined
  const { pid, startTime } = startup
  return { startup: { pid, startTime }, postmaster: { pid: postmaster.pid, startTime: postmaster.startTime } }
}

/** True while the recovery goes on. */
export function isRecovering({ startup, postmaster }: Recovery): boolean {
  return isRunning(startup) && isRunning(postmaster)
}
