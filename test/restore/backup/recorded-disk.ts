/**
 * What a power cut leaves of a directory: a record of all calls that change something below it, and every state that the
 * disk can be in at any moment. Of what no fsync has covered each change may be on the disk or not, whatever the order.
 *
 * The calls of node:fs/promises are replaced for the whole process, so that none goes unseen, and the synchronous ones of
 * node:fs with the two that sync a descriptor. What is not known here throws.
 */
import callbacks from 'node:fs'
import fs, { type FileHandle } from 'node:fs/promises'
import { syncBuiltinESMExports } from 'node:module'
import { dirname, join, normalize, relative } from 'node:path'
import { type Change, choicesOf, type Node } from './recorded-changes.ts'

/** A moment: a change may be on the disk once it has begun; a sync covers those that have ended when it begins. */
type Moment = { readonly call: string } & (
  | { readonly kind: 'begins'; readonly change: Change }
  | { readonly kind: 'ends'; readonly change: Change }
  | { readonly kind: 'sync begins'; readonly node: Node; readonly sync: object }
  | { readonly kind: 'sync ends'; readonly sync: object }
)

/** What is left, by path: a directory, a link, or a file with the number of its lost changes. */
export type Left = ReadonlyMap<string, string>

/** One thing that can be left. */
export interface Cut {
  /** The call at which the power failed. */
  readonly call: string
  readonly left: Left
}

type AnyFunction = (...args: never[]) => Promise<unknown>

/** Calls that change nothing. */
const reading = ['access', 'lstat', 'opendir', 'readdir', 'readFile', 'readlink', 'realpath', 'stat'] as const

/** Methods of a handle that change the file; all others that are not named in `openRecorded` are left as they are. */
const writing = ['write', 'writeFile', 'truncate', 'chmod', 'utimes', 'writev', 'appendFile'] as const

/** Synchronous calls that change nothing, or only a descriptor that is not recorded. */
const readingSync =
  /^(access|exists|fstat|lstat|open(dir)?|readdir|read|readFile|readlink|readv|realpath|stat|statfs|close)Sync$/

/** Synchronous calls that change the file of a descriptor. A sequence of writes has one name, whatever it is made of. */
const writingSync = {
  writeSync: 'writev',
  writevSync: 'writev',
  ftruncateSync: 'truncate',
  fchmodSync: 'chmod',
} as const

const real = { ...fs }
const realCallbacks = { ...callbacks }

type SyncFunction = (...args: never[]) => unknown

/** See the file's header. Stops recording when it is disposed of. */
export class RecordedDisk implements Disposable {
  /** Called ahead of each change and each sync (`sync data`, `open data/x`); what it throws is what the call answers. */
  before: (call: string) => void = () => {}
  readonly #root: string
  readonly #top: Node
  readonly #moments: Moment[] = []
  /** Files that were opened synchronously. */
  readonly #descriptors = new Map<number, { readonly node: Node; readonly path: string }>()
  /** Functions of node:fs that were replaced. */
  readonly #replaced: string[] = []
  #nodes = 0

  /** @param root an empty directory, which is durable */
  constructor(root: string) {
    this.#root = root
    this.#top = this.#node('directory')
    const replaced: Record<string, AnyFunction> = {
      chmod: (path: string, mode: number) => {
        const node = this.#find(path)
        return this.#changed(node && { node, entries: [] }, `chmod ${this.#short(path)}`, () => real.chmod(path, mode))
      },
      mkdir: (path: string, options?: { recursive?: boolean }) => this.#mkdir(path, options),
      open: (path: string, flags: string | number, mode?: number) => this.#open(path, flags, mode),
      rename: (from: string, to: string) => this.#rename(from, to),
      rmdir: (path: string) => this.#unlink(path, () => real.rmdir(path)),
      rm: (path: string, options: object) => this.#unlink(path, () => real.rm(path, options)),
      symlink: (target: string, path: string) => {
        const node = this.#node('link', target)
        return this.#changed(this.#entry(path, node), `symlink ${this.#short(path)}`, () => real.symlink(target, path))
      },
      unlink: (path: string) => this.#unlink(path, () => real.unlink(path)),
      writeFile: async (path: string, content: string) => {
        const handle = await this.#open(path, 'w')
        try {
          await handle.writeFile(content)
        } finally {
          await handle.close()
        }
      },
    }
    for (const [name, original] of Object.entries(real)) {
      if (typeof original !== 'function' || (reading as readonly string[]).includes(name)) continue
      const recorded = (replaced[name] ??
        (() => Promise.reject(new Error(`fs.${name} is not recorded`)))) as AnyFunction
      const isOurs = (args: readonly unknown[]) => args.slice(0, 2).some((arg) => this.#holds(arg))
      const either = (...args: never[]) => (isOurs(args) ? recorded(...args) : (original as AnyFunction)(...args))
      Object.assign(fs, { [name]: either })
    }
    this.#replaceSync()
    syncBuiltinESMExports()
  }

  [Symbol.dispose](): void {
    Object.assign(fs, real)
    for (const name of this.#replaced)
      Object.assign(callbacks, { [name]: realCallbacks[name as keyof typeof realCallbacks] })
    syncBuiltinESMExports()
  }

  #replaceSync(): void {
    const descriptors = this.#descriptors
    const replaced: Record<string, SyncFunction> = {
      openSync: (path: string, flags: string | number, mode?: number) => this.#openSync(path, flags, mode),
      closeSync: (descriptor: number) => {
        descriptors.delete(descriptor)
        realCallbacks.closeSync(descriptor)
      },
    }
    for (const [name, original] of Object.entries(realCallbacks)) {
      if (typeof original !== 'function' || !name.endsWith('Sync')) continue
      const isRead = readingSync.test(name)
      const call = writingSync[name as keyof typeof writingSync] as string | undefined
      const recorded = (...args: never[]) => {
        const file = typeof args[0] === 'number' ? descriptors.get(args[0]) : undefined
        if (replaced[name] && (file || this.#holds(args[0]))) return replaced[name](...args)
        const work = () => (original as SyncFunction)(...args)
        if (file && call !== undefined) {
          return this.#changedSync({ node: file.node, entries: [] }, `${call} ${this.#short(file.path)}`, work)
        }
        const isOurs = file !== undefined || (args as readonly unknown[]).slice(0, 2).some((arg) => this.#holds(arg))
        if (isOurs && !isRead) throw new Error(`fs.${name} is not recorded`)
        return work()
      }
      this.#replaced.push(name)
      Object.assign(callbacks, { [name]: recorded })
    }
    for (const name of ['fsync', 'fdatasync'] as const) {
      const recorded = (descriptor: number, done: (error: NodeJS.ErrnoException | null) => void) => {
        const file = descriptors.get(descriptor)
        if (!file) return realCallbacks[name](descriptor, done)
        const call = `sync ${this.#short(file.path)}`
        const synced = this.#synced(
          file.node,
          call,
          () =>
            new Promise<void>((resolve, reject) => {
              realCallbacks[name](descriptor, (error) => (error ? reject(error) : resolve()))
            }),
        )
        synced.then(() => done(null), done)
      }
      this.#replaced.push(name)
      Object.assign(callbacks, { [name]: recorded })
    }
  }

  /** Calls of fsync so far, by path. */
  get syncs(): string[] {
    return this.#moments.flatMap(({ call, kind }) => (kind === 'sync begins' ? [call.slice('sync '.length)] : []))
  }

  /** What is there now. */
  get present(): Left {
    return this.#leftOf((node) => node.entries, new Map())
  }

  /**
   * What can be left at each moment so far: of what no fsync has covered nothing, all, one change only, all but one. The
   * last of them is what is left when the power fails now and nothing is on the disk but what must be.
   */
  *cuts(): Generator<Cut, undefined> {
    const begun: Change[] = []
    const ended = new Set<Change>()
    const durable = new Set<Change>()
    const covered = new Map<object, readonly Change[]>()
    for (const moment of this.#moments) {
      if (moment.kind === 'ends') ended.add(moment.change)
      else if (moment.kind === 'sync begins') {
        const own = [...ended].filter((each) => each.node === moment.node)
        covered.set(moment.sync, own)
      } else {
        if (moment.kind === 'begins') begun.push(moment.change)
        else for (const each of covered.get(moment.sync) ?? []) durable.add(each)
        for (const isThere of choicesOf(begun.filter((each) => !durable.has(each)))) {
          const applied = begun.filter((change) => durable.has(change) || isThere(change))
          yield { call: moment.call, left: this.#leftBy(applied) }
        }
      }
    }
    yield { call: 'the end', left: this.#leftBy([...durable]) }
  }

  /** What is there once these changes are made, and all others are lost. */
  #leftBy(applied: readonly Change[]): Left {
    const lacking = this.#counts()
    const folders = new Map<Node, Map<string, Node>>()
    for (const { node, entries } of applied) {
      if (entries.length === 0) lacking.set(node, lacking.get(node)! - 1)
      const names = folders.get(node) ?? new Map<string, Node>()
      folders.set(node, names)
      for (const [name, other] of entries) {
        if (other) names.set(name, other)
        else names.delete(name)
      }
    }
    return this.#leftOf((node) => node.entries && (folders.get(node) ?? new Map<string, Node>()), lacking)
  }

  /** How often content or mode of each was changed. */
  #counts(): Map<Node, number> {
    const counts = new Map<Node, number>()
    for (const moment of this.#moments) {
      if (moment.kind !== 'begins' || moment.change.entries.length > 0) continue
      counts.set(moment.change.node, (counts.get(moment.change.node) ?? 0) + 1)
    }
    return counts
  }

  #leftOf(
    entriesOf: (node: Node) => ReadonlyMap<string, Node> | undefined,
    lacking: ReadonlyMap<Node, number>,
  ): Map<string, string> {
    const left = new Map<string, string>()
    const visit = (node: Node, path: string) => {
      for (const [name, child] of entriesOf(node) ?? []) {
        const kind = child.entries
          ? 'directory'
          : child.target === undefined
            ? `file ${child.id}`
            : `to ${child.target}`
        const lost = lacking.get(child) ?? 0
        left.set(join(path, name), lost === 0 ? kind : `${kind}, ${lost} changes lost`)
        visit(child, join(path, name))
      }
    }
    visit(this.#top, '')
    return left
  }

  #node(kind: 'file' | 'directory' | 'link', target?: string): Node {
    return { id: this.#nodes++, entries: kind === 'directory' ? new Map() : undefined, target }
  }

  #holds(path: unknown): path is string {
    return typeof path === 'string' && (path === this.#root || path.startsWith(`${this.#root}/`))
  }

  #short(path: string): string {
    return relative(this.#root, path) || '.'
  }

  /** What lies at a path, links followed. */
  #find(path: string): Node | undefined {
    let node: Node | undefined = this.#top
    for (const name of relative(this.#root, normalize(path)).split('/').filter(Boolean)) {
      node = node?.entries?.get(name)
      if (node?.target !== undefined) node = this.#find(node.target)
    }
    return node
  }

  /** The change that a name gets another meaning; undefined where there is no such directory. */
  #entry(path: string, node: Node | undefined): Change | undefined {
    const folder = this.#find(dirname(path))
    return folder && { node: folder, entries: [[path.slice(path.lastIndexOf('/') + 1), node]] }
  }

  async #changed<T>(change: Change | undefined, call: string, work: () => Promise<T>): Promise<T> {
    this.before(call)
    if (!change) return await work()
    const moment = this.#begin(change, call)
    const result = await work().catch((error: unknown) => {
      this.#moments.splice(this.#moments.indexOf(moment), 1)
      throw error
    })
    this.#end(change, call)
    return result
  }

  #changedSync<T>(change: Change | undefined, call: string, work: () => T): T {
    this.before(call)
    if (!change) return work()
    const moment = this.#begin(change, call)
    try {
      const result = work()
      this.#end(change, call)
      return result
    } catch (error) {
      this.#moments.splice(this.#moments.indexOf(moment), 1)
      throw error
    }
  }

  #begin(change: Change, call: string): Moment {
    const moment: Moment = { kind: 'begins', change, call }
    this.#moments.push(moment)
    return moment
  }

  #end(change: Change, call: string): void {
    for (const [name, node] of change.entries) {
      if (node) change.node.entries!.set(name, node)
      else change.node.entries!.delete(name)
    }
    this.#moments.push({ kind: 'ends', change, call })
  }

  async #synced(node: Node, call: string, work: () => Promise<void>): Promise<void> {
    this.before(call)
    const sync = {}
    this.#moments.push({ kind: 'sync begins', node, sync, call })
    await work()
    this.#moments.push({ kind: 'sync ends', sync, call })
  }

  async #mkdir(path: string, options: { recursive?: boolean } = {}): Promise<unknown> {
    if (this.#find(path)) return await real.mkdir(path, options)
    if (options.recursive) await this.#mkdir(dirname(path), options)
    const { recursive: _, ...rest } = options
    return await this.#changed(this.#entry(path, this.#node('directory')), `mkdir ${this.#short(path)}`, () =>
      real.mkdir(path, rest),
    )
  }

  #unlink(path: string, work: () => Promise<void>): Promise<void> {
    const isThere = this.#find(path) !== undefined
    return this.#changed(isThere ? this.#entry(path, undefined) : undefined, `unlink ${this.#short(path)}`, work)
  }

  #rename(from: string, to: string): Promise<void> {
    if (dirname(from) !== dirname(to)) throw new Error('a rename between directories is not recorded')
    const [gone, come] = [this.#entry(from, undefined), this.#entry(to, this.#find(from))]
    const change = gone && come && { node: gone.node, entries: [...gone.entries, ...come.entries] }
    return this.#changed(change, `rename ${this.#short(from)} ${this.#short(to)}`, () => real.rename(from, to))
  }

  async #open(path: string, flags: string | number, mode?: number): Promise<FileHandle> {
    const { change, node } = this.#opening(path, flags)
    const handle = await this.#changed(change, `open ${this.#short(path)}`, () => real.open(path, flags, mode))
    return this.#record(handle, node, path)
  }

  #openSync(path: string, flags: string | number, mode?: number): number {
    const { change, node } = this.#opening(path, flags)
    const work = () => realCallbacks.openSync(path, flags, mode)
    const descriptor = this.#changedSync(change, `open ${this.#short(path)}`, work)
    this.#descriptors.set(descriptor, { node, path })
    return descriptor
  }

  /** What opening a file changes, and the file. */
  #opening(path: string, flags: string | number): { readonly change: Change | undefined; readonly node: Node } {
    const has = (flag: number, letters: RegExp) =>
      typeof flags === 'number' ? (flags & flag) !== 0 : letters.test(flags)
    const there = this.#find(path)
    if (there) return { change: has(fs.constants.O_TRUNC, /w/) ? { node: there, entries: [] } : undefined, node: there }
    const node = this.#node('file')
    return { change: has(fs.constants.O_CREAT, /[wa]/) ? this.#entry(path, node) : undefined, node }
  }

  #record(handle: FileHandle, node: Node, path: string): FileHandle {
    for (const name of writing) {
      const original = handle[name].bind(handle) as AnyFunction
      const recorded = (...args: never[]) =>
        this.#changed({ node, entries: [] }, `${name} ${this.#short(path)}`, () => original(...args))
      Object.assign(handle, { [name]: recorded })
    }
    const call = `sync ${this.#short(path)}`
    for (const name of ['sync', 'datasync'] as const) {
      const original = handle[name].bind(handle)
      const recorded = () => this.#synced(node, call, original)
      Object.assign(handle, { [name]: recorded })
    }
    return handle
  }
}
