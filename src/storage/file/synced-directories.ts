/**
 * The directories of a file storage: made when first needed, synced so that the names in them survive a power failure,
 * and removed when they hold nothing any more.
 */
import { dirname } from 'node:path'
import { type FileSystem, errnoOf, isAbsence } from './file-system.ts'

/** Entries after which the memory of known directories starts anew: it saves system calls, nothing depends on it. */
const KNOWN_COUNT_MAX = 1000

/**
 * What fsync of a directory answers on file systems that have no such thing (CIFS, some FUSE ones). PostgreSQL passes
 * over the same (fsync_fname_ext in src/common/file_utils.c).
 */
const NO_DIRECTORY_FSYNC = new Set(['EINVAL', 'EBADF', 'ENOTSUP', 'EOPNOTSUPP'])

/** Tells a directory from one that was made in its place: inodes are used again, hence the time. */
export type DirectoryIdentity = string

/** What rmdir answers for a directory that is to stay: it holds something, is a link or a mount point. */
const STAYS = new Set(['ENOTEMPTY', 'EEXIST', 'ENOTDIR', 'EBUSY', 'EPERM', 'EACCES', 'EINVAL'])

interface Sync {
  readonly running: Promise<void>
  /** Starts when `running` ends, and covers everything that was renamed up to then. */
  next: Promise<void> | undefined
}

/** Makes and syncs the directories under one root, which itself must exist. */
export class SyncedDirectories {
  readonly #fs: FileSystem
  readonly #root: string
  readonly #fsync: boolean
  readonly #known = new Map<string, Promise<DirectoryIdentity>>()
  readonly #syncs = new Map<string, Sync>()

  /** `fsync` false: {@link sync} does nothing. */
  constructor(fs: FileSystem, root: string, fsync: boolean) {
    this.#fs = fs
    this.#root = root
    this.#fsync = fsync
  }

  /**
   * Makes `directory` and those above it up to the root, with mode 0755 (WAL-G's), and syncs the parent of each: also
   * of one that was there, because the process that made it may have been killed before it could. Done once for each.
   * @returns which directory that was
   * @throws the error of mkdir; ENOENT when the root is missing
   */
  ensure(directory: string): Promise<DirectoryIdentity> {
    if (directory === this.#root) return Promise.resolve('')
    const known = this.#known.get(directory)
    if (known !== undefined) return known
    if (this.#known.size >= KNOWN_COUNT_MAX) this.#known.clear()
    const made = this.#make(directory)
    this.#known.set(directory, made)
    made.catch(() => this.#known.delete(directory))
    return made
  }

  /**
   * True when `directory` is still the one that {@link ensure} has made durable. One that was removed and made anew by
   * others meanwhile may be on its way to the disk only.
   */
  async isStill(directory: string, identity: DirectoryIdentity): Promise<boolean> {
    return directory === this.#root || (await this.#identify(directory)) === identity
  }

  /**
   * Removes `directory` if it holds nothing.
   * @returns false when it stays
   * @throws the error of rmdir for any other reason
   */
  async removeEmpty(directory: string): Promise<boolean> {
    try {
      await this.#fs.rmdir(directory)
    } catch (error) {
      if (STAYS.has(errnoOf(error) ?? '')) return false
      if (!isAbsence(error)) throw error
    }
    this.forget(directory)
    return true
  }

  /** Forgets that `directory` and those above it exist: call it when something was not found in there. */
  forget(directory: string): void {
    for (let at = directory; at.length > this.#root.length; at = dirname(at)) this.#known.delete(at)
  }

  /**
   * Makes the names in `directory` durable. Calls at the same time share one fsync: the first that begins after all the
   * renames that it is to cover.
   * @throws the error of open or fsync
   */
  sync(directory: string): Promise<void> {
    if (!this.#fsync) return Promise.resolve()
    const sync = this.#syncs.get(directory)
    if (sync === undefined) return this.#start(directory)
    sync.next ??= sync.running.then(
      () => this.#start(directory),
      () => this.#start(directory),
    )
    return sync.next
  }

  #start(directory: string): Promise<void> {
    const sync: Sync = { running: fsyncDirectory(this.#fs, directory), next: undefined }
    this.#syncs.set(directory, sync)
    const ended = () => {
      if (sync.next === undefined) this.#syncs.delete(directory)
    }
    sync.running.then(ended, ended)
    return sync.running
  }

  async #make(directory: string): Promise<DirectoryIdentity> {
    const parent = dirname(directory)
    await this.ensure(parent)
    try {
      await this.#fs.mkdir(directory, { mode: 0o755 })
    } catch (error) {
      if (errnoOf(error) !== 'EEXIST') throw error
    }
    // Before the sync: what takes its place later is another one.
    const identity = await this.#identify(directory)
    await this.sync(parent)
    return identity
  }

  async #identify(directory: string): Promise<DirectoryIdentity> {
    const { birthtimeMs, ino } = await this.#fs.stat(directory)
    return `${ino} ${birthtimeMs}`
  }
}

/**
 * Makes the names in `directory` durable, where the file system has a fsync of directories.
 * @throws the error of open or fsync
 */
export async function fsyncDirectory(fs: FileSystem, directory: string): Promise<void> {
  const handle = await fs.open(directory, 'r')
  try {
    await handle.sync()
  } catch (error) {
    if (!NO_DIRECTORY_FSYNC.has(errnoOf(error) ?? '')) throw error
  } finally {
    await handle.close()
  }
}
