/**
 * The lock of a data directory: `postmaster.pid`, as the server takes it (CreateLockFile in miscinit.c). While it names a
 * process that runs, no server starts there. It protects against a second restore, too.
 */
import fs from 'node:fs/promises'
import { existsSync, readlinkSync } from 'node:fs'
import { join } from 'node:path'
import { WalrxError } from '../../../primitives/errors.ts'
import { shellWord } from '../../../primitives/shell-word.ts'
import { runningProcess } from '../../wal/recovery-process.ts'

/** Name of the lock file. */
export const lockFile = 'postmaster.pid'

/** A lock that is held. */
export interface DirectoryLock {
  /** Throws WALRX_RESTORE_FAILED when somebody else has taken the directory meanwhile. */
  verify(): Promise<void>
  release(): Promise<void>
}

/**
 * Takes the lock; one whose process is gone is replaced.
 * @throws WALRX_RESTORE_FAILED where a server, or another restore, is at work there, with its process id
 */
export async function lockDirectory(directory: string): Promise<DirectoryLock> {
  const path = join(directory, lockFile)
  const content = `${process.pid}\n${directory}\n`
  for (;;) {
    const stale = await refuseRunning(directory)
    if (stale !== undefined) await fs.unlink(path).catch(ignoreMissing)
    try {
      await fs.writeFile(path, content, { flag: 'wx', mode: 0o600 })
      break
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw cannotLock(path, error)
    }
  }
  const isOurs = async () => (await readLock(path)) === content
  return {
    verify: async () => {
      if (!(await isOurs()))
        throw new WalrxError('WALRX_RESTORE_FAILED', `${path} is no longer of this restore`, {
          hint: stopIt(directory),
        })
    },
    release: async () => {
      if (await isOurs()) await fs.unlink(path).catch(ignoreMissing)
    },
  }
}

/**
 * Refuses a data directory in which a server runs, by its lock file, or without one by its processes: a backend may outlive
 * its postmaster.
 * @returns the content of a lock file whose process is gone
 * @throws WALRX_RESTORE_FAILED with the process id
 */
export async function refuseRunning(directory: string): Promise<string | undefined> {
  const path = join(directory, lockFile)
  const text = await readLock(path)
  if (text !== undefined) {
    const pid = Math.abs(Number.parseInt(text, 10))
    if (!Number.isSafeInteger(pid) || pid === 0) {
      throw new WalrxError('WALRX_RESTORE_FAILED', `${path} names no process: a server may be starting`, {
        hint: `if no server runs in ${directory}, remove the file: rm ${shellWord(path)}`,
      })
    }
    if (isAlive(pid) && (!own.includes(pid) || isServer(pid))) {
      const what = `${directory} is in use: ${lockFile} names process ${pid}`
      const program = runningProcess(pid)?.program
      throw new WalrxError(
        'WALRX_RESTORE_FAILED',
        isServer(pid) ? `a server runs: ${what}` : `${what} (${program ?? 'unknown'})`,
        {
          hint: isServer(pid)
            ? stopIt(directory)
            : `if it does not work there, remove the file that a crash has left: rm ${shellWord(path)}`,
        },
      )
    }
  }
  const pid = await serverProcess(directory)
  if (pid !== undefined) {
    throw new WalrxError('WALRX_RESTORE_FAILED', `a server runs: ${directory} is in use by process ${pid}`, {
      hint: `stop it: kill -INT ${pid}`,
    })
  }
  return text
}

function stopIt(directory: string): string {
  return `stop the server: pg_ctl -D ${shellWord(directory)} -m fast stop`
}

/**
 * Who was started in the same way after a crash, in a container mostly, may have the same process ids: like the server, this
 * takes the lock of its own id and of its parent's for one that a crash has left, unless that is a server.
 */
const own: readonly number[] = [process.pid, process.ppid]

function isServer(pid: number): boolean {
  return /^post(gres|master)/.test(runningProcess(pid)?.program ?? '')
}

/** Undefined where there is none. */
async function readLock(path: string): Promise<string | undefined> {
  try {
    return await fs.readFile(path, 'latin1')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw cannotLock(path, error)
  }
}

/** As the server asks: one that may not be signalled is there. Of a zombie only /proc knows that it is none. */
function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EPERM') return false
  }
  return !existsSync('/proc/self/stat') || runningProcess(pid) !== undefined
}

/** A process of PostgreSQL with the directory as its working directory, which is what all of a server have; Linux only. */
async function serverProcess(directory: string): Promise<number | undefined> {
  const names = await fs.readdir('/proc').catch(() => [])
  const real = await fs.realpath(directory)
  for (const name of names) {
    if (!/^\d+$/.test(name)) continue
    try {
      if (readlinkSync(`/proc/${name}/cwd`) !== real) continue
    } catch {
      // It has ended, or belongs to somebody else.
      continue
    }
    if (isServer(Number(name))) return Number(name)
  }
  return undefined
}

function ignoreMissing(error: unknown): void {
  if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error
}

function cannotLock(path: string, error: unknown): WalrxError {
  const { message } = error as Error
  return new WalrxError('WALRX_RESTORE_FAILED', `${path} cannot be used: ${message}`, { cause: error })
}
