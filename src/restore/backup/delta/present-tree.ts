/**
 * What lies in a data directory and in its tablespaces. Of links only two kinds are followed: that of pg_wal, and those of the
 * tablespaces of the backup, where they lead to the directories that these are restored to. Nothing is read or removed
 * through another one.
 */
import type { Stats } from 'node:fs'
import fs from 'node:fs/promises'
import { dirname, join, posix, relative, resolve } from 'node:path'
import { mapInParallel } from '../../../catalog/map-in-parallel.ts'
import { WalrxError } from '../../../primitives/errors.ts'
import { readMounts } from '../../../primitives/mounts.ts'
import { shellWord } from '../../../primitives/shell-word.ts'
import { incompleteMarker } from '../backup-fetch.ts'
import { lockFile } from './directory-lock.ts'

/** Something in the data directory. Paths are relative to it, those in a tablespace begin with `pg_tblspc/<oid>/`. */
export interface PresentEntry {
  readonly path: string
  readonly kind: 'file' | 'directory' | 'link' | 'special'
  readonly size: number
  /** Bits of the mode. */
  readonly mode: number
}

/** What the walk has to know of the restore. */
export interface TreeOptions {
  readonly destination: string
  /** The version in the names of tablespaces' folders: 17. */
  readonly major: number
  /** Tablespaces whose links lead where they should, by oid, with the real directory. */
  readonly linked: ReadonlyMap<number, string>
  /** Directories of the restored cluster. */
  readonly directories: ReadonlyMap<string, unknown>
  /** Links and special files that the server had, too. */
  readonly leftOut: ReadonlySet<string>
  /** The directory that pg_wal is to be a link to. */
  readonly walDirectory: string | undefined
}

/** What was found. */
export interface PresentTree {
  /** The real path of the data directory. */
  readonly root: string
  /** Each directory before what is in it. */
  readonly entries: readonly PresentEntry[]
  /** True where pg_wal stays the link that it is. */
  readonly isWalLinked: boolean
  /** Links of tablespaces that go, with the directories that they lead to: those stay as they are. */
  readonly unlinked: ReadonlyMap<string, string>
}

/**
 * Lists it.
 * @throws WALRX_RESTORE_FAILED for a link that leads out of it and that neither the server nor the restore knows, for files in the
 * directory of a tablespace that goes, for a mount that is no directory of the backup, for names that are no UTF-8, and where something cannot be read
 */
export async function readTree(options: TreeOptions): Promise<PresentTree> {
  const walk = new Walk(options)
  await walk.run()
  return { root: walk.root, entries: walk.entries, isWalLinked: walk.isWalLinked, unlinked: walk.unlinked }
}

/** Files that the WAL's directory may hold when it lies elsewhere: somebody else's would be removed with it. */
const walEntry =
  /^([0-9A-F]{8}(\.history|[0-9A-F]{16}).*|xlogtemp\.\d+|RECOVERY(XLOG|HISTORY)|archive_status|summaries|\.?(walrx|wal-g).*|lost\+found)$/

class Walk {
  readonly entries: PresentEntry[] = []
  readonly unlinked = new Map<string, string>()
  isWalLinked = false
  readonly #options: TreeOptions
  /** Real paths of tablespaces, which may lie in the data directory. */
  readonly #places: ReadonlySet<string>
  root = ''

  constructor(options: TreeOptions) {
    this.#options = options
    this.#places = new Set(options.linked.values())
  }

  async run(): Promise<void> {
    const { destination } = this.#options
    this.root = await explained(destination, () => fs.realpath(destination))
    const stat = await explained(destination, () => fs.stat(destination))
    this.#add('', 'directory', stat)
    await this.#walk('', stat.dev, (name) => ![lockFile, incompleteMarker, 'lost+found'].includes(name))
    await this.#refuseMounts()
  }

  /**
   * Refuses mounts in what is cleared: files would be removed that are elsewhere, in an image or on the host, and a mount point
   * itself cannot be removed. A bind mount of the same file system has the device of what it lies in, so only the list shows it.
   */
  async #refuseMounts(): Promise<void> {
    const { destination, major } = this.#options
    const wal = join(this.root, 'pg_wal')
    const realWal = await explained(wal, () => realOrNothing(wal))
    const own = [this.root, wal, ...(realWal === undefined ? [] : [realWal]), ...this.#places]
    for (const { at } of await readMounts()) {
      if (own.includes(at)) continue
      const isInPlace = [...this.#places].some((place) => at.startsWith(join(place, `PG_${major}_`)))
      const isInWal = this.isWalLinked && realWal !== undefined && isWithin(realWal, at)
      if (!isInPlace && !isInWal && !isWithin(this.root, at)) continue
      // One that a later mount hides.
      if ((await explained(at, () => realOrNothing(at))) === undefined) continue
      throw refused(
        `${at} is a mount in what a restore over ${destination} clears`,
        `unmount it before the restore: umount ${shellWord(at)}`,
      )
    }
  }

  /** @param isOurs false for a name that is passed over */
  async #walk(path: string, device: number, isOurs: (name: string) => boolean): Promise<void> {
    const full = join(this.root, path)
    const names = (await explained(full, () => this.#names(full))).filter(isOurs)
    const found = await mapInParallel(names, async (name) => {
      const below = posix.join(path, name)
      return [below, await explained(below, () => fs.lstat(join(this.root, below)))] as const
    })
    for (const [below, stat] of found) {
      if (stat.isDirectory()) await this.#directory(below, stat, device)
      else if (stat.isSymbolicLink()) await this.#link(below, stat)
      else if (stat.isFile()) this.#add(below, 'file', stat)
      else if (!this.#options.leftOut.has(below)) this.#add(below, 'special', stat)
    }
  }

  async #names(full: string): Promise<string[]> {
    const names = await fs.readdir(full, { encoding: 'buffer' })
    return names.map((bytes) => {
      const name = bytes.toString()
      if (Buffer.from(name).equals(bytes)) return name
      throw refused(
        `${full} holds a file whose name is no UTF-8: ${bytes.toString('hex')} in hex`,
        'remove or rename it',
      )
    })
  }

  #add(path: string, kind: PresentEntry['kind'], { mode, size }: Stats): void {
    this.entries.push({ path, kind, size, mode: mode & 0o7777 })
  }

  async #directory(path: string, stat: Stats, device: number): Promise<void> {
    const isExpected = this.#options.directories.has(path)
    const isPlace = this.#places.has(join(this.root, path))
    if (stat.dev !== device && !isExpected && !isPlace) {
      throw refused(
        `${join(this.root, path)} is another file system, and the backup has no such directory`,
        'unmount it before the restore',
      )
    }
    if (stat.dev !== device && path === 'pg_wal' && this.#options.walDirectory !== undefined) {
      throw refused(`${join(this.root, path)} is another file system, and --waldir is given`, 'leave out --waldir')
    }
    this.#add(path, 'directory', stat)
    // What is a tablespace's comes by its link.
    if (isPlace) await this.#walk(path, stat.dev, (name) => !/^PG_\d+_\d+$/.test(name) && name !== 'lost+found')
    else await this.#walk(path, stat.dev, (name) => path !== 'pg_wal' || name !== 'lost+found')
  }

  async #link(path: string, stat: Stats): Promise<void> {
    const full = join(this.root, path)
    const target = await explained(full, () => fs.readlink(full))
    if (path === 'pg_wal') return this.#walLink(stat, target)
    const oid = /^pg_tblspc\/(\d+)$/.exec(path)?.[1]
    if (oid !== undefined && this.#options.linked.has(Number(oid))) {
      const { dev } = await explained(full, () => fs.stat(full))
      const own = `PG_${this.#options.major}_`
      return this.#walk(path, dev, (name) => name.startsWith(own))
    }
    if (oid !== undefined) {
      const real = await explained(full, () => realOrNothing(full))
      if (real !== undefined) {
        await this.#refuseRelations(full, real)
        this.unlinked.set(path, target)
      }
    } else if (this.#options.leftOut.has(path)) return
    else if (!isWithin(this.root, resolve(dirname(full), target))) {
      throw refused(
        `${full} is a link to ${target}, and the backup has no such link`,
        `nothing is removed through it: remove the link itself, rm ${shellWord(full)}, or give it another place`,
      )
    }
    this.#add(path, 'link', stat)
  }

  /**
   * Refuses to leave files of relations in a directory whose tablespace goes. A recovery that comes to its CREATE TABLESPACE
   * takes the folder as it finds it (create_tablespace_directories in tablespace.c), and files that are there for the new ones.
   */
  async #refuseRelations(link: string, directory: string): Promise<void> {
    // What lies in the data directory goes, too.
    if (isWithin(this.root, directory)) return
    const own = `PG_${this.#options.major}_`
    const names = await explained(directory, () => this.#names(directory))
    for (const name of names.filter((each) => each.startsWith(own))) {
      const folder = join(directory, name)
      const content = await explained(folder, () => this.#names(folder))
      if (content.length === 0) continue
      const aside = join(directory, `old.${name}`)
      throw refused(
        `${link} is the link of a tablespace that is not in the backup or goes elsewhere, and ${folder} holds files: ` +
          'a recovery that makes the tablespace again would take them for its own',
        `if no other server uses it, move it aside: mv ${shellWord(folder)} ${shellWord(aside)}`,
      )
    }
  }

  async #walLink(stat: Stats, target: string): Promise<void> {
    const full = join(this.root, 'pg_wal')
    const { walDirectory } = this.#options
    const real = await fs.realpath(full).catch(() => undefined)
    const wanted = walDirectory === undefined ? real : await fs.realpath(walDirectory).catch(() => undefined)
    if (walDirectory !== undefined && (real === undefined || real !== wanted)) return this.#add('pg_wal', 'link', stat)
    if (real === undefined) {
      throw refused(
        `${full} is a link to ${target}, which is not there`,
        'make that directory, or remove the link and give --waldir',
      )
    }
    for (const name of await explained(real, () => this.#names(real))) {
      if (!walEntry.test(name))
        throw refused(`${full} is a link to ${target}, which holds ${name}: that is no WAL`, `move it elsewhere`)
    }
    this.isWalLinked = true
    const { dev, mode } = await explained(full, () => fs.stat(full))
    this.entries.push({ path: 'pg_wal', kind: 'directory', size: 0, mode: mode & 0o7777 })
    await this.#walk('pg_wal', dev, (name) => name !== 'lost+found')
  }
}

/** Undefined for a link that leads nowhere. */
async function realOrNothing(link: string): Promise<string | undefined> {
  try {
    return await fs.realpath(link)
  } catch (error) {
    if (['ENOENT', 'ENOTDIR', 'ELOOP'].includes((error as NodeJS.ErrnoException).code ?? '')) return undefined
    throw error
  }
}

/** True for the directory itself, too. */
function isWithin(directory: string, path: string): boolean {
  return !/^\.\.(\/|$)/.test(relative(directory, path))
}

async function explained<T>(path: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work()
  } catch (error) {
    if (error instanceof WalrxError) throw error
    throw new WalrxError('WALRX_RESTORE_FAILED', `${path} cannot be read: ${(error as Error).message}`, {
      cause: error,
    })
  }
}

function refused(message: string, hint: string): WalrxError {
  return new WalrxError('WALRX_RESTORE_FAILED', message, { hint })
}
