/**
 * Symbolic links in the directory of an archive. Reading follows all of them. A deletion follows those by which operators
 * put an archive on another disk: of the archive's directory, of what is above it, and of the archive's own folders. Any
 * other link it removes as `rm -r` does: the link, and nothing of what that leads to (docs/operations.md, Links in a
 * directory).
 */
import type { Stats } from 'node:fs'
import { dirname, join, relative } from 'node:path'
import { WalrxError } from '../../primitives/errors.ts'
import { shellWord } from '../../primitives/shell-word.ts'
import type { DeletionLinks } from '../storage.ts'
import { errnoOf, type FileSystem, isAbsence, lstatOrNothing } from './file-system.ts'

/** What {@link FileLinks} goes by. */
export interface FileLinksOptions {
  readonly fs: FileSystem
  /** Directory of the objects. */
  readonly base: string
  /** Names of folders in it that may be links for a deletion too. */
  readonly ownFolders: readonly string[]
  /** For a deletion; undefined: links are followed, and one that leads nowhere is an error. */
  readonly deletion: DeletionLinks | undefined
}

/** See the file's header. */
export class FileLinks {
  readonly #options: FileLinksOptions

  constructor(options: FileLinksOptions) {
    this.#options = options
  }

  /** True where a deletion follows this path if it is a link. */
  isFollowed(path: string): boolean {
    const { base, ownFolders } = this.#options
    return !path.startsWith(`${base}/`) || ownFolders.includes(relative(base, path))
  }

  /**
   * The stats of what a path leads to; undefined where there is nothing.
   * @throws WALRX_STORAGE_MISSING for a link that leads nowhere, unless a deletion passes it over
   */
  async stat(path: string): Promise<Stats | undefined> {
    const { fs } = this.#options
    try {
      return await fs.stat(path)
    } catch (error) {
      const isCircle = errnoOf(error) === 'ELOOP'
      if (!isAbsence(error) && !(isCircle && this.#mayPass(path))) throw error
      await this.refuseBroken(path)
      return undefined
    }
  }

  /**
   * Refuses a link that leads nowhere: its target may be on a file system that is not mounted, so nothing proves that the
   * object is absent. A deletion keeps what it does not know of, so it passes such a link over and reports it.
   * @throws WALRX_STORAGE_MISSING for such a link
   */
  async refuseBroken(path: string): Promise<void> {
    const { deletion, fs } = this.#options
    const link = await lstatOrNothing(fs, path)
    if (!link?.isSymbolicLink()) return
    try {
      await fs.stat(path)
    } catch (error) {
      const isBroken = isAbsence(error) || errnoOf(error) === 'ELOOP'
      if (isBroken && this.#mayPass(path)) return void deletion?.onBroken(path, await this.target(path))
      if (!isAbsence(error)) throw error
      throw new WalrxError(
        'WALRX_STORAGE_MISSING',
        `the symbolic link ${path} in the archive leads to ${await this.target(path)}, which does not exist`,
        {
          cause: error,
          hint: `mount the file system of its target; if that is gone for good, remove the link: rm ${shellWord(path)}`,
        },
      )
    }
  }

  #mayPass(path: string): boolean {
    return this.#options.deletion !== undefined && !this.isFollowed(path)
  }

  /** What a link leads to; empty for what is no link. */
  async target(path: string): Promise<string> {
    return this.#options.fs.readlink(path).catch(() => '')
  }

  /** Removes a file by `remove`, and reports to a deletion that it was a link. */
  async removing(path: string, remove: () => Promise<boolean>): Promise<boolean> {
    const { deletion } = this.#options
    const target = deletion ? await this.target(path) : ''
    const isRemoved = await remove()
    if (isRemoved && target !== '') deletion?.onRemoved(path, target)
    return isRemoved
  }

  /** True for a link that a removal takes for an object: it leads to a folder or nowhere, and is not followed. */
  async isObject(path: string): Promise<boolean> {
    if (this.isFollowed(path)) return false
    const { fs } = this.#options
    if (!(await lstatOrNothing(fs, path))?.isSymbolicLink()) return false
    const target = await fs.stat(path).catch((error: unknown) => {
      if (isAbsence(error) || errnoOf(error) === 'ELOOP') return undefined
      throw error
    })
    return target?.isFile() !== true
  }

  /** True for a link to a folder that it lies in, at any depth: it leads to nothing new. */
  async isLoop(link: string, target: Stats): Promise<boolean> {
    const { base, fs } = this.#options
    for (let at = dirname(link); at.length >= base.length; at = dirname(at)) {
      const { dev, ino } = await fs.stat(at)
      if (dev === target.dev && ino === target.ino) return true
      if (at === dirname(at)) break
    }
    return false
  }

  /**
   * Refuses to remove what lies in a folder that is a link and not followed.
   * @param checked folders that were looked at already, with their errors
   * @throws WALRX_STORAGE_DENIED
   */
  async refuseThrough(path: string, checked: Map<string, WalrxError | undefined>): Promise<void> {
    const { base, deletion } = this.#options
    const folder = dirname(path)
    if (deletion === undefined || folder.length <= base.length) return
    if (!checked.has(folder)) {
      await this.refuseThrough(folder, checked)
      checked.set(folder, (await this.isObject(folder)) ? await this.#through(folder) : undefined)
    }
    const error = checked.get(folder)
    if (error) throw error
  }

  async #through(link: string): Promise<WalrxError> {
    return new WalrxError(
      'WALRX_STORAGE_DENIED',
      `${link} is a symbolic link to ${await this.target(link)}, and nothing is deleted through a link`,
      { hint: `to remove what it leads to, delete there; to remove the link alone: rm ${shellWord(link)}` },
    )
  }
}

/** The path of a folder by its key, which ends with a slash or is empty. */
export function folderPath(base: string, folder: string): string {
  return folder === '' ? base : join(base, folder.slice(0, -1))
}
