/**
 * The lock of a data directory: `postmaster.pid`, as the server takes it (CreateLockFile in miscinit.c). While it names a
 * process that runs, no server starts there. It protects against a second restore, too.
 */
import fs from 'node:fs/promises'
import { existsSync, readFileSync, readlinkSync } from 'node:fs'
import { join } from 'node:path'
import { WalrxError } from '../../../primitives/errors.ts'
import { parseServerState } from '../../../postgres/control-file.ts'
import { shellWord } from '../../../primitives/shell-word.ts'
import { controlFilePath } from '../../../postgres/system-identifier.ts'
import { runningProcess } from '../../wal/recovery-process.ts'

/** Name of the lock file. */
export const lockFile = 'postmaster.pid'

/** The third line of a lock of walrx. A server has the time of its start there, a number. */
const ownLine = 'walrx backup-fetch'

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
  const content = `${process.pid}\n${directory}\n${ownLine}\n`
  for (;;) {
    const stale = await refuseRunning(directory)
    if (stale !== undefined) await fs.unlink(path).catch(ignoreMissing)
    if (await writeLock(directory, content)) break
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

/** @returns false where there is one by now */
async function writeLock(directory: string, content: string): Promise<boolean> {
  const path = join(directory, lockFile)
  let file: fs.FileHandle
  try {
    file = await fs.open(path, 'wx', 0o600)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return false
    throw cannotLock(path, error)
  }
  try {
    await file.writeFile(content)
    await giveToOwnerOf(directory, path)
    await file.close()
    return true
  } catch (error) {
    // An empty one, such as a full disk leaves, would stop every server and every restore.
    await fs.unlink(path).catch(() => {})
    await file.close().catch(() => {})
    throw cannotLock(path, error)
  }
}

/** Gives a file that root has made the owner of the data directory, whose server could not read or remove it else. */
export async function giveToOwnerOf(directory: string, path: string): Promise<void> {
  if (process.geteuid?.() !== 0) return
  const [{ gid, uid }, made] = await Promise.all([fs.stat(directory), fs.lstat(path)])
  if (made.uid !== uid || made.gid !== gid) await fs.lchown(path, uid, gid)
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
    if (isAlive(pid) && (!own.includes(pid) || isServer(pid))) throw inUse(directory, pid, text)
  }
  const pid = await serverProcess(directory)
  if (pid !== undefined) {
    throw new WalrxError('WALRX_RESTORE_FAILED', `a server runs: ${directory} is in use by process ${pid}`, {
      hint: `stop it: kill -INT ${pid}`,
    })
  }
  if (text !== undefined && !isOwn(text)) await refuseUnstopped(directory, Number.parseInt(text, 10))
  return text
}

/** What is said of a lock file whose process runs. */
function inUse(directory: string, pid: number, lock: string): WalrxError {
  const what = `${directory} is in use: ${lockFile} names process ${pid}`
  const refused = (message: string, hint: string) => new WalrxError('WALRX_RESTORE_FAILED', message, { hint })
  if (isServer(pid)) return refused(`a server runs: ${what}`, stopIt(directory))
  if (isOwn(lock) && isRestore(pid)) {
    return refused(`another walrx restore runs: ${what}`, `wait until it has ended, or stop it: kill ${pid}`)
  }
  const remove = `rm ${shellWord(join(directory, lockFile))}`
  return refused(
    `${what} (${runningProcess(pid)?.program ?? 'unknown'})`,
    `if it does not work there, remove the file that a crash has left: ${remove}`,
  )
}

/**
 * Refuses a data directory with the lock file of a server that has not stopped as it should. The process may be one of
 * another container, or of another machine with the same disk, where its id means something else or nothing here.
 */
async function refuseUnstopped(directory: string, pid: number): Promise<void> {
  const path = join(directory, controlFilePath)
  const control = await fs.readFile(path).catch((error: NodeJS.ErrnoException) => {
    // No server runs without it.
    if (error.code === 'ENOENT') return undefined
    throw new WalrxError('WALRX_RESTORE_FAILED', `${path} cannot be read: ${error.message}`, { cause: error })
  })
  if (!control) return
  const state = parseServerState(control)
  if (state === 'shut down' || state === 'shut down in recovery') return
  const says = state === undefined ? 'pg_control has no state that walrx knows' : `pg_control says "${state}"`
  throw new WalrxError(
    'WALRX_RESTORE_FAILED',
    `${directory} may be in use: ${lockFile} names process ${pid}, which is no server here, but ${says}, not "shut down": ` +
      'the server has crashed, or runs in another container',
    {
      hint: `make sure that no server runs on ${directory}, then remove the file: rm ${shellWord(join(directory, lockFile))}`,
    },
  )
}

/** True for the content of a lock of walrx. */
function isOwn(lock: string): boolean {
  return lock.endsWith(`\n${ownLine}\n`)
}

/** False where the process is another program, which has got the id of a restore that was killed. */
function isRestore(pid: number): boolean {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'latin1').includes('backup-fetch')
  } catch {
    // Of another user, or there is no /proc.
    return true
  }
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
