/**
 * Objects as files below a directory, in WAL-G's layout (docs/walg-format.md, 1.6): the object `a/b` is the file
 * `<root>/a/b`.
 *
 * A file is written under a hidden name in the same directory, synced, renamed, and then the directory is synced. So
 * after any crash an object is complete or absent, and a finished put survives a power failure. Directories are created
 * when needed, but never the root: it may be the mount point of a disk that is not mounted.
 */
import type { FileHandle } from 'node:fs/promises'
import { dirname, join, relative, resolve } from 'node:path'
import type { Keyring } from '../../crypto/keyring.ts'
import { type Clock, systemClock } from '../../primitives/clock.ts'
import { WalrxError } from '../../primitives/errors.ts'
import { abortable } from '../abortable.ts'
import { checkKey, checkPrefix } from '../keys.ts'
import { proveStorage } from '../probe.ts'
import { SourceError } from '../source.ts'
import type {
  ChunkBuffers,
  DeleteOptions,
  DeletionLinks,
  GetOptions,
  ListOptions,
  ObjectInfo,
  Storage,
  StorageBody,
  StorageCallOptions,
  StorageFolders,
  StorageTraits,
  SweepOptions,
  SweptFiles,
} from '../storage.ts'
import { isTempName } from '../temp-name.ts'
import { FileBody, readFlags } from './file-body.ts'
import { type FileTask, fileError, missingRoot } from './file-errors.ts'
import { FileLinks } from './file-links.ts'
import { walkObjects } from './file-listing.ts'
import type { FileStorageOptions } from './file-options.ts'
import { type FileSystem, errnoOf, isAbsence, lstatOrNothing, nodeFileSystem, objectInfo } from './file-system.ts'
import { FileWriter } from './file-writer.ts'
import { staleTempMs, UnfinishedFiles } from './unfinished-files.ts'

/** How long `close` waits until aborted writes have removed their unfinished files. */
const CLOSE_WAIT_MS = 5000

/**
 * A storage in a directory.
 *
 * A process may be killed after a rename and before the sync of the directory, and a listing shows such a file. So
 * {@link FileStorage.probe} syncs the folder of segments: every segment that a writer lists after its probe is durable.
 */
export class FileStorage implements Storage {
  readonly location: string
  readonly keyring: Keyring | undefined
  readonly hasCheapHeads = true
  /** A chunk is in the file before the next one is read. */
  readonly releasesChunks = true
  readonly #root: string
  /** The directory of the objects: the root, or the prefix in it. */
  readonly #base: string
  readonly #fs: FileSystem
  readonly #clock: Clock
  readonly #writer: FileWriter
  readonly #options: FileStorageOptions
  readonly #folders: StorageFolders
  readonly #links: FileLinks
  readonly #unfinished: UnfinishedFiles
  /** Running writes, also aborted ones that are still cleaning up. */
  readonly #writes = new Set<Promise<unknown>>()

  constructor(options: FileStorageOptions) {
    this.#root = resolve(options.root)
    this.#base = join(this.#root, (options.prefix ?? '').replace(/^\/+|\/+$/g, ''))
    this.location = `file://${this.#base}`
    this.keyring = options.keyring
    this.#fs = options.fileSystem ?? nodeFileSystem
    this.#clock = options.clock ?? systemClock
    this.#options = options
    this.#folders = options.folders
    const { deletion, fsync = true } = options
    const [fs, base, ownFolders] = [this.#fs, this.#base, options.folders.own]
    this.#writer = new FileWriter({ fs, root: this.#root, fsync, clock: this.#clock })
    this.#links = new FileLinks({ fs, base, ownFolders, deletion })
    const [remove, removeEmpty] = [(path: string) => this.#remove(path), (path: string) => this.#removeEmpty(path)]
    this.#unfinished = new UnfinishedFiles({ fs, base, ownFolders, writer: this.#writer, remove, removeEmpty })
  }

  forDeletion(deletion: DeletionLinks): FileStorage {
    return new FileStorage({ ...this.#options, deletion })
  }

  async put(key: string, body: StorageBody, { signal }: StorageCallOptions = {}): Promise<void> {
    refuseHidden(key)
    const path = this.#path(key)
    await this.#call('put', key, signal, () => this.#kept(this.#writer.replace(path, body, signal)))
  }

  /** Atomic where the file system has hard links; else see {@link FileWriter}. */
  async putIfAbsent(key: string, body: Uint8Array, { signal }: StorageCallOptions = {}): Promise<'created' | 'exists'> {
    refuseHidden(key)
    const path = this.#path(key)
    return await this.#call('put', key, signal, () => this.#kept(this.#writer.create(path, body, signal)))
  }

  /** Syncs the file, its directory and those above it. */
  async makeDurable(key: string, { signal }: StorageCallOptions = {}): Promise<void> {
    const path = this.#path(key)
    await this.#call('put', key, signal, () => this.#kept(this.#writer.syncExisting(path)))
  }

  async get(key: string, { buffers, signal }: GetOptions = {}): Promise<AsyncIterable<Uint8Array>> {
    const path = this.#path(key)
    const body = await this.#call('get', key, signal, async () => {
      if (isTempName(key)) return undefined
      const handle = await this.#orAbsent(path, this.#fs.open(path, readFlags))
      return handle && (await this.#bodyOf(handle, this.#task('get', key), signal, buffers))
    })
    if (body !== undefined) return body
    throw new WalrxError('WALRX_OBJECT_NOT_FOUND', `there is no object ${key} at ${this.location}`)
  }

  async head(key: string, { signal }: StorageCallOptions = {}): Promise<ObjectInfo | undefined> {
    const path = this.#path(key)
    return await this.#call('head', key, signal, async () => {
      const stats = isTempName(key) ? undefined : await this.#orAbsent(path, this.#fs.stat(path))
      return stats?.isFile() ? objectInfo(key, stats) : undefined
    })
  }

  async *list(prefix: string, options: ListOptions = {}): AsyncIterable<ObjectInfo> {
    for await (const page of this.listPages(prefix, options)) {
      for (const object of page) {
        yield object
        options.signal?.throwIfAborted()
      }
    }
  }

  async *listPages(prefix: string, options: ListOptions = {}): AsyncIterable<readonly ObjectInfo[]> {
    const { linksAsObjects = false, signal, startAfter } = options
    checkPrefix(prefix)
    signal?.throwIfAborted()
    const walk = { fs: this.#fs, root: this.#base, links: this.#links, nameBytes: this.#options.listNameBytes }
    try {
      yield* walkObjects({ ...walk, prefix, startAfter, signal, linksAsObjects })
    } catch (error) {
      if (signal?.aborted) throw error
      const task = this.#task('list', prefix)
      // Without the folder of the prefix there are no such objects, if the folder is really absent.
      if (isAbsence(error))
        await this.#call('list', prefix, signal, () => this.#confirmAbsence(dirname(`${this.#base}/${prefix}x`)))
      else throw await this.#explain(error, task)
    }
  }

  async removeUnfinished(prefix: string, { signal }: StorageCallOptions = {}): Promise<void> {
    checkPrefix(prefix)
    const folder = resolve(this.#base, prefix)
    await this.#call('delete', prefix, signal, () => this.#unfinished.removeBelow(folder, Infinity, signal))
  }

  async sweepUnfinished(options: SweepOptions): Promise<SweptFiles> {
    return await this.#call('delete', '', options.signal, () => this.#unfinished.sweep(options))
  }

  async delete(keys: readonly string[], { onRefused, signal }: DeleteOptions = {}): Promise<void> {
    const paths = keys.map((key) => [key, this.#path(key)] as const)
    const task = `${keys.length} objects`
    await this.#call('delete', keys.length === 1 ? keys[0]! : task, signal, async () => {
      const directories = new Set<string>()
      const checked = new Map<string, WalrxError | undefined>()
      for (const [key, path] of paths) {
        signal?.throwIfAborted()
        if (isTempName(path)) continue
        try {
          await this.#links.refuseThrough(path, checked)
          if (await this.#links.removing(path, () => this.#remove(path))) directories.add(dirname(path))
        } catch (error) {
          const reason = fileError(error, this.#task('delete', key))
          if (onRefused === undefined || reason.code !== 'WALRX_STORAGE_DENIED') throw error
          onRefused(key, reason)
        }
      }
      for (const directory of directories) await this.#removeEmpty(directory)
    })
  }

  /** Also syncs the durable folder, and removes unfinished files older than a day from it and from the swept one. */
  async probe({ signal }: StorageCallOptions = {}): Promise<StorageTraits> {
    await this.#call('probe', this.#folders.durable, signal, async () => {
      await this.#checkRoot()
      const staleMs = this.#clock.now() - staleTempMs
      const durable = join(this.#base, this.#folders.durable)
      await this.#orAbsent(durable, this.#unfinished.removeFrom(durable, staleMs, signal))
      await this.#unfinished.removeBelow(join(this.#base, this.#folders.swept), staleMs, signal)
      await this.#writer.syncDirectory(this.#root)
    })
    const { conditionalPut } = await proveStorage(
      {
        location: this.location,
        put: this.put.bind(this),
        get: this.get.bind(this),
        list: this.list.bind(this),
        delete: this.delete.bind(this),
        createBare: this.putIfAbsent.bind(this),
      },
      this.#folders.probe,
      signal ? { signal } : {},
    )
    return { conditionalPut: conditionalPut && this.#writer.hasLinks }
  }

  /** Waits for aborted writes, which must remove their unfinished files before the process ends. */
  async close(): Promise<void> {
    const waited = new AbortController()
    const timer = setTimeout(() => waited.abort(), CLOSE_WAIT_MS)
    await abortable(Promise.allSettled(this.#writes), waited.signal).catch(() => {})
    clearTimeout(timer)
  }

  /** Removes an empty directory, and so on upwards, but not the archive's own folders. */
  async #removeEmpty(directory: string): Promise<void> {
    const [folder = ''] = relative(this.#base, directory).split('/')
    await this.#writer.removeEmpty(resolve(directory), join(this.#base, folder))
  }

  #path(key: string): string {
    checkKey(key)
    return join(this.#base, key)
  }

  #task(operation: string, key: string): FileTask {
    return { operation, key, location: this.location }
  }

  /** Does the work, translates its errors, and ends at once when the signal aborts. */
  async #call<T>(operation: string, key: string, signal: AbortSignal | undefined, work: () => Promise<T>): Promise<T> {
    signal?.throwIfAborted()
    try {
      return await abortable(work(), signal)
    } catch (error) {
      signal?.throwIfAborted()
      throw await this.#explain(error, this.#task(operation, key))
    }
  }

  #kept<T>(write: Promise<T>): Promise<T> {
    this.#writes.add(write)
    const forget = () => void this.#writes.delete(write)
    write.then(forget, forget)
    return write
  }

  async #explain(error: unknown, task: FileTask): Promise<unknown> {
    if (error instanceof SourceError) return error.error
    if (!isAbsence(error)) return fileError(error, task)
    try {
      await this.#confirmAbsence(join(this.#base, task.key))
    } catch (problem) {
      return fileError(problem, task)
    }
    return fileError(error, task)
  }

  async #checkRoot(): Promise<void> {
    const stats = await this.#fs.stat(this.#root).catch((error: unknown) => {
      if (isAbsence(error)) throw missingRoot(this.#root, 'does not exist', error)
      throw error
    })
    if (!stats.isDirectory()) throw missingRoot(this.#root, 'is not a directory')
  }

  /** The result of a system call on `path`; undefined when nothing exists there, which is then certain. */
  async #orAbsent<T>(path: string, answer: Promise<T>): Promise<T | undefined> {
    try {
      return await answer
    } catch (error) {
      if (!isAbsence(error)) throw error
      await this.#confirmAbsence(path)
      return undefined
    }
  }

  /**
   * Resolves when `path` is really absent.
   * @throws WALRX_STORAGE_MISSING when the root, or the target of a link on the way, is missing: then nothing is
   * certain
   */
  async #confirmAbsence(path: string): Promise<void> {
    for (let at = path; at.length > this.#root.length; at = dirname(at)) {
      if ((await lstatOrNothing(this.#fs, at)) === undefined) continue
      await this.#links.refuseBroken(at)
      return
    }
    await this.#checkRoot()
  }

  async #bodyOf(
    handle: FileHandle,
    task: FileTask,
    signal: AbortSignal | undefined,
    buffers: ChunkBuffers | undefined,
  ): Promise<FileBody | undefined> {
    try {
      const stats = await handle.stat()
      // After an abort nobody would read or close it.
      if (stats.isFile() && !signal?.aborted) return new FileBody(handle, stats.size, task, signal, buffers)
    } catch (error) {
      await handle.close()
      throw error
    }
    await handle.close()
    return undefined
  }

  async #remove(path: string): Promise<boolean> {
    try {
      await this.#fs.unlink(path)
      return true
    } catch (error) {
      // A folder is not an object, so there is nothing to remove.
      if (errnoOf(error) === 'EISDIR') return false
      if (!isAbsence(error)) throw error
      await this.#confirmAbsence(path)
      return false
    }
  }
}

/** Readers would never see an object with such a name. */
function refuseHidden(key: string): void {
  if (isTempName(key))
    throw new WalrxError('WALRX_INTERNAL', `${key} is the name of an unfinished file, not of an object`)
}
