/**
 * Identifies the processes of a recovery, also when a later process gets the same id: the startup process, its
 * postmaster, and the prefetcher. This reads /proc, which only Linux has; elsewhere there is no prefetching.
 */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'

/** A process that was running when this was created. */
export interface ProcessIdentity {
  readonly pid: number
  /** When it started, in clock ticks since boot (field 22 of /proc/PID/stat): no two processes share pid and this. */
  readonly startTime: number
}

/** A process that is running now. */
export interface RunningProcess extends ProcessIdentity {
  readonly parentPid: number
  /** Name of its program, at most 15 bytes of it. */
  readonly program: string
}

/** The process with this id; undefined when there is none, when it is a zombie, or when there is no /proc. */
export function runningProcess(pid: number): RunningProcess | undefined {
  const text = readStat(pid)
  if (text === undefined) return undefined
  // The second field is the name in parentheses, which may itself hold spaces and parentheses (proc_pid_stat(5)).
  const nameEnd = text.lastIndexOf(')')
  const fields = text.slice(nameEnd + 2).split(' ')
  const [state, parentPid] = fields
  const startTime = Number(fields[19])
  if (state === undefined || /^[ZXx]$/.test(state) || !Number.isSafeInteger(startTime)) return undefined
  return { pid, startTime, parentPid: Number(parentPid), program: text.slice(text.indexOf('(') + 1, nameEnd) }
}

/** True while this process runs, not a later one with the same id. */
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

/**
 * True when these are the startup process and the postmaster of the server in this data directory, and false when
 * another program runs the restore_command. pg_rewind does: it reads and removes files of the data directory, and a
 * prefetcher would put others there meanwhile. The postmaster writes its process id into the first line of
 * postmaster.pid, where a crash may leave it, and it forks the startup process from its own program.
 */
export function isOfServer({ startup, postmaster }: Recovery, dataDir: string): boolean {
  try {
    const [pid] = readFileSync(join(dataDir, 'postmaster.pid'), 'latin1').split('\n')
    const program = runningProcess(postmaster.pid)?.program
    return pid === String(postmaster.pid) && program !== undefined && runningProcess(startup.pid)?.program === program
  } catch {
    return false
  }
}

/** The recovery of this startup process; undefined when the process has ended. */
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
