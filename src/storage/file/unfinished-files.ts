/** Unfinished files that ended writers have left in a directory: readers never see them, and nothing else removes them. */
import { join, relative, sep } from 'node:path'
import { isRemovableTempName } from '../temp-name.ts'
import type { SweepOptions, SweptFiles } from '../storage.ts'
import { errnoOf, type FileSystem, isAbsence, lstatOrNothing } from './file-system.ts'
import type { FileWriter } from './file-writer.ts'

/** An unfinished file that has not changed for so long, in milliseconds, belongs to an ended writer. */
export const staleTempMs = 24 * 3600 * 1000

/** Folders that a sweep reads at the same time. */
const SWEPT_AT_ONCE = 8

type Counted = { -readonly [Name in keyof SweptFiles]: SweptFiles[Name] }

/** What {@link UnfinishedFiles} works with. */
export interface UnfinishedFilesOptions {
  readonly fs: FileSystem
  /** Directory of the objects. */
  readonly base: string
  /** Names of folders in it that may be symbolic links. */
  readonly ownFolders: readonly string[]
  readonly writer: FileWriter
  /** Removes a file; false where it is not there any more. */
  readonly remove: (path: string) => Promise<boolean>
  /** Removes a directory that is empty, and those above it. */
  readonly removeEmpty: (directory: string) => Promise<void>
}

/** See the file's header. */
export class UnfinishedFiles {
  readonly #options: UnfinishedFilesOptions

  constructor(options: UnfinishedFilesOptions) {
    this.#options = options
  }

  /**
   * Removes them from one folder, and makes the names in it durable.
   * @throws ENOENT and its like where there is no such folder; the errors of the system calls
   */
  async removeFrom(folder: string, beforeMs: number, signal: AbortSignal | undefined): Promise<void> {
    const { fs, remove, writer } = this.#options
    for await (const { name } of await fs.opendir(folder, { bufferSize: 1024 })) {
      signal?.throwIfAborted()
      const stats = await this.#unfinished(join(folder, name))
      if (stats && stats.mtimeMs <= beforeMs) await remove(join(folder, name))
    }
    await writer.syncDirectory(folder)
  }

  /** The same at any depth; folders that are empty then go as well. A folder that is missing has none. */
  async removeBelow(folder: string, beforeMs: number, signal: AbortSignal | undefined): Promise<void> {
    const { fs, removeEmpty } = this.#options
    try {
      await this.removeFrom(folder, beforeMs, signal)
      for await (const entry of await fs.opendir(folder, { bufferSize: 1024 })) {
        if (entry.isDirectory()) await this.removeBelow(join(folder, entry.name), beforeMs, signal)
      }
      await removeEmpty(folder)
    } catch (error) {
      if (!isAbsence(error)) throw error
    }
  }

  /** Counts them in the whole archive, and removes them. Links are not followed, but those of the own folders. */
  async sweep(options: SweepOptions): Promise<SweptFiles> {
    const { base, ownFolders } = this.#options
    const swept = { files: 0, bytes: 0, younger: 0 }
    await this.#sweepBelow(base, options, swept)
    for (const name of ownFolders) {
      const path = join(base, name)
      const stats = await lstatOrNothing(this.#options.fs, path)
      if (stats?.isSymbolicLink()) await this.#sweepBelow(path, options, swept)
    }
    return swept
  }

  /** Level by level, some folders at a time: an archive has two for each backup. */
  async #sweepBelow(top: string, options: SweepOptions, swept: Counted): Promise<void> {
    for (let level = [top]; level.length > 0;) {
      const next: string[] = []
      const folders = level.values()
      const work = async () => {
        for (const folder of folders)
          for (const below of await this.#sweepFolder(folder, options, swept)) next.push(below)
      }
      const ends = await Promise.allSettled(Array.from({ length: SWEPT_AT_ONCE }, work))
      for (const end of ends) if (end.status === 'rejected') throw end.reason
      level = next
    }
  }

  /** Returns the folders in it. */
  async #sweepFolder(folder: string, options: SweepOptions, swept: Counted): Promise<string[]> {
    const { base, fs, remove, removeEmpty } = this.#options
    const folders: string[] = []
    let hasRemoved = false
    try {
      for await (const entry of await fs.opendir(folder, { bufferSize: 1024 })) {
        options.signal?.throwIfAborted()
        const { name } = entry
        if (entry.isDirectory()) folders.push(join(folder, name))
        if (entry.isDirectory() || !isRemovableTempName(name)) continue
        const path = join(folder, name)
        const stats = await this.#unfinished(path)
        if (!stats) continue
        if (stats.mtimeMs > options.beforeMs) swept.younger++
        else if (!options.removes || (await remove(path))) {
          swept.files++
          swept.bytes += stats.size
          hasRemoved = options.removes
        }
      }
      if (hasRemoved && folder !== base) await removeEmpty(folder)
    } catch (error) {
      if (!isAbsence(error) && !this.#isForeign(folder, error)) throw error
    }
    return folders
  }

  /** True for a folder that others have put beside the archive's own ones, and that is not ours to read: lost+found, for instance. */
  #isForeign(folder: string, error: unknown): boolean {
    const { base, ownFolders } = this.#options
    const [first = ''] = relative(base, folder).split(sep)
    return ['EACCES', 'EPERM'].includes(errnoOf(error) ?? '') && first !== '' && !ownFolders.includes(first)
  }

  async #unfinished(path: string) {
    const stats = isRemovableTempName(path) ? await lstatOrNothing(this.#options.fs, path) : undefined
    return stats?.isFile() ? stats : undefined
  }
}
