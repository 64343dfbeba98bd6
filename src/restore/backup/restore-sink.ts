/** Where a backup is restored to: a directory, or nowhere, when it is only verified. */
import { constants } from 'node:fs'
import * as fs from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { WalrxError } from '../../primitives/errors.ts'
import { ChangedDirectories } from '../../storage/file/changed-directories.ts'
import { BackgroundSync } from './background-sync.ts'

/** A file that is being written. */
export interface RestoredFile {
  write(bytes: Uint8Array): Promise<void>
  /** The file is whole. It is durable when the sink's `sync` has resolved. */
  finish(): Promise<void>
  /** Ends without a result. Harmless after {@link finish}. */
  drop(): Promise<void>
}

/** A file of a backup before, that is being changed. */
export interface ChangedFile extends Omit<RestoredFile, 'write'> {
  /** Cuts it to this many bytes, or extends it with zeros. */
  resize(bytes: number): Promise<void>
  write(position: number, bytes: Uint8Array): Promise<void>
}

/** Takes directories and files, by paths relative to the data directory. */
export interface RestoreSink {
  directory(path: string, mode: number): Promise<void>
  file(path: string, mode: number): Promise<RestoredFile>
  /** A file that was finished before; its mode stays. */
  change(path: string): Promise<ChangedFile>
  /** Makes all that is finished durable, with its names. */
  sync(): Promise<void>
}

const nowhereFile: RestoredFile & ChangedFile = {
  resize: async () => {},
  write: async () => {},
  finish: async () => {},
  drop: async () => {},
}

/** Takes everything and keeps nothing. */
export const nowhere: RestoreSink = {
  directory: async () => {},
  file: () => Promise.resolve(nowhereFile),
  change: () => Promise.resolve(nowhereFile),
  sync: async () => {},
}

/**
 * A data directory that is being written. All that is made, renamed or removed in it, and in its tablespaces, goes
 * through here, so that {@link sync} leaves nothing out.
 */
export class DirectorySink implements RestoreSink {
  readonly root: string
  readonly #fsync: boolean
  readonly #syncs = new BackgroundSync()
  readonly #directories = new ChangedDirectories(fs)

  /** @param fsync false leaves it to the system when files reach the disk (WALG_TAR_DISABLE_FSYNC) */
  constructor(root: string, fsync: boolean) {
    this.root = root
    this.#fsync = fsync
  }

  /** @param path '' for the data directory itself */
  async directory(path: string, mode: number): Promise<void> {
    await this.#folder(join(this.root, path), mode)
  }

  async file(path: string, mode: number): Promise<RestoredFile> {
    const full = join(this.root, path)
    const handle = await this.#told(full, async () => {
      await this.#directories.make(dirname(full))
      const flags = constants.O_WRONLY | constants.O_CREAT | constants.O_TRUNC | constants.O_NOFOLLOW
      const opened = await fs.open(full, flags, mode)
      this.#directories.note(dirname(full))
      await opened.chmod(mode)
      return opened
    })
    return { write: (bytes) => this.#write(full, handle, bytes), ...this.#ending(full, handle) }
  }

  /** A symbolic link to a directory outside, which is made where it is not there, and is its owner's alone. */
  async link(path: string, target: string): Promise<void> {
    const full = join(this.root, path)
    await this.#folder(target, 0o700)
    await this.#told(full, async () => {
      await this.#directories.make(dirname(full))
      await fs.symlink(target, full)
      this.#directories.note(dirname(full))
    })
  }

  async change(path: string): Promise<ChangedFile> {
    const full = join(this.root, path)
    const handle = await this.#told(full, () => fs.open(full, constants.O_WRONLY | constants.O_NOFOLLOW))
    return {
      resize: (bytes) => this.#told(full, () => handle.truncate(bytes)),
      write: (position, bytes) => this.#write(full, handle, bytes, position),
      ...this.#ending(full, handle),
    }
  }

  #write(full: string, handle: fs.FileHandle, bytes: Uint8Array, position?: number): Promise<void> {
    return this.#told(full, async () => {
      for (let at = 0; at < bytes.length;) {
        const where = position === undefined ? null : position + at
        at += (await handle.write(bytes, at, bytes.length - at, where)).bytesWritten
      }
    })
  }

  #ending(full: string, handle: fs.FileHandle): Pick<RestoredFile, 'finish' | 'drop'> {
    let isOpen = true
    const close = async () => {
      if (!isOpen) return
      isOpen = false
      await handle.close()
    }
    return {
      finish: async () => {
        if (!this.#fsync) return this.#told(full, close)
        isOpen = false
        await this.#syncs.add(handle, (work) => this.#told(full, work))
      },
      drop: close,
    }
  }

  /** Gives a file another name within its directory; durable with the next {@link sync}. */
  async rename(from: string, to: string): Promise<void> {
    const full = join(this.root, to)
    await this.#told(full, () => fs.rename(join(this.root, from), full))
    this.#directories.note(dirname(full))
  }

  /** Removes a file; durable with the next {@link sync}. */
  async remove(path: string): Promise<void> {
    const full = join(this.root, path)
    await this.#told(full, () => fs.unlink(full))
    this.#directories.note(dirname(full))
  }

  async sync(): Promise<void> {
    if (!this.#fsync) return
    await this.#syncs.done()
    await this.#told(this.root, () => this.#directories.sync())
  }

  async #folder(full: string, mode: number): Promise<void> {
    await this.#told(full, async () => {
      await this.#directories.make(full)
      await fs.chmod(full, mode)
    })
    this.#directories.note(full)
  }

  async #told<T>(path: string, work: () => Promise<T>): Promise<T> {
    try {
      return await work()
    } catch (error) {
      if (error instanceof WalrxError) throw error
      const { code = '', message } = error as NodeJS.ErrnoException
      throw new WalrxError('WALRX_RESTORE_FAILED', `${path} cannot be written: ${message}`, {
        cause: error,
        ...(code === 'ENOSPC' && { hint: 'make room, empty the directory and restore again' }),
      })
    }
  }
}
