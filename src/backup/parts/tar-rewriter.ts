/**
 * The server's archives, entry by entry, as entries of WAL-G's parts (docs/walg-format.md, 5.5): names get the leading
 * slash of WAL-G's local backups, tablespaces come below `/pg_tblspc/<oid>/`, the data directory itself is an entry,
 * and pg_control, backup_label and tablespace_map are set aside, because readers want them in tars of their own.
 * Increments become WAL-G's, under the name of the file that they are of.
 */
import { WalrxError } from '../../primitives/errors.ts'
import type { BackupTablespace } from '../../postgres/backup/base-backup-sink.ts'
import { incrementedPath } from '../../postgres/relations/relation-file.ts'
import type { FileRecord } from '../../walg/backup/files-metadata.ts'
import type { BackupTree } from '../../walg/backup/backup-contents.ts'
import type { EntryPlacer, EntryTarget } from './entry-target.ts'
import { IncrementEntry, type ReceivedIncrement } from './increment-entry.ts'
import { formatHeader, paddingOf, parseServerHeader, type ServerTarEntry, tarBlockBytes } from './tar-header.ts'

/** Files that are set aside, with their names in the part where readers look for them. */
export interface AsideFile {
  /** `/global/pg_control`, `backup_label`, `tablespace_map`: exactly so (docs/walg-format.md, 5.6). */
  readonly name: string
  readonly mode: number
  readonly mtime: number
  readonly content: Buffer
}

/** What an incremental backup builds on, as far as the names of its entries go. */
export interface EntryNames {
  /** In front of names: `/` as WAL-G's local backups have it, '' as its remote ones and those of WAL-RUS have it. */
  readonly prefix: '/' | ''
  /** True for an entry that the parent has: only of such may there be an increment. */
  has(name: string): boolean
}

/** By the server's name in the archive of the data directory. */
const asideNames = new Map([
  ['global/pg_control', '/global/pg_control'],
  ['backup_label', 'backup_label'],
  ['tablespace_map', 'tablespace_map'],
])

/** They are held in memory; a tablespace_map has a line for each tablespace. */
const asideBytesMax = 16 * 1024 * 1024

/** See the file's header. */
export class TarRewriter {
  /** Regular files of the parts, by the names of their entries. */
  readonly files = new Map<string, FileRecord>()
  readonly aside = new Map<string, AsideFile>()
  /** Increments that have come whole, by the server's own paths of them: those of its manifest. */
  readonly increments = new Map<string, ReceivedIncrement>()
  readonly #placer: EntryPlacer
  readonly #parent: EntryNames | undefined
  readonly #directories = new Map<string, number>()
  /** Of the first file; undefined before there is one. */
  #fileMode: number | undefined
  /** Of files with another one. */
  readonly #modes = new Map<string, number>()
  /** Of the server's paths: '' or `pg_tblspc/<oid>/`. */
  #folder = ''
  #isMain = false
  #hasRoot = false
  readonly #block = Buffer.alloc(tarBlockBytes)
  #blockFilled = 0
  /** Bytes of the body, and of its padding, still to come. */
  #bodyLeft = 0
  #paddingLeft = 0
  #target: EntryTarget | undefined
  #entryName = ''

  /** @param parent undefined for a full backup */
  constructor(placer: EntryPlacer, parent?: EntryNames) {
    this.#placer = placer
    this.#parent = parent
  }

  /** Directories, and modes, of what has come so far. */
  get tree(): BackupTree {
    return { fileMode: this.#fileMode ?? 0o600, modes: this.#modes, directories: this.#directories }
  }

  get #prefix(): string {
    return (this.#parent?.prefix ?? '/') + this.#folder
  }

  /** The next archive begins. Throws WALRX_PROTOCOL when the one before was cut short. */
  beginArchive(tablespace: BackupTablespace): void | Promise<void> {
    this.end()
    this.#entryName = ''
    this.#isMain = tablespace.oid === undefined
    this.#folder = this.#isMain ? '' : `pg_tblspc/${tablespace.oid}/`
    const isInPlace = !this.#isMain && !tablespace.location.startsWith('/')
    // A tablespace in place is a directory below pg_tblspc; 14 and 15 send it with the data directory.
    if (isInPlace) return this.#directory(this.#prefix.slice(0, -1), 0o700, Math.floor(Date.now() / 1000))
  }

  /** Bytes of the archive. They are copied, or used up when the returned promise resolves. */
  feed(bytes: Buffer): void | Promise<void> {
    let at = 0
    while (at < bytes.length) {
      const rest = bytes.subarray(at)
      const taken = Math.min(rest.length, this.#wanted())
      at += taken
      const busy = this.#take(rest.subarray(0, taken))
      if (busy) {
        const left = bytes.subarray(at)
        return busy.then(() => this.feed(left))
      }
    }
  }

  /** The archive has ended. Throws WALRX_PROTOCOL when it ended within an entry. */
  end(): void {
    const isWithinBody = this.#bodyLeft > 0 || this.#paddingLeft > 0
    if (!isWithinBody && this.#blockFilled === 0) return
    const header = this.#entryName === '' ? 'its first header' : `the header after ${this.#entryName}`
    throw new WalrxError(
      'WALRX_PROTOCOL',
      `the server ended an archive within ${isWithinBody ? this.#entryName : header}`,
    )
  }

  /** How many bytes belong together from here on. */
  #wanted(): number {
    if (this.#bodyLeft > 0) return this.#bodyLeft
    if (this.#paddingLeft > 0) return this.#paddingLeft
    return tarBlockBytes - this.#blockFilled
  }

  #take(bytes: Buffer): void | Promise<void> {
    if (this.#bodyLeft > 0) {
      this.#bodyLeft -= bytes.length
      return this.#target?.append(bytes)
    }
    if (this.#paddingLeft > 0) {
      this.#paddingLeft -= bytes.length
      return this.#target?.append(bytes)
    }
    bytes.copy(this.#block, this.#blockFilled)
    this.#blockFilled += bytes.length
    if (this.#blockFilled < tarBlockBytes) return
    this.#blockFilled = 0
    const entry = parseServerHeader(this.#block)
    if (entry) return this.#onEntry(entry)
  }

  #onEntry(entry: ServerTarEntry): void | Promise<void> {
    const name = entry.name.replace(/^(\.\/)+/, '').replace(/\/+$/, '')
    this.#entryName = name
    if (name === '' || name.startsWith('/') || name.split('/').includes('..')) {
      throw new WalrxError('WALRX_PROTOCOL', `the server sent a file named "${entry.name}"`)
    }
    if (entry.kind === 'directory') {
      const own = () => this.#directory(this.#prefix + name, entry.mode, entry.mtime)
      if (!this.#isMain || this.#hasRoot) return own()
      // The server says nothing of the data directory itself; what lies in it has its mode.
      this.#hasRoot = true
      const busy = this.#directory('/', entry.mode, entry.mtime)
      return busy ? busy.then(own) : own()
    }
    // A tablespace's: a restore creates it again, from the sentinel (docs/walg-format.md, 5.7).
    if (entry.kind === 'symlink' && this.#isMain && /^pg_tblspc\/\d+$/.test(name)) return
    if (entry.kind === 'symlink') {
      throw new WalrxError('WALRX_PROTOCOL', `the server sent "${name}" as a symbolic link, which no backup can hold`)
    }
    this.#noteMode(this.#folder + name, entry.mode & 0o7777)
    this.#bodyLeft = entry.size
    this.#paddingLeft = paddingOf(entry.size)
    const aside = this.#isMain ? asideNames.get(name) : undefined
    if (aside !== undefined) return this.#setAside(aside, entry)
    const incremented = this.#parent && incrementedPath(this.#folder + name)
    if (incremented !== undefined) return this.#increment(this.#folder + name, incremented, entry)
    return this.#file(this.#prefix + name, entry)
  }

  #directory(name: string, mode: number, mtime: number): void | Promise<void> {
    this.#directories.set(name.replace(/^\//, ''), mode & 0o7777)
    const header = formatHeader({ name, kind: 'directory', size: 0, mode, mtime })
    const placed = this.#placer.place(undefined, header.length)
    return placed instanceof Promise ? placed.then((target) => target.append(header)) : placed.append(header)
  }

  #noteMode(sentAs: string, mode: number): void {
    this.#fileMode ??= mode
    if (mode !== this.#fileMode) this.#modes.set((this.#parent && incrementedPath(sentAs)) ?? sentAs, mode)
  }

  #list(name: string, mtime: number, isIncremented: boolean): void {
    if (this.files.has(name)) throw new WalrxError('WALRX_PROTOCOL', `the server sent ${name} twice`)
    const time = new Date(mtime * 1000).toISOString().replace('.000Z', 'Z')
    this.files.set(name, { isIncremented, isSkipped: false, mtime: time })
  }

  /**
   * @param sentAs the server's path of it
   * @param path the file that it is of
   */
  #increment(sentAs: string, path: string, header: ServerTarEntry): void {
    const name = (this.#parent?.prefix ?? '/') + path
    if (this.#parent?.has(name) !== true) {
      throw new WalrxError(
        'WALRX_PROTOCOL',
        `the server sent ${sentAs}, and the backup that it builds on has no ${name}`,
      )
    }
    this.#list(name, header.mtime, true)
    const onWhole = (received: ReceivedIncrement) => this.increments.set(sentAs, received)
    this.#target = new IncrementEntry({ placer: this.#placer, name, header, onWhole })
  }

  #file(name: string, { mode, mtime, size }: ServerTarEntry): void | Promise<void> {
    this.#list(name, mtime, false)
    const header = formatHeader({ name, kind: 'file', size, mode, mtime })
    const begin = (target: EntryTarget) => {
      this.#target = target
      return target.append(header)
    }
    const placed = this.#placer.place(name, header.length + size + paddingOf(size))
    return placed instanceof Promise ? placed.then(begin) : begin(placed)
  }

  #setAside(name: string, { mode, mtime, size }: ServerTarEntry): void {
    if (this.aside.has(name)) throw new WalrxError('WALRX_PROTOCOL', `the server sent ${name} twice`)
    if (size > asideBytesMax) throw new WalrxError('WALRX_PROTOCOL', `the server sent a ${name} of ${size} bytes`)
    const content = Buffer.alloc(size)
    let filled = 0
    this.aside.set(name, { name, mode, mtime, content })
    this.#target = {
      append: (bytes) => {
        // What is beyond is padding.
        const own = bytes.subarray(0, size - filled)
        content.set(own, filled)
        filled += own.length
      },
    }
  }
}
