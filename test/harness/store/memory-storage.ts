/**
 * A storage in memory that keeps the whole contract of `src/storage/storage.ts`, counts requests, and fails on
 * demand. Failures are injected by two hooks: `before` runs ahead of the effect (throwing there is a request that never
 * arrived), `after` follows it (throwing there is a lost answer: the object is stored anyway).
 */
import { setImmediate } from 'node:timers/promises'
import type { Keyring } from '../../../src/crypto/keyring.ts'
import { type Clock, systemClock } from '../../../src/primitives/clock.ts'
import { hasCode, WalrxError } from '../../../src/primitives/errors.ts'
import type {
  DeleteOptions,
  ListOptions,
  ObjectInfo,
  Storage,
  StorageBody,
  StorageCallOptions,
  StorageTraits,
} from '../../../src/storage/storage.ts'

/** One request, as the hooks and the log of calls see it. A listing is one call a page. */
export interface MemoryCall {
  readonly operation: 'put' | 'putIfAbsent' | 'get' | 'head' | 'list' | 'delete'
  /** The key; of a listing its prefix. */
  readonly key: string
  readonly signal: AbortSignal | undefined
}

/** A stored object. */
export interface MemoryObject {
  readonly bytes: Buffer
  readonly lastModifiedMs: number
}

/** Options of {@link MemoryStorage}. */
export interface MemoryStorageOptions {
  /** Default `memory://test`. */
  readonly location?: string
  /** Default none: objects are not encrypted. */
  readonly keyring?: Keyring
  /** Stamps the objects. Default the real clock. */
  readonly clock?: Clock
  /** The objects; pass the map of another storage to reopen it after a "crash". Default empty. */
  readonly objects?: Map<string, MemoryObject>
  /** Size of the chunks of a `get`, in bytes. Default 64 KiB. */
  readonly chunkBytes?: number
  /**
   * True: `get` answers with the stored bytes themselves, at once. Default false: with copies, a turn of the loop
   * apart.
   */
  readonly sharesBytes?: boolean
  /** Keys in a page of a listing. Default 1,000, as S3. */
  readonly pageKeys?: number
  /** False: putIfAbsent looks first and puts after, and two at a time may both create. Default true. */
  readonly conditionalPut?: boolean
  /** True for a bucket that does not exist. Default false. */
  readonly missing?: boolean
  /** Before the effect: may wait or throw. A wait ends when the call's signal aborts. */
  readonly before?: (call: MemoryCall) => void | Promise<void>
  /** After the effect and before the answer: may wait or throw. */
  readonly after?: (call: MemoryCall) => void | Promise<void>
  /** Stands between the object and its reader: may damage, cut or stall the bytes of a `get`. */
  readonly body?: (key: string, chunks: AsyncIterable<Uint8Array>) => AsyncIterable<Uint8Array>
}

/** The error of a storage that does not answer, for hooks to throw. */
export function unavailable(detail = 'injected'): WalrxError {
  return new WalrxError('WALRX_STORAGE_UNAVAILABLE', `the storage did not answer (${detail})`)
}

/** In the order of their bytes in UTF-8; UTF-16 has the same order but for what lies outside of its basic plane. */
function byBytes(a: string, b: string): number {
  if (isWide.test(a) || isWide.test(b)) return Buffer.compare(Buffer.from(a), Buffer.from(b))
  return a < b ? -1 : Number(a > b)
}

const isWide = /[\ud800-\uffff]/

/** See the head of the file. */
export class MemoryStorage implements Storage {
  readonly location: string
  readonly keyring: Keyring | undefined
  /** What is stored, by key. Tests may look and change. */
  readonly objects: Map<string, MemoryObject>
  /** Every request so far, oldest first; a test may empty it. */
  readonly calls: MemoryCall[] = []
  /** Bodies of `get` that are being read: 0 once every reader has finished or stopped. */
  openBodies = 0
  /** The hooks, replaceable while a test runs. */
  before: MemoryStorageOptions['before']
  after: MemoryStorageOptions['after']
  body: MemoryStorageOptions['body']
  readonly #options: MemoryStorageOptions
  #closed = false

  constructor(options: MemoryStorageOptions = {}) {
    this.#options = options
    this.location = options.location ?? 'memory://test'
    this.keyring = options.keyring
    this.objects = options.objects ?? new Map<string, MemoryObject>()
    this.before = options.before
    this.after = options.after
    this.body = options.body
  }

  /** Calls so far as `operation key` lines. */
  get log(): string[] {
    return this.calls.map((call) => `${call.operation} ${call.key}`)
  }

  /** Bytes of an object; undefined when there is none. */
  peek(key: string): Buffer | undefined {
    return this.objects.get(key)?.bytes
  }

  /** Stores an object without the contract: no hook, no call counted. */
  seed(key: string, bytes: Uint8Array | string, lastModifiedMs?: number): void {
    const now = (this.#options.clock ?? systemClock).now()
    this.objects.set(key, { bytes: this.keep(key, bytes), lastModifiedMs: lastModifiedMs ?? now })
  }

  /** The bytes to be stored, which nobody else may change. */
  protected keep(_key: string, bytes: Uint8Array | string): Buffer {
    return Buffer.from(bytes as Uint8Array)
  }

  async put(key: string, body: StorageBody, options: StorageCallOptions = {}): Promise<void> {
    await this.#call('put', key, options.signal, async () => {
      const chunks: Uint8Array[] = []
      if (body instanceof Uint8Array) chunks.push(body)
      else for await (const chunk of body) chunks.push(Buffer.from(chunk))
      options.signal?.throwIfAborted()
      this.seed(key, Buffer.concat(chunks))
    })
  }

  async putIfAbsent(key: string, body: Uint8Array, options: StorageCallOptions = {}): Promise<'created' | 'exists'> {
    return await this.#call('putIfAbsent', key, options.signal, async () => {
      if (this.objects.has(key)) return 'exists'
      if (this.#options.conditionalPut === false) await setImmediate()
      this.seed(key, body)
      return 'created'
    })
  }

  async get(key: string, options: StorageCallOptions = {}): Promise<AsyncIterable<Uint8Array>> {
    const object = await this.#call('get', key, options.signal, () => this.objects.get(key))
    if (!object) throw new WalrxError('WALRX_OBJECT_NOT_FOUND', `${this.location} has no object ${key}`)
    const chunks = this.#open(object.bytes, options.signal)
    return this.body ? this.body(key, chunks) : chunks
  }

  async head(key: string, options: StorageCallOptions = {}): Promise<ObjectInfo | undefined> {
    return await this.#call('head', key, options.signal, () => {
      const object = this.objects.get(key)
      return object && { key, size: object.bytes.length, lastModifiedMs: object.lastModifiedMs }
    })
  }

  async *list(prefix: string, options: ListOptions = {}): AsyncIterable<ObjectInfo> {
    const pageKeys = this.#options.pageKeys ?? 1000
    let after = options.startAfter
    for (;;) {
      const from = after
      const page = await this.#call('list', prefix, options.signal, () => this.#page(prefix, from, pageKeys))
      for (const info of page.slice(0, pageKeys)) {
        yield info
        options.signal?.throwIfAborted()
      }
      if (page.length <= pageKeys) return
      after = page[pageKeys - 1]?.key
    }
  }

  async delete(keys: readonly string[], { onRefused, signal }: DeleteOptions = {}): Promise<void> {
    for (const key of keys) checkKey(key)
    for (const key of keys) {
      try {
        await this.#call('delete', key, signal, () => this.objects.delete(key))
      } catch (error) {
        if (onRefused === undefined || !hasCode(error, 'WALRX_STORAGE_DENIED')) throw error
        onRefused(key, error)
      }
    }
  }

  async probe(options: StorageCallOptions = {}): Promise<StorageTraits> {
    const key = 'walrx_005/probe/memory'
    await this.putIfAbsent(key, Buffer.from('probe'), options)
    for await (const chunk of await this.get(key, options)) void chunk
    await this.delete([key], options)
    return { conditionalPut: this.#options.conditionalPut ?? true }
  }

  close(): Promise<void> {
    this.#closed = true
    return Promise.resolve()
  }

  async #call<T>(
    operation: MemoryCall['operation'],
    key: string,
    signal: AbortSignal | undefined,
    effect: () => T | Promise<T>,
  ): Promise<T> {
    if (this.#closed) throw new WalrxError('WALRX_INTERNAL', `${operation} ${key} on a closed storage`)
    // A prefix is whatever a key may begin with.
    if (operation !== 'list') checkKey(key)
    else if (key !== '') checkKey(`${key}x`)
    signal?.throwIfAborted()
    if (this.#options.missing) {
      throw new WalrxError('WALRX_STORAGE_MISSING', `${this.location} does not exist`, { hint: 'create it' })
    }
    const call: MemoryCall = { operation, key, signal }
    this.calls.push(call)
    await abortable(this.before?.(call), signal)
    const result = await effect()
    await abortable(this.after?.(call), signal)
    return result
  }

  /** One key more than a page, which says that another page follows. */
  #page(prefix: string, after: string | undefined, pageKeys: number): ObjectInfo[] {
    const keys: string[] = []
    for (const key of this.objects.keys()) {
      if (key.startsWith(prefix) && (after === undefined || byBytes(key, after) > 0)) keys.push(key)
    }
    const page = keys.sort(byBytes).slice(0, pageKeys + 1)
    return page.map((key) => {
      const { bytes, lastModifiedMs } = this.objects.get(key) as MemoryObject
      return { key, size: bytes.length, lastModifiedMs }
    })
  }

  /** The body counts as open from here until its reader has finished or stopped, begun or not. */
  #open(bytes: Buffer, signal: AbortSignal | undefined): AsyncIterable<Uint8Array> {
    const chunks = this.#read(bytes, signal)
    let open = true
    const done = () => {
      if (open) this.openBodies--
      open = false
    }
    this.openBodies++
    const iterator: AsyncIterator<Uint8Array> = {
      next: async () => {
        try {
          const result = await chunks.next()
          if (result.done) done()
          return result
        } catch (error) {
          done()
          throw error
        }
      },
      return: () => {
        done()
        return chunks.return(undefined)
      },
    }
    return { [Symbol.asyncIterator]: () => iterator }
  }

  async *#read(bytes: Buffer, signal: AbortSignal | undefined): AsyncGenerator<Uint8Array, undefined> {
    const step = this.#options.chunkBytes ?? 64 * 1024
    for (let offset = 0; offset < bytes.length; offset += step) {
      if (!this.#options.sharesBytes) await setImmediate()
      signal?.throwIfAborted()
      const chunk = bytes.subarray(offset, offset + step)
      yield this.#options.sharesBytes ? chunk : Buffer.from(chunk)
    }
  }
}

/** Refuses what the real backends refuse, so that a test in memory finds a wrong key too. */
function checkKey(key: string): void {
  const parts = key.split('/')
  const isWrong = parts.some((part) => part === '' || part === '.' || part === '..') || key.includes('\0')
  if (isWrong || !key.isWellFormed() || Buffer.byteLength(key) > 1024) {
    throw new WalrxError('WALRX_INTERNAL', `${JSON.stringify(key)} is not an object key`)
  }
}

/** `wait`, or the signal's reason as soon as it aborts. */
async function abortable(wait: void | Promise<void>, signal: AbortSignal | undefined): Promise<void> {
  if (wait === undefined) return
  if (!signal) {
    await wait
    return
  }
  const { promise, reject } = Promise.withResolvers<never>()
  const onAbort = () => reject(signal.reason as Error)
  signal.addEventListener('abort', onAbort, { once: true })
  if (signal.aborted) onAbort()
  try {
    await Promise.race([wait, promise])
  } finally {
    signal.removeEventListener('abort', onAbort)
  }
}
