/** The destination of a restore: a directory, or nothing, when the backup is only verified. */
import * as fs from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { ChangedDirectories } from '../../storage/file/changed-directories.ts'
import { BackgroundSync } from './parts/background-sync.ts'
import { cannotWrite } from './parts/restore-error.ts'
import { type ChangedFile, changeFile, makeFile, nowhereFile, type RestoredFile } from './parts/restored-file.ts'

/** A sink whose files another thread can write. */
export type PlacingSink = RestoreSink & Required<Pick<RestoreSink, 'place'>>

/** Where a file is to be written. */
export interface FilePlace {
  readonly full: string | undefined
  release(): void
}

/** In a directory. */
type OwnPlace = FilePlace & { readonly full: string }

/** Takes directories and files, by paths relative to the data directory. */
export interface RestoreSink {
  directory(path: string, mode: number): Promise<void>
  file(path: string, mode: number): Promise<RestoredFile>
  /** Opens a file that was finished before; its mode stays. */
  change(path: string): Promise<ChangedFile>
  /**
   * Prepares the place of a file, so that another thread can write and sync it. Undefined where a sink does all by itself.
   * @param waits whether to wait for who writes the same file
   * @returns its full path, undefined for nowhere; `release` is to be called when the file is finished or given up. Undefined
   * for a file that is being written, without waiting
   */
  place?(path: string, waits: boolean): Promise<FilePlace | undefined>
  /** Makes all finished files and their names durable. */
  sync(): Promise<void>
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
  place: () => Promise.resolve({ full: undefined, release: () => {} }),
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
    const place = await this.#place(join(this.root, path))
    return this.#opened(place, () => makeFile(place.full, mode, this.#fsync ? this.#syncs : undefined))
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
    await this.#makeTarget(path)
    const place = await this.#place(join(this.root, path))
    return this.#opened(place, () => changeFile(place.full, this.#fsync ? this.#syncs : undefined))
  }

  async place(path: string, waits: boolean): Promise<OwnPlace | undefined> {
    await this.#makeTarget(path)
    const full = join(this.root, path)
    return !waits && this.#beingWritten.has(full) ? undefined : this.#place(full)
  }

  /** Waits until the last writer of the same file has finished or dropped it; where there is none, the place is taken at once. */
  async #place(full: string): Promise<OwnPlace> {
    for (let other = this.#beingWritten.get(full); other; other = this.#beingWritten.get(full)) await other
    const { promise, resolve } = Promise.withResolvers<void>()
    this.#beingWritten.set(full, promise)
    const release = () => {
      if (this.#beingWritten.get(full) === promise) this.#beingWritten.delete(full)
      this.#directories.note(dirname(full))
      resolve()
    }
    try {
      await this.#explained(full, () => this.#directories.make(dirname(full)))
    } catch (error) {
      release()
      throw error
    }
    this.#directories.note(dirname(full))
    return { full, release }
  }

  /** The file that `open` opens; its place is released when it ends. */
  #opened<T extends Pick<RestoredFile, 'finish' | 'drop'>>({ release }: FilePlace, open: () => T): T {
    try {
      const file = open()
      return {
        ...file,
        finish: () => file.finish().finally(release),
        drop: () => file.drop().finally(release),
      }
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

  /** Renames a file within its directory; durable with the next {@link sync}. */
  async rename(from: string, to: string): Promise<void> {
    const full = join(this.root, to)
    await this.#explained(full, () => fs.rename(join(this.root, from), full))
    this.#directories.note(dirname(full))
  }

  /** Removes an empty directory; durable with the next {@link sync}. */
  async removeDirectory(path: string): Promise<void> {
    const full = join(this.root, path)
    await this.#explained(full, () => fs.rmdir(full))
    this.#directories.forget(full)
    this.#directories.note(dirname(full))
  }

  /** Gives a file that is there another mode. */
  async changeMode(path: string, mode: number): Promise<void> {
    const full = join(this.root, path)
    await this.#explained(full, () => fs.chmod(full, mode))
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
      throw cannotWrite(path, error)
    }
  }
}
