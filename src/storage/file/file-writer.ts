/** Writes a file so that it appears complete and durable or not at all, and replaces or keeps an existing one. */
import type { FileHandle } from 'node:fs/promises'
import { dirname } from 'node:path'
import { type Clock, sleep } from '../../primitives/clock.ts'
import { WalrxError } from '../../primitives/errors.ts'
import { readSource } from '../source.ts'
import type { StorageBody } from '../storage.ts'
import { lockPath, tempPath } from '../temp-name.ts'
import { readFlags } from './file-body.ts'
import { type FileSystem, errnoOf, isAbsence } from './file-system.ts'
import { type DirectoryIdentity, SyncedDirectories } from './synced-directories.ts'

/** Errors of link(2) where the file system has no hard links (CIFS, exFAT, many FUSE ones). */
const NO_LINKS = new Set(['EPERM', 'ENOTSUP', 'EOPNOTSUPP', 'ENOSYS'])
/** How often a directory that other processes remove is created again before the write fails. */
const OPEN_ATTEMPTS = 5
/** A lock of this age belongs to an ended process: a running one holds it for two system calls. */
const LOCK_STALE_MS = 60_000
const LOCK_POLL_MS = 20

/** Options of {@link FileWriter}. */
export interface FileWriterOptions {
  readonly fs: FileSystem
  /** The directory that must exist; those inside it are created. */
  readonly root: string
  readonly fsync: boolean
  readonly clock: Clock
}

/** Writes files below one root. Throws the errors of the system calls, SourceError and the signal's reason. */
export class FileWriter {
  readonly #fs: FileSystem
  readonly #fsync: boolean
  readonly #clock: Clock
  readonly #directories: SyncedDirectories
  #hasLinks = true

  constructor({ fs, root, fsync, clock }: FileWriterOptions) {
    this.#fs = fs
    this.#fsync = fsync
    this.#clock = clock
    this.#directories = new SyncedDirectories(fs, root, fsync)
  }

  /** False once {@link create} has found that the file system has no hard links. */
  get hasLinks(): boolean {
    return this.#hasLinks
  }

  /** Writes `path`, and replaces an existing file. */
  async replace(path: string, body: StorageBody, signal: AbortSignal | undefined): Promise<void> {
    await this.#write(path, body, signal, (temp) => this.#fs.rename(temp, path))
    await this.#directories.sync(dirname(path))
  }

  /**
   * Writes `path` unless it exists. An existing file is made durable first: its writer may have been killed before its
   * own fsync, and the caller will rely on the file.
   */
  async create(path: string, body: Uint8Array, signal: AbortSignal | undefined): Promise<'created' | 'exists'> {
    const result = await this.#write(path, body, signal, (temp) => this.#link(temp, path, signal))
    if (result === 'exists') await this.#syncFile(path)
    await this.#directories.sync(dirname(path))
    return result
  }

  /** Makes a file of another process durable, with its name and the directories above it. */
  async syncExisting(path: string): Promise<void> {
    await this.#directories.ensure(dirname(path))
    await this.#syncFile(path)
    await this.#directories.sync(dirname(path))
  }

  /** Makes the names in a directory durable. */
  async syncDirectory(path: string): Promise<void> {
    await this.#directories.sync(path)
  }

  /**
   * Removes a directory, and those above it that are then empty, too, and makes that durable.
   * @param top this directory and those above it stay
   */
  async removeEmpty(directory: string, top: string): Promise<void> {
    for (let at = directory; ; at = dirname(at)) {
      if (at.length > top.length && (await this.#directories.removeEmpty(at))) continue
      try {
        await this.#directories.sync(at)
        return
      } catch (error) {
        // Another process has removed it meanwhile.
        if (!isAbsence(error) || at.length <= top.length) throw error
      }
    }
  }

  /** Writes the hidden file and publishes it; after any failure it removes the hidden file. */
  async #write<T>(
    path: string,
    body: StorageBody,
    signal: AbortSignal | undefined,
    publish: (temp: string) => Promise<T>,
  ): Promise<T> {
    const temp = tempPath(path, this.#clock.now())
    const handle = await this.#open(temp)
    try {
      await this.#fill(handle, body, signal)
      // After an abort the caller's buffer may hold other bytes: nothing of it may appear.
      signal?.throwIfAborted()
      return await publish(temp)
    } catch (error) {
      await this.#fs.unlink(temp).catch(() => {})
      throw error
    }
  }

  async #open(temp: string): Promise<FileHandle> {
    const directory = dirname(temp)
    for (let attempt = 1; ; attempt++) {
      let handle: FileHandle
      let identity: DirectoryIdentity
      try {
        identity = await this.#directories.ensure(directory)
        // 0644 less the umask, as WAL-G: to keep the archive from other users, set the umask.
        handle = await this.#fs.open(temp, 'wx', 0o644)
      } catch (error) {
        if (errnoOf(error) !== 'ENOENT' || attempt === OPEN_ATTEMPTS) throw error
        // Another process removed the directory meanwhile.
        this.#directories.forget(directory)
        continue
      }
      try {
        if (await this.#directories.isStill(directory, identity)) return handle
        // Now the directory is not empty, and stays.
        this.#directories.forget(directory)
        await this.#directories.ensure(directory)
        return handle
      } catch (error) {
        await handle.close().catch(() => {})
        await this.#fs.unlink(temp).catch(() => {})
        throw error
      }
    }
  }

  async #fill(handle: FileHandle, body: StorageBody, signal: AbortSignal | undefined): Promise<void> {
    const young = body instanceof Uint8Array ? undefined : keepYoung(handle)
    try {
      for await (const chunk of readSource(body, signal)) {
        signal?.throwIfAborted()
        await writeFully(handle, chunk)
      }
      signal?.throwIfAborted()
      if (this.#fsync) await handle.sync()
    } catch (error) {
      await handle.close().catch(() => {})
      throw error
    } finally {
      clearInterval(young)
    }
    // Its error counts: network file systems report failed writes here.
    await handle.close()
  }

  async #link(temp: string, path: string, signal: AbortSignal | undefined): Promise<'created' | 'exists'> {
    try {
      await this.#fs.link(temp, path)
    } catch (error) {
      const errno = errnoOf(error) ?? ''
      if (NO_LINKS.has(errno)) {
        this.#hasLinks = false
        return await this.#renameLocked(temp, path, signal)
      }
      if (errno !== 'EEXIST') throw error
      await this.#fs.unlink(temp)
      return 'exists'
    }
    // The object is there. A hidden name that can't be removed now is removed when it is a day old.
    await this.#fs.unlink(temp).catch(() => {})
    return 'created'
  }

  /**
   * The same without hard links: a lock file, created with O_EXCL, lets one caller at a time check and rename. It is
   * weaker in two points. It excludes only other callers of this function, not a plain put or another program. And a
   * lock that a crash has left is removed after a minute; two callers that remove it at the same instant may both
   * create.
   */
  async #renameLocked(temp: string, path: string, signal: AbortSignal | undefined): Promise<'created' | 'exists'> {
    const lock = lockPath(path)
    await this.#lock(lock, signal)
    try {
      if (await this.#exists(path)) {
        await this.#fs.unlink(temp)
        return 'exists'
      }
      await this.#fs.rename(temp, path)
      return 'created'
    } finally {
      await this.#fs.unlink(lock).catch(() => {})
    }
  }

  async #lock(lock: string, signal: AbortSignal | undefined): Promise<void> {
    const deadlineMs = this.#clock.now() + 2 * LOCK_STALE_MS
    for (;;) {
      try {
        await (await this.#fs.open(lock, 'wx', 0o644)).close()
        return
      } catch (error) {
        if (errnoOf(error) !== 'EEXIST') throw error
      }
      if (this.#clock.now() > deadlineMs) {
        throw new WalrxError(
          'WALRX_STORAGE_UNAVAILABLE',
          `the lock file ${lock} was held for ${(2 * LOCK_STALE_MS) / 1000} s`,
          {
            hint: 'if no other process writes to this archive, remove the file, and check the clock of the file server',
          },
        )
      }
      const madeMs = await this.#modifiedMs(lock)
      if (madeMs !== undefined && this.#clock.now() - madeMs > LOCK_STALE_MS)
        await this.#fs.unlink(lock).catch(() => {})
      else await sleep(this.#clock, LOCK_POLL_MS, signal)
    }
  }

  async #exists(path: string): Promise<boolean> {
    return (await this.#modifiedMs(path)) !== undefined
  }

  async #modifiedMs(path: string): Promise<number | undefined> {
    try {
      return (await this.#fs.stat(path)).mtimeMs
    } catch (error) {
      if (!isAbsence(error)) throw error
      return undefined
    }
  }

  async #syncFile(path: string): Promise<void> {
    const handle = await this.#fs.open(path, readFlags)
    try {
      if (!(await handle.stat()).isFile()) {
        throw new WalrxError('WALRX_STORAGE_DENIED', `${path} is not a file`, {
          hint: 'something else is in the place of an object: move it away',
        })
      }
      if (this.#fsync) await handle.sync()
    } finally {
      await handle.close()
    }
  }
}

/** How often a file whose stream stands still is touched: a file that is a day old has no writer (unfinished-files.ts). */
const touchMs = 3600_000

function keepYoung(handle: FileHandle): NodeJS.Timeout {
  const touch = () => void handle.utimes(new Date(), new Date()).catch(() => {})
  return setInterval(touch, touchMs).unref()
}

/** Writes all of `bytes` at the end of the file; one call of write(2) may write fewer. */
async function writeFully(handle: FileHandle, bytes: Uint8Array): Promise<void> {
  for (let offset = 0; offset < bytes.length;) {
    const { bytesWritten } = await handle.write(bytes, offset, bytes.length - offset)
    offset += bytesWritten
  }
}
