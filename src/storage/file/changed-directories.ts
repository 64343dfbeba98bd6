/** Directories whose entries have changed and are not durable yet: a file's own fsync does not cover its name. */
import { dirname } from 'node:path'
import { errnoOf, type FileSystem } from './file-system.ts'
import { fsyncDirectory } from './synced-directories.ts'

/** Makes directories, and remembers which must be synced. */
export class ChangedDirectories {
  readonly #fs: FileSystem
  readonly #made = new Set<string>()
  /** Those to be synced; false for one in which somebody else may have changed something. */
  readonly #changed = new Map<string, boolean>()

  constructor(fs: FileSystem) {
    this.#fs = fs
  }

  /** In `directory` an entry was made, renamed or removed, or its own mode was changed. */
  note(directory: string): void {
    this.#changed.set(directory, true)
  }

  /**
   * Makes `directory` and those above it that are missing, with mode 0700. The one above each is to be synced, also of
   * one that was there: the process that made it may have been killed before it could.
   * @throws the error of mkdir; EEXIST when something else than a directory is there
   */
  async make(directory: string): Promise<void> {
    if (this.#made.has(directory)) return
    const parent = dirname(directory)
    try {
      await this.#makeOne(directory)
    } catch (error) {
      if (errnoOf(error) !== 'ENOENT' || parent === directory) throw error
      await this.make(parent)
      await this.#makeOne(directory)
    }
    this.#made.add(directory)
  }

  async #makeOne(directory: string): Promise<void> {
    const parent = dirname(directory)
    try {
      await this.#fs.mkdir(directory, { mode: 0o700 })
      this.note(parent)
    } catch (error) {
      if (errnoOf(error) !== 'EEXIST' || !(await this.#fs.stat(directory)).isDirectory()) throw error
      if (!this.#changed.has(parent)) this.#changed.set(parent, false)
    }
  }

  /** `directory` was removed: it cannot be synced, and may be made again. */
  forget(directory: string): void {
    this.#changed.delete(directory)
    this.#made.delete(directory)
  }

  /**
   * Makes what was noted durable, and forgets it. A directory in which nothing was changed here may be one that we must
   * not read: it is passed over then.
   * @throws the error of open or fsync, naming the directory
   */
  async sync(): Promise<void> {
    for (const [directory, isOurs] of [...this.#changed]) {
      // A change during the sync is noted again.
      this.#changed.delete(directory)
      try {
        await fsyncDirectory(this.#fs, directory)
      } catch (error) {
        if (!isOurs && errnoOf(error) === 'EACCES') continue
        this.#changed.set(directory, isOurs)
        throw error
      }
    }
  }
}
