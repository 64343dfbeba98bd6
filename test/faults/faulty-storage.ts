/**
 * A store with the habits of a bad day, all of it on the schedule's clock and dice. What is modelled, and what is not:
 *
 * - A request is slow, is refused (for minutes by everyone, or once), or is carried out and its answer lost.
 * - Late: a put is answered with an error and carried out seconds after that, perhaps when somebody else has put the
 *   same key, which it then leaves alone (If-None-Match). Or it is answered rightly, and carried out a second time.
 * - Abandoned: the client was killed while a request was under way. It is carried out, or it is not. An upload that was
 *   cut in the middle leaves nothing under its key: S3 shows an object when its last byte has come, and walrx's
 *   directories get theirs by a rename; what is left (a multipart upload, a temporary file) no listing shows.
 * - Torn: a put that fails leaves the beginning of its bytes under the key, or all of their length with zeros at the end,
 *   as a gateway does after its host has crashed. S3 and walrx's own directories never do. A put that was answered with
 *   success is never torn, for no promise can be kept on such a store. Only segments and chunks are torn. Nothing is
 *   compressed here, so what a codec's checksum would notice the store says itself: one that is of the right length
 *   cannot be decoded to its end.
 * - Read-after-write is strong, as S3 promises since 2020: a listing or read after a put that has been carried out
 *   sees it. So "late" is all that an observer can see of a store that shows objects late.
 */
import type { Keyring } from '../../src/crypto/keyring.ts'
import type { Clock } from '../../src/primitives/clock.ts'
import { WalrxError } from '../../src/primitives/errors.ts'
import type { DeleteOptions, ObjectInfo, StorageBody, StorageCallOptions } from '../../src/storage/storage.ts'
import { asideFolder, parseTailKey, walrxFolder } from '../../src/walg/names.ts'
import { type MemoryCall, type MemoryObject, MemoryStorage, unavailable } from '../harness/store/memory-storage.ts'
import type { Random } from '../harness/random.ts'
import { segmentSize } from './recorded-wal.ts'

/** How bad the day is: probabilities per request, and latencies in milliseconds. */
export interface Weather {
  readonly failBefore: number
  readonly failAfter: number
  readonly late: number
  readonly twice: number
  readonly stall: number
  /** Of a put that fails. */
  readonly torn: number
  readonly latencyMsMax: number
}

/** A quiet day. */
export const calm: Weather = { failBefore: 0, failAfter: 0, late: 0, twice: 0, stall: 0, torn: 0, latencyMsMax: 20 }

/** Some day. */
export function drawWeather(random: Random): Weather {
  if (random.chance(0.3)) return calm
  return {
    failBefore: random.pick([0, 0.05, 0.3]),
    failAfter: random.pick([0, 0.05, 0.3]),
    late: random.pick([0, 0.02, 0.2]),
    twice: random.pick([0, 0.1]),
    stall: random.pick([0, 0.02, 0.1]),
    torn: random.pick([0, 0, 0.6]),
    latencyMsMax: random.pick([5, 200, 3_000]),
  }
}

/** Objects of one store, and what is the matter with them. */
export interface SharedStore {
  readonly objects: Map<string, MemoryObject>
  /** Keys of torn objects. */
  readonly torn: Set<string>
  /** Called when another object has been torn. */
  readonly onTorn: (key: string) => void
  /** What an object of that name may hold: where it does, those bytes are kept instead of a copy. */
  readonly truths: (key: string) => readonly Buffer[]
  /** Default none: what is stored is not encrypted. */
  readonly keyring?: Keyring
}

const tearable = /^(wal_005\/[0-9A-F]{24}$|walrx_005\/tail\/)/

/** Bytes of a whole segment or chunk of that name. */
function wholeLength(key: string): number {
  const chunk = parseTailKey(key)
  return chunk ? chunk.to - chunk.from : segmentSize
}

/** See the file's header. One client's view of the store. */
export class FaultyStorage extends MemoryStorage {
  weather: Weather = calm
  /** The store refuses everything with this, while set. */
  outage: 'unavailable' | 'denied' | undefined
  /** Bytes of bodies under way, and the most there ever were. */
  bodyBytes = 0
  bodyBytesMax = 0
  readonly #clock: Clock
  readonly #random: Random
  readonly #shared: SharedStore
  #isAbandoned = false
  /** The key under which an object is being kept as it is, damage and all. */
  #copying: string | undefined
  /** The key under which one was kept already: the next get is to compare the two as they are. */
  #comparing: string | undefined

  constructor(
    clock: Clock,
    random: Random,
    shared: SharedStore = { objects: new Map(), torn: new Set(), onTorn: () => {}, truths: () => [] },
  ) {
    const keys = shared.keyring ? { keyring: shared.keyring } : {}
    super({ clock, objects: shared.objects, chunkBytes: 4 * 1024 * 1024, sharesBytes: true, ...keys })
    this.#clock = clock
    this.#random = random
    this.#shared = shared
    this.before = (call) => this.#before(call)
    this.after = () => this.#after()
  }

  /** The client was killed. */
  abandon(): void {
    this.#isAbandoned = true
  }

  override async putIfAbsent(
    key: string,
    body: Uint8Array,
    options: StorageCallOptions = {},
  ): Promise<'created' | 'exists'> {
    this.#count(body.length)
    try {
      if (this.#random.chance(this.weather.late)) {
        this.#later(key, body)
        await this.#sleep(this.#random.int(0, 500))
        throw unavailable('but it will be carried out')
      }
      if (this.#random.chance(this.weather.twice)) this.#later(key, body)
      return await super.putIfAbsent(key, body, options)
    } catch (error) {
      if (this.#random.chance(this.weather.torn)) this.#tear(key, body)
      throw error
    } finally {
      this.#count(-body.length)
    }
  }

  override async put(key: string, body: StorageBody, options: StorageCallOptions = {}): Promise<void> {
    this.#copying = key
    try {
      await super.put(key, body, options)
    } finally {
      this.#copying = undefined
    }
  }

  override async get(key: string, options: StorageCallOptions = {}): Promise<AsyncIterable<Uint8Array>> {
    const isRaw = [this.#copying, this.#comparing].some((aside) => aside?.includes(key.replace(walrxFolder, '')))
    this.#comparing = undefined
    const body = await super.get(key, options)
    return isRaw || !this.#shared.torn.has(key) ? body : this.#decode(key, body)
  }

  override async head(key: string, options: StorageCallOptions = {}): Promise<ObjectInfo | undefined> {
    const info = await super.head(key, options)
    this.#comparing = info && key.startsWith(asideFolder) ? key : undefined
    return info
  }

  override async delete(keys: readonly string[], options: DeleteOptions = {}): Promise<void> {
    await super.delete(keys, options)
    // One that was deleted first may have been torn again while the others were.
    for (const key of keys) if (!this.objects.has(key)) this.#shared.torn.delete(key)
  }

  protected override keep(key: string, bytes: Uint8Array | string): Buffer {
    this.#shared.torn.delete(key)
    const truth = this.#shared.truths(key).find((one) => one.equals(bytes as Uint8Array))
    return truth ?? super.keep(key, bytes)
  }

  /** Carries a put out at some later time, with the bytes as they are now. */
  #later(key: string, body: Uint8Array): void {
    const bytes = Buffer.from(body)
    this.#clock.setTimer(this.#random.int(1, 20_000), () => {
      if (!this.objects.has(key)) this.seed(key, bytes)
    })
  }

  #tear(key: string, body: Uint8Array): void {
    if (this.objects.has(key) || !tearable.test(key) || body.length < 2) return
    const length = this.#random.int(1, body.length - 1)
    const torn = this.#random.chance(0.5) ? Buffer.alloc(body.length) : Buffer.alloc(length)
    torn.set(body.subarray(0, length))
    if (torn.equals(body)) return
    this.seed(key, torn)
    this.#shared.torn.add(key)
    this.#shared.onTorn(key)
  }

  /** The bytes of a torn object: one of the right length fails at its end. */
  #decode(key: string, chunks: AsyncIterable<Uint8Array>): AsyncIterable<Uint8Array> {
    const source = chunks[Symbol.asyncIterator]()
    let bytes = 0
    const iterator: AsyncIterator<Uint8Array> = {
      next: async () => {
        const piece = await source.next()
        if (!piece.done) bytes += piece.value.length
        else if (bytes === wholeLength(key)) throw new WalrxError('WALRX_OBJECT_DAMAGED', 'the checksum is wrong')
        return piece
      },
      return: async () => (await source.return?.()) ?? { done: true, value: undefined },
    }
    return { [Symbol.asyncIterator]: () => iterator }
  }

  #count(bytes: number): void {
    this.bodyBytes += bytes
    this.bodyBytesMax = Math.max(this.bodyBytesMax, this.bodyBytes)
  }

  #sleep(ms: number): Promise<void> {
    return new Promise((resolve) => this.#clock.setTimer(ms, resolve))
  }

  async #before({ operation }: MemoryCall): Promise<void> {
    const { failBefore, latencyMsMax, stall } = this.weather
    await this.#sleep(this.#random.int(0, latencyMsMax))
    if (this.#random.chance(stall)) await this.#sleep(this.#random.int(1_000, 60_000))
    if (this.#isAbandoned && operation !== 'get' && this.#random.chance(0.5)) throw unavailable('the client is gone')
    if (this.outage === 'unavailable') throw unavailable('503')
    if (this.outage === 'denied') throw new WalrxError('WALRX_STORAGE_DENIED', 'the storage refused access (403)')
    if (this.#random.chance(failBefore)) throw unavailable('503')
  }

  async #after(): Promise<void> {
    if (this.#random.chance(this.weather.failAfter)) {
      await this.#sleep(this.#random.int(0, 1_000))
      throw unavailable('the answer was lost')
    }
  }
}
