/**
 * The folder of prefetched segments for one recovery. The restore_command takes them with a plain `mv`. So under a
 * segment's name there is only a complete, checked and durable segment, and never one of an earlier recovery.
 *
 *   pg_wal/.walrx/<startup process id>/          segments that are ready, by name
 *   pg_wal/.walrx/<startup process id>/owner     the recovery and the prefetcher (JSON, {@link Owner})
 *   pg_wal/.walrx/<startup process id>/running/  segments that are being downloaded
 *
 * There are regular files only: pg_rewind removes what it does not find in its source, and fails at anything else.
 *
 * A rename puts the complete folder in place: the first process to rename gets it, and starts the prefetcher. A rename
 * also removes it, so that `mv` never finds half of it. The system reuses process ids (in containers at every start),
 * so `owner` holds start times, too. A copy of a data directory may come with a copy of this folder, so `owner` also
 * holds which folder it was written for.
 */
import { mkdir, readdir, readFile, rename, rm, rmdir, stat, writeFile } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { isSegmentName } from '../../postgres/wal/wal-file.ts'
import {
  isRecovering,
  isRunning,
  type ProcessIdentity,
  type Recovery,
  runningProcess,
} from '../wal/recovery-process.ts'
import { type ChannelAddress, newAddress } from './channel-address.ts'

/** The content of `owner`. */
export interface Owner {
  /** The recovery that the segments are for. */
  readonly recovery: Recovery
  /** The process that fills the folder, or that is about to start the prefetcher. */
  readonly prefetcher: ProcessIdentity
  /** Where the prefetcher listens. */
  readonly channel: ChannelAddress
  /** Device and inode number of the folder: a copy has others. */
  readonly folder: string
}

const doomedPrefix = '.old-'
const claimPrefix = '.new-'

/** One ready folder, which may not exist. */
export class ReadyFolder {
  readonly path: string
  readonly #root: string
  readonly #name: string

  /** @param path ends in the id of the startup process */
  constructor(path: string) {
    this.path = path
    this.#root = dirname(path)
    this.#name = basename(path)
  }

  /** The folder for a recovery that wants its WAL at `dest`, as in the printed restore_command. */
  static beside(dest: string, startupPid: number): ReadyFolder {
    return new ReadyFolder(join(dirname(dest), '.walrx', String(startupPid)))
  }

  /** Path of a segment that is ready. */
  ready(name: string): string {
    return join(this.path, name)
  }

  /** Path of a segment that is being downloaded. */
  running(name: string): string {
    return join(this.path, 'running', name)
  }

  /** The server's data directory, whose pg_wal may be a symbolic link. */
  get dataDir(): string {
    return join(this.path, '..', '..', '..')
  }

  /** Names of the segments that are ready. */
  async readyNames(): Promise<string[]> {
    return (await readdir(this.path)).filter(isSegmentName)
  }

  /** The folder's owner; undefined when the folder or its owner file is missing, damaged or that of another folder. */
  owner(): Promise<Owner | undefined> {
    return readOwner(this.path)
  }

  /** True when it serves this recovery and its prefetcher lives. */
  async isServed(recovery: Recovery): Promise<boolean> {
    return (await this.serving(recovery)) !== undefined
  }

  /** The owner when it serves this recovery and its prefetcher lives. */
  async serving(recovery: Recovery): Promise<Owner | undefined> {
    const owner = await this.owner()
    return owner && isSame(owner.recovery, recovery) && isRunning(owner.prefetcher) ? owner : undefined
  }

  /**
   * Creates the empty folder, unless it exists.
   * @returns its owner; undefined when it exists: another process has it
   */
  async claim(processes: Pick<Owner, 'recovery' | 'prefetcher'>): Promise<Owner | undefined> {
    const claim = join(this.#root, `${claimPrefix}${uniqueName()}`)
    await mkdir(join(claim, 'running'), { recursive: true, mode: 0o700 })
    try {
      const owner = { ...processes, channel: newAddress(), folder: await folderIdentity(claim) }
      await writeOwner(claim, owner)
      await rename(claim, this.path)
      return owner
    } catch (error) {
      await rm(claim, { recursive: true, force: true })
      const { code } = error as NodeJS.ErrnoException
      if (code === 'ENOTEMPTY' || code === 'EEXIST') return undefined
      throw error
    }
  }

  /** Hands a claimed folder to another process. */
  async setPrefetcher(owner: Owner, { pid, startTime }: ProcessIdentity): Promise<void> {
    await writeOwner(this.path, { ...owner, prefetcher: { pid, startTime } })
  }

  /** Removes the folder with everything in it, and the parent folder if it is empty then. */
  async remove(): Promise<void> {
    await removeWhole(this.#root, this.#name)
    await rmdir(this.#root).catch(() => {})
  }

  /** Removes the folders of ended recoveries and ended prefetchers, and this folder if it is one of them. */
  async sweep(): Promise<void> {
    const names = await readdir(this.#root).catch(() => [])
    for (const name of names) {
      if (!isBeingMade(name) && !(await isInUse(join(this.#root, name)))) await removeWhole(this.#root, name)
    }
    await rmdir(this.#root).catch(() => {})
  }
}

let uniqueCount = 0

/** A name that starts with our process id and that no earlier process with this id has used. */
function uniqueName(): string {
  return `${process.pid}-${Date.now()}-${uniqueCount++}`
}

function isSame(a: Recovery, b: Recovery): boolean {
  return a.startup.pid === b.startup.pid && a.startup.startTime === b.startup.startTime
}

/** True for a folder that a running process is about to put in place. */
function isBeingMade(name: string): boolean {
  const pid = name.startsWith(claimPrefix) ? parseInt(name.slice(claimPrefix.length), 10) : NaN
  return Number.isInteger(pid) && runningProcess(pid) !== undefined
}

async function isInUse(path: string): Promise<boolean> {
  const owner = await readOwner(path)
  return owner !== undefined && isRecovering(owner.recovery) && isRunning(owner.prefetcher)
}

/** Renames a folder away, then removes it with its content. */
async function removeWhole(root: string, name: string): Promise<void> {
  const doomed = join(root, `${doomedPrefix}${uniqueName()}`)
  try {
    await rename(join(root, name), doomed)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return
    throw error
  }
  await rm(doomed, { recursive: true, force: true, maxRetries: 3 })
}

async function readOwner(path: string): Promise<Owner | undefined> {
  try {
    const owner = JSON.parse(await readFile(join(path, 'owner'), 'utf8')) as Partial<Owner>
    const { channel, folder, prefetcher, recovery } = owner
    const identities = [prefetcher, recovery?.startup, recovery?.postmaster]
    if (!identities.every(isIdentity) || typeof channel?.name !== 'string' || typeof channel.secret !== 'string') {
      return undefined
    }
    return folder === (await folderIdentity(path)) ? (owner as Owner) : undefined
  } catch {
    // Missing, or incomplete after a crash of the machine.
    return undefined
  }
}

async function folderIdentity(path: string): Promise<string> {
  const { dev, ino } = await stat(path, { bigint: true })
  return `${dev}:${ino}`
}

function isIdentity(value: ProcessIdentity | undefined): boolean {
  return Number.isInteger(value?.pid) && Number.isInteger(value?.startTime)
}

async function writeOwner(path: string, owner: Owner): Promise<void> {
  const temporary = join(path, `owner.${process.pid}`)
  await writeFile(temporary, JSON.stringify(owner), { mode: 0o600 })
  await rename(temporary, join(path, 'owner'))
}
