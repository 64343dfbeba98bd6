/** The destination of a restore: a directory, or nothing, when the backup is only verified. */
import { constants } from 'node:fs'
import * as fs from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { WalrxError } from '../../primitives/errors.ts'
import { ChangedDirectories } from '../../storage/file/changed-directories.ts'
import { BackgroundSync } from './background-sync.ts'

/** A file that is being written. Its calls need not be waited for: they are done in their order. */
export interface RestoredFile {
  /** Resolves when the bytes are written: until then they must not change. */
  write(bytes: Uint8Array): Promise<void>
  /** The file is complete. It is durable when the sink's `sync` has resolved. */
  finish(): Promise<void>
  /** Closes an incomplete file, after what is being written to it. Does nothing after {@link finish}. */
  drop(): Promise<void>
}

/** A file from an earlier backup of the chain, which an increment changes. */
export interface ChangedFile extends Omit<RestoredFile, 'write'> {
  /** Cuts it to this many bytes, or extends it with zeros. */
  resize(bytes: number): Promise<void>
  write(position: number, bytes: Uint8Array): Promise<void>
}

/** Takes directories and files, by paths relative to the data directory. */
export interface RestoreSink {
  directory(path: string, mode: number): Promise<void>
  file(path: string, mode: number): Promise<RestoredFile>
  /** Opens a file that was finished before; its mode stays. */
  change(path: string): Promise<ChangedFile>
  /** Makes all finished files and their names durable. */
  sync(): Promise<void>
}

/** A large file begins to go to the disk after so many bytes: a sync at its end would have to wait for all of it. */
const flushBytes = 64 * 1024 * 1024

/** How a file ends. */
type FileEnding = Pick<RestoredFile, 'finish' | 'drop'>

/** An open file of a directory. */
interface OpenedFile {
  readonly handle: fs.FileHandle
  readonly calls: CallQueue
  readonly ending: FileEnding
}

/** What is left of chunks after their first bytes; none of it is empty. */
function without(chunks: readonly Uint8Array[], bytes: number): Uint8Array[] {
  let skipped = bytes
  return chunks.flatMap((chunk) => {
    const taken = Math.min(skipped, chunk.length)
    skipped -= taken
    return taken < chunk.length ? [chunk.subarray(taken)] : []
  })
}

/** Calls to one file: they are made one after the other. After one that failed none is made. */
class CallQueue {
  #last: Promise<void> = Promise.resolve()
  #beside: Promise<void> | undefined

  next(call: () => Promise<void>): Promise<void> {
    this.#last = this.#last.then(call)
    // Who asked for the call gets its error.
    this.#last.catch(() => {})
    return this.#last
  }

  /** Makes a call beside the others, unless the last such is not over. It must not reject. */
  beside(call: () => Promise<void>): void {
    this.#beside ??= call().then(() => {
      this.#beside = undefined
    })
  }

  /** Resolves when all have been made. Throws what one threw. */
  async done(): Promise<void> {
    try {
      await this.#last
    } finally {
      await this.#beside
    }
  }
}

const nowhereFile: RestoredFile & ChangedFile = {
  resize: async () => {},
  write: async () => {},
  finish: async () => {},
  drop: async () => {},
}

/**
 * What is in a directory, but for the `lost+found` that every file system of the ext family has at its root; undefined
 * where there is none. Rejects with the error of readdir, for instance ENOTDIR.
 */
export async function contentsOf(directory: string): Promise<string[] | undefined> {
  try {
    return (await fs.readdir(directory)).filter((name) => name !== 'lost+found')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw error
  }
}

/** Discards everything. */
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
  /** Files that are neither finished nor dropped, by full path. */
  readonly #beingWritten = new Map<string, Promise<void>>()
  /** Links that lead nowhere yet: path in the data directory, and target. */
  readonly #unmade = new Map<string, string>()

  /** @param fsync false leaves it to the operating system when files reach the disk (WALG_TAR_DISABLE_FSYNC) */
  constructor(root: string, fsync: boolean) {
    this.root = root
    this.#fsync = fsync
  }

  /** @param path '' for the data directory itself */
  async directory(path: string, mode: number): Promise<void> {
    await this.#makeTarget(path)
    await this.#folder(join(this.root, path), mode)
  }

  async file(path: string, mode: number): Promise<RestoredFile> {
    await this.#makeTarget(path)
    const full = join(this.root, path)
    const { calls, ending, handle } = await this.#open(full, async () => {
      await this.#directories.make(dirname(full))
      const flags = constants.O_WRONLY | constants.O_CREAT | constants.O_TRUNC | constants.O_NOFOLLOW
      const opened = await fs.open(full, flags, mode)
      this.#directories.note(dirname(full))
      await opened.chmod(mode)
      return opened
    })
    let waiting: Uint8Array[] = []
    let written = Promise.resolve()
    let unflushed = 0
    // What comes while a call is being made goes out together in the next one.
    const write = (bytes: Uint8Array) => {
      unflushed += bytes.length
      if (waiting.push(bytes) > 1) return written
      written = calls.next(async () => {
        const chunks = waiting
        waiting = []
        await this.#append(full, handle, chunks)
        if (!this.#fsync || unflushed < flushBytes) return
        unflushed = 0
        calls.beside(() => this.#syncs.flush(handle, (work) => this.#explained(full, work)))
      })
      return written
    }
    return { write, ...ending }
  }

  /** A symbolic link to a directory outside, which is made where it is not there, and is its owner's alone. */
  async link(path: string, target: string): Promise<void> {
    await this.#folder(target, 0o700)
    await this.#symlink(path, target)
  }

  /** The same, but the directory is made with the first thing in it: see {@link unmade}. */
  async linkFirst(path: string, target: string): Promise<void> {
    await this.#symlink(path, target)
    this.#unmade.set(path, target)
  }

  /** Targets of {@link linkFirst} into which nothing has come: they were not made. */
  get unmade(): readonly string[] {
    return [...this.#unmade.values()]
  }

  async #symlink(path: string, target: string): Promise<void> {
    const full = join(this.root, path)
    await this.#explained(full, async () => {
      await this.#directories.make(dirname(full))
      await fs.symlink(target, full)
      this.#directories.note(dirname(full))
    })
  }

  async change(path: string): Promise<ChangedFile> {
    const full = join(this.root, path)
    const opened = await this.#open(full, () => fs.open(full, constants.O_WRONLY | constants.O_NOFOLLOW))
    const { calls, ending, handle } = opened
    return {
      resize: (bytes) => calls.next(() => this.#explained(full, () => handle.truncate(bytes))),
      write: (position, bytes) => calls.next(() => this.#write(full, handle, position, bytes)),
      ...ending,
    }
  }

  /** Opens a file, after the last writer of the same file has finished or dropped it. */
  async #open(full: string, open: () => Promise<fs.FileHandle>): Promise<OpenedFile> {
    for (let other = this.#beingWritten.get(full); other; other = this.#beingWritten.get(full)) await other
    const { promise, resolve } = Promise.withResolvers<void>()
    this.#beingWritten.set(full, promise)
    const release = () => {
      this.#beingWritten.delete(full)
      resolve()
    }
    try {
      const handle = await this.#explained(full, open)
      const calls = new CallQueue()
      return { handle, calls, ending: this.#ending(full, handle, calls, release) }
    } catch (error) {
      release()
      throw error
    }
  }

  /** Makes what a link of {@link linkFirst} leads to, for something below it. */
  async #makeTarget(path: string): Promise<void> {
    if (this.#unmade.size === 0) return
    const link = [...this.#unmade.keys()].find((each) => path === each || path.startsWith(`${each}/`))
    const target = link === undefined ? undefined : this.#unmade.get(link)
    if (link === undefined || target === undefined) return
    await this.#folder(target, 0o700)
    this.#unmade.delete(link)
  }

  #append(full: string, handle: fs.FileHandle, chunks: readonly Uint8Array[]): Promise<void> {
    return this.#explained(full, async () => {
      let rest = chunks
      while (rest.length > 0) rest = without(rest, (await handle.writev(rest)).bytesWritten)
    })
  }

  #write(full: string, handle: fs.FileHandle, position: number, bytes: Uint8Array): Promise<void> {
    return this.#explained(full, async () => {
      for (let at = 0; at < bytes.length;) {
        at += (await handle.write(bytes, at, bytes.length - at, position + at)).bytesWritten
      }
    })
  }

  #ending(full: string, handle: fs.FileHandle, calls: CallQueue, release: () => void): FileEnding {
    let isOpen = true
    const close = () => handle.close()
    return {
      finish: async () => {
        isOpen = false
        try {
          await calls.done().catch(async (error: unknown) => {
            await close().catch(() => {})
            throw error
          })
          if (this.#fsync) await this.#syncs.add(handle, (work) => this.#explained(full, work))
          else await this.#explained(full, close)
        } finally {
          release()
        }
      },
      drop: async () => {
        if (!isOpen) return
        isOpen = false
        await calls.done().catch(() => {})
        await close().finally(release)
      },
    }
  }

  /** Renames a file within its directory; durable with the next {@link sync}. */
  async rename(from: string, to: string): Promise<void> {
    const full = join(this.root, to)
    await this.#explained(full, () => fs.rename(join(this.root, from), full))
    this.#directories.note(dirname(full))
  }

  /** Removes a file; durable with the next {@link sync}. */
  async remove(path: string): Promise<void> {
    const full = join(this.root, path)
    await this.#explained(full, () => fs.unlink(full))
    this.#directories.note(dirname(full))
  }

  async sync(): Promise<void> {
    if (!this.#fsync) return
    await this.#syncs.done()
    await this.#explained(this.root, () => this.#directories.sync())
  }

  async #folder(full: string, mode: number): Promise<void> {
    await this.#explained(full, async () => {
      await this.#directories.make(full)
      await fs.chmod(full, mode)
    })
    this.#directories.note(full)
  }

  async #explained<T>(path: string, work: () => Promise<T>): Promise<T> {
    try {
      return await work()
    } catch (error) {
      if (error instanceof WalrxError) throw error
      const { code = '', message } = error as NodeJS.ErrnoException
      throw new WalrxError('WALRX_RESTORE_FAILED', `${path} cannot be written: ${message}`, {
        cause: error,
        ...(code === 'ENOSPC' && { hint: 'free disk space, empty the destination and restore again' }),
      })
    }
  }
}
