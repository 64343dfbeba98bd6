/**
 * Tries what a receiver and backups ask of the store, with objects of a folder of their own under `walrx_005/probe/`. What was
 * written is removed, also after a failure. The store's own probe (storage/probe.ts) comes in between: it is what a start
 * makes.
 */
import { randomBytes } from 'node:crypto'
import { lstat, rmdir, stat, statfs } from 'node:fs/promises'
import { join } from 'node:path'
import type { Clock } from '../../primitives/clock.ts'
import { hasCode, type WalrxError } from '../../primitives/errors.ts'
import { codeOf } from '../../storage/s3/s3-errors.ts'
import type { Storage } from '../../storage/storage.ts'
import { readTrial, storeTrial } from '../../storage/trial-object.ts'
import { archiveFolders, walrxFolder } from '../../walg/names.ts'
import type { ClockReading } from '../clock-finding.ts'
import { attempt, type Attempt, type AttemptOptions, ifSoon, type Lateness } from '../attempt.ts'
import type { DirectoryFacts, ObjectFacts, StorageFacts } from './storage-facts.ts'

/** Where the archive is, besides what a storage says of itself. */
export interface StorePlace {
  /** Undefined for a directory. */
  readonly bucket: StorageFacts['bucket']
  /** The root of a directory, with the folder below it; undefined for a bucket. */
  readonly directory: { readonly root: string; readonly folder: string } | undefined
}

/** Milliseconds for the removal of what a failed check has written. */
const cleanUpMs = 5_000

/** See the file's header. Throws only the signal's reason. */
export async function probeStore(storage: Storage, place: StorePlace, options: AttemptOptions): Promise<StorageFacts> {
  const folder = `${archiveFolders.probe}/check-${randomBytes(8).toString('hex')}`
  const trial = new StoreTrial(storage, folder, options)
  try {
    const facts = await trial.run()
    return {
      location: storage.location,
      bucket: place.bucket,
      directory: await lookAtDirectory(place, options.clock),
      ...facts,
    }
  } finally {
    await trial.cleanUp()
  }
}

/** One folder of objects, and what became of each request. */
class StoreTrial {
  readonly #storage: Storage
  readonly #options: AttemptOptions
  readonly #folder: string
  readonly #keys: { readonly object: string; readonly pieces: string }
  /** When the object was put. */
  #putMs = { before: 0, after: 0 }
  /** What may be there. */
  readonly #written = new Set<string>()

  constructor(storage: Storage, folder: string, options: AttemptOptions) {
    this.#storage = storage
    this.#options = options
    this.#folder = folder
    this.#keys = { object: `${folder}/object`, pieces: `${folder}/pieces` }
  }

  async run(): Promise<Omit<StorageFacts, 'location' | 'bucket' | 'directory'>> {
    const storage = this.#storage
    const { object } = this.#keys
    const body = Buffer.from(`written by walrx check, may be removed: ${object}\n`)
    const list = await this.#try('a listing', async (signal) => {
      for await (const _ of storage.list(`${this.#folder}/`, { signal })) break
      return true as const
    })
    if (isOut(list)) return { list }
    const before = this.#options.clock.now()
    const put = await this.#put('a put', object, async (signal) => {
      await storeTrial(storage, object, body, { signal })
      return true as const
    })
    this.#putMs = { before, after: this.#options.clock.now() }
    if (isOut(put)) return { list, put }
    const removal = async () => ({ remove: await this.#remove() })
    if (put.error) return { list, put, ...(storage.trials ? await removal() : {}) }
    const get = await this.#try('a get', async (signal) => (await readTrial(storage, object, { signal })).equals(body))
    if (isOut(get)) return { list, put, get }
    const seen = get.error ? {} : { object: await this.#look() }
    const traits =
      list.error || get.error ? {} : { traits: await this.#try('a probe', (signal) => this.#probe(signal)) }
    return { list, put, get, ...seen, ...traits, ...(await this.#tryUploads()), ...(await removal()) }
  }

  /** Removes what may be left. Its own failure has been reported by then. */
  async cleanUp(): Promise<void> {
    if (this.#written.size === 0) return
    const keys = [...this.#written]
    const hurried = { ...this.#options, signal: new AbortController().signal, stepMs: cleanUpMs }
    await attempt(hurried, this.#lateness('a delete'), (signal) => this.#storage.delete(keys, { signal }))
  }

  async #probe(signal: AbortSignal) {
    const { conditionalPut, listingProblem } = await this.#storage.probe({ signal })
    return { conditionalPut, listingProblem }
  }

  /** The object as the store shows it, with the clock of the store. */
  #look(): Promise<Attempt<ObjectFacts>> {
    const { trials } = this.#storage
    const { object } = this.#keys
    return this.#try('a head', async (signal) => {
      const before = this.#options.clock.now()
      const info = trials ? await trials.describe(object, { signal }) : await this.#storage.head(object, { signal })
      const after = this.#options.clock.now()
      const isBucket = info !== undefined && 'hasVersions' in info
      const storeMs = isBucket ? info.storeTimeMs : undefined
      // A Date has whole seconds, cut off.
      const clock =
        storeMs === undefined
          ? undefined
          : { aheadMs: storeMs + 500 - (before + after) / 2, errorMs: 500 + (after - before) / 2 }
      return isBucket
        ? { clock, lockedUntilMs: info.lockedUntilMs, hasVersions: info.hasVersions }
        : {
            clock: info && this.#clockOfFile(info.lastModifiedMs),
            lockedUntilMs: undefined,
            hasVersions: undefined,
          }
    })
  }

  /** A network file system has the time of its own server; some have whole seconds. */
  #clockOfFile(modifiedMs: number): ClockReading {
    const { after, before } = this.#putMs
    return { aheadMs: modifiedMs - (before + after) / 2, errorMs: (after - before) / 2 + 1000 }
  }

  async #tryUploads(): Promise<Pick<StorageFacts, 'multipart' | 'abort' | 'unfinished'>> {
    const { trials } = this.#storage
    if (!trials) return {}
    const { pieces } = this.#keys
    const bytes = Buffer.from(`written by walrx check, may be removed: ${pieces}\n`)
    const multipart = await this.#put('a multipart upload', pieces, (signal) =>
      trials.putInPieces(pieces, bytes, { signal }),
    )
    if (multipart.error) return { multipart }
    // The one that is over: what may be aborted is asked without an upload that would stay where it may not.
    const abort = await this.#try('an abort', async (signal) => {
      await trials.abortUpload(pieces, multipart.value, { signal })
      return true as const
    })
    const unfinished = await this.#try('a listing of unfinished uploads', async (signal) => {
      await this.#storage.removeUnfinished?.(`${this.#folder}/`, { signal })
      return true as const
    })
    return { multipart, abort, unfinished }
  }

  /** Of a bucket also where nothing is there: a store refuses the request before it looks. */
  async #remove(): Promise<Attempt<true>> {
    const keys = this.#written.size > 0 ? [...this.#written] : [this.#keys.object]
    const removed = await this.#try('a delete', async (signal) => {
      // One by one, as most removals are.
      for (const key of keys) await this.#storage.delete([key], { signal })
      return true as const
    })
    if (!removed.error) this.#written.clear()
    return removed
  }

  async #put<T>(what: string, key: string, work: (signal: AbortSignal) => Promise<T>): Promise<Attempt<T>> {
    this.#written.add(key)
    const done = await this.#try(what, work)
    if (hasCode(done.error, 'WALRX_STORAGE_DENIED')) this.#written.delete(key)
    return done
  }

  #try<T>(what: string, work: (signal: AbortSignal) => Promise<T>): Promise<Attempt<T>> {
    return attempt(this.#options, this.#lateness(what), work)
  }

  #lateness(what: string): Lateness {
    return {
      code: 'WALRX_STORAGE_UNAVAILABLE',
      what: `${this.#storage.location}, asked for ${what},`,
      hint: 'the store is out, or a firewall or a dead mount is on the way: try the same with curl, or ls, from this machine',
    }
  }
}

/** True where there is no use in asking for more: the store does not answer, or is not there. A denial is an answer. */
export function isOut({ error }: Attempt<unknown>): boolean {
  return error !== undefined && !hasCode(error, 'WALRX_STORAGE_DENIED')
}

/** True where a policy is the reason, and not a wrong access key or a clock. */
export function isDeniedByPolicy(error: WalrxError): boolean {
  if (!hasCode(error, 'WALRX_STORAGE_DENIED')) return false
  return codeOf(error.cause) === 'AccessDenied'
}

/**
 * Does the work, and removes the folders afterwards that were not there before, from that of walrx's own objects up to the first
 * of the prefix: a check makes no archive. One that is not empty stays.
 */
export async function withoutTraces<T>({ directory }: StorePlace, clock: Clock, work: () => Promise<T>): Promise<T> {
  if (!directory) return await work()
  const names = [...directory.folder.split('/').filter((name) => name !== ''), walrxFolder]
  const paths = names.map((_, index) => join(directory.root, ...names.slice(0, index + 1)))
  const areThere = () => Promise.all(paths.map(async (path) => (await lstatOrNothing(path)) !== undefined))
  // Where nothing answers, nothing is removed.
  const wereThere = (await ifSoon(areThere(), clock)) ?? []
  const made = paths.filter((_, index) => wereThere[index] === false)
  try {
    return await work()
  } finally {
    for (const path of made.reverse()) await ifSoon(rmdir(path), clock)
  }
}

/** Undefined only for what is not there. */
async function lstatOrNothing(path: string): Promise<object | undefined> {
  try {
    return await lstat(path)
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code === 'ENOENT' || code === 'ENOTDIR') return undefined
    throw error
  }
}

/** Undefined where it is missing or closed: the listing says so. */
async function lookAtDirectory({ directory }: StorePlace, clock: Clock): Promise<DirectoryFacts | undefined> {
  if (!directory) return undefined
  const path = directory.root
  const [space, stats] = (await ifSoon(Promise.all([statfs(path), stat(path)]), clock)) ?? []
  if (!space || stats?.isDirectory() !== true) return undefined
  return {
    path,
    kind: space.type,
    freeBytes: space.bavail * space.bsize,
    totalBytes: space.blocks * space.bsize,
    freeInodes: space.files === 0 ? undefined : space.ffree,
    device: stats.dev,
  }
}
