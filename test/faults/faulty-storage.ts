/**
 * A store with the habits of a bad day: slow, refusing for minutes, losing answers, carrying a request out long after
 * it said that it had failed, or twice. All of it on the schedule's clock and dice.
 */
import type { Clock } from '../../src/primitives/clock.ts'
import { WalrxError } from '../../src/primitives/errors.ts'
import type { StorageCallOptions } from '../../src/storage/storage.ts'
import { type MemoryObject, MemoryStorage, unavailable } from '../harness/memory-storage.ts'
import type { Random } from '../harness/random.ts'

/** How bad the day is: probabilities per request, and latencies in milliseconds. */
export interface Weather {
  readonly failBefore: number
  readonly failAfter: number
  readonly late: number
  readonly twice: number
  readonly stall: number
  readonly latencyMsMax: number
}

/** A quiet day. */
export const calm: Weather = { failBefore: 0, failAfter: 0, late: 0, twice: 0, stall: 0, latencyMsMax: 20 }

/** See the file's header. */
export class FaultyStorage extends MemoryStorage {
  weather: Weather = calm
  /** The store refuses everything with this, while set. */
  outage: 'unavailable' | 'denied' | undefined
  /** Bytes of bodies under way, and the most there ever were. */
  bodyBytes = 0
  bodyBytesMax = 0
  readonly #clock: Clock
  readonly #random: Random

  readonly #truth: (key: string) => Buffer | undefined

  /** @param truth what an object of that name should hold: where it does, those bytes are kept instead of a copy */
  constructor(
    clock: Clock,
    random: Random,
    objects: Map<string, MemoryObject>,
    truth: (key: string) => Buffer | undefined = () => undefined,
  ) {
    super({ clock, objects, chunkBytes: 4 * 1024 * 1024, sharesBytes: true })
    this.#truth = truth
    this.#clock = clock
    this.#random = random
    this.before = () => this.#before()
    this.after = () => this.#after()
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
    } finally {
      this.#count(-body.length)
    }
  }

  protected override keep(key: string, bytes: Uint8Array | string): Buffer {
    const truth = this.#truth(key)
    return truth?.equals(bytes as Uint8Array) ? truth : super.keep(key, bytes)
  }

  /** Carries a put out at some later time, with the bytes as they are now. */
  #later(key: string, body: Uint8Array): void {
    const bytes = this.keep(key, body)
    this.#clock.setTimer(this.#random.int(1, 20_000), () => {
      if (!this.objects.has(key)) this.seed(key, bytes)
    })
  }

  #count(bytes: number): void {
    this.bodyBytes += bytes
    this.bodyBytesMax = Math.max(this.bodyBytesMax, this.bodyBytes)
  }

  #sleep(ms: number): Promise<void> {
    return new Promise((resolve) => this.#clock.setTimer(ms, resolve))
  }

  async #before(): Promise<void> {
    const { failBefore, latencyMsMax, stall } = this.weather
    await this.#sleep(this.#random.int(0, latencyMsMax))
    if (this.#random.chance(stall)) await this.#sleep(this.#random.int(1_000, 60_000))
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
