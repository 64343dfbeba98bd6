/**
 * One seeded schedule: a fake cluster, a faulty store, a virtual clock, and a receiver that is killed and started anew.
 * After every status update it is checked that what was reported as flushed is in the store with the right bytes, and
 * after every stored object that it is what the server has.
 */
import assert from 'node:assert/strict'
import { setImmediate } from 'node:timers/promises'
import type { Clock } from '../../src/primitives/clock.ts'
import { type Logger, silentLog } from '../../src/observe/log.ts'
import { addBytes, formatLsn, type Lsn, segmentStart, type Timeline } from '../../src/postgres/lsn.ts'
import type { ByteSocket, ReplicationServer, ReplicationSession } from '../../src/postgres/session.ts'
import { historyName, segmentNameAt } from '../../src/postgres/wal-file.ts'
import type { ReceiveArchive, ReceiveMeter } from '../../src/receive/ports.ts'
import { Receiver } from '../../src/receive/receiver.ts'
import type { TailPace } from '../../src/receive/tail-writer.ts'
import type { MemoryObject } from '../harness/memory-storage.ts'
import { Random } from '../harness/random.ts'
import { VirtualClock } from '../harness/virtual-clock.ts'
import { FakeCluster } from './fake-cluster.ts'
import { calm, FaultyStorage, type Weather } from './faulty-storage.ts'
import { lastLsn, segmentSize } from './recorded-wal.ts'
import { openSimulatedArchive } from './simulated-archive.ts'
import { StoreOracle } from './store-oracle.ts'

/** Memory that each simulated receiver gets: four segments. */
const memoryBytes = 4 * segmentSize

/** What a schedule did, for the test's report. */
export interface ScheduleReport {
  readonly seed: number
  flushes: number
  kills: number
  promotions: number
  shutdowns: number
  outages: number
  slotLosses: number
}

/** See the file's header. */
export class World {
  readonly clock = new VirtualClock()
  /** Where the receivers log to. */
  log: Logger = silentLog
  readonly random: Random
  readonly report: ScheduleReport
  /** Of every receiver of the schedule. */
  readonly tailPace: TailPace
  readonly cluster: FakeCluster
  readonly #objects = new Map<string, MemoryObject>()
  readonly #openArchive: (storage: FaultyStorage) => ReceiveArchive
  readonly #oracle: StoreOracle
  /** Primaries that another one has replaced, and that came back. */
  #zombies: FakeCluster[] = []
  #slotLosses = 0
  #isPrimaryFirst = false
  #storage: FaultyStorage
  #incarnation: { alive: boolean; ended: Promise<unknown>; drain: AbortController } | undefined
  #failure: unknown
  #gaps = 0

  /** @param openArchive a test may break it */
  constructor(seed: number, openArchive: (storage: FaultyStorage) => ReceiveArchive = openSimulatedArchive) {
    this.random = new Random(seed)
    this.report = { seed, flushes: 0, kills: 0, promotions: 0, shutdowns: 0, outages: 0, slotLosses: 0 }
    this.#openArchive = openArchive
    this.tailPace = {
      intervalMs: this.random.pick([0, 100, 1_000]),
      bytesMax: this.random.pick([64 * 1024, 300_000]),
      isSynchronous: this.random.chance(0.4),
    }
    this.cluster = new FakeCluster(this.clock, this.random, {
      onStatus: (timeline, write, flush, apply) => this.#onStatus(timeline, write, flush, apply),
    })
    this.#oracle = new StoreOracle(this.cluster, this.#objects)
    this.#storage = this.#openStorage()
  }

  #openStorage(): FaultyStorage {
    const storage = new FaultyStorage(this.clock, this.random, this.#objects, (key) => this.#oracle.truth(key))
    storage.weather = this.#storage ? this.#storage.weather : this.#drawWeather()
    storage.outage = this.#storage?.outage
    return storage
  }

  #drawWeather(): Weather {
    const { random } = this
    if (random.chance(0.3)) return calm
    return {
      failBefore: random.pick([0, 0.05, 0.3]),
      failAfter: random.pick([0, 0.05, 0.3]),
      late: random.pick([0, 0.02, 0.2]),
      twice: random.pick([0, 0.1]),
      stall: random.pick([0, 0.02, 0.1]),
      latencyMsMax: random.pick([5, 200, 3_000]),
    }
  }

  /** Runs the whole schedule: disorder first, then calm, in which everything must come right. */
  async run(): Promise<ScheduleReport> {
    let isDone = false
    const script = this.#script()
      .catch((error: unknown) => {
        this.#failure ??= error
      })
      .finally(() => {
        isDone = true
      })
    await this.clock.run(
      () => isDone || this.#failure !== undefined,
      () => this.#storage.openBodies > 0,
      6 * 3_600_000,
    )
    // What is still to be told of the last moment happens before the schedule counts as over.
    await setImmediate()
    if (this.#failure !== undefined) throw this.#failure as Error
    await script
    return this.report
  }

  async #script(): Promise<void> {
    const { random, clock } = this
    this.#startReceiver()
    for (let steps = random.int(3, 12); steps > 0; steps--) {
      await clock.sleep(random.int(10, random.pick([200, 3_000, 40_000])))
      await this.#disturb()
    }
    this.#storage.weather = calm
    this.#storage.outage = undefined
    this.cluster.startUp()
    this.cluster.grow(segmentSize * 100)
    // Whoever has never seen the newest timeline can't know that a former primary is one.
    this.#isPrimaryFirst = true
    if (!this.#incarnation?.alive) this.#startReceiver()
    await this.#hasSeen(this.cluster.timeline)
    this.#isPrimaryFirst = false
    this.cluster.cutAll()
    await this.#caughtUp()
    await this.#stop()
    this.#oracle.checkEverything()
  }

  async #disturb(): Promise<void> {
    const { random, cluster, report } = this
    const pick = random.int(0, 12)
    if (pick <= 3) cluster.grow(random.int(1, 2 * segmentSize))
    else if (pick === 4) cluster.cutAll()
    else if (pick === 5) await this.#kill()
    else if (pick === 6) await this.#shutDown()
    else if (pick === 7) {
      report.outages++
      this.#storage.outage = this.#storage.outage ? undefined : random.pick(['unavailable', 'denied'])
    } else if (pick === 8 && cluster.timelines.size < 4) {
      report.promotions++
      const inPlace = random.chance(0.5)
      if (!inPlace && random.chance(0.5)) this.#zombies.push(cluster.former())
      cluster.promote(
        random.pick([0, random.int(0, 100_000), random.int(0, 2 * segmentSize)]),
        random.pick([0, 0, 1]),
        inPlace,
      )
      cluster.grow(random.int(0, segmentSize))
    } else if (pick === 11) {
      report.slotLosses++
      this.#slotLosses++
      cluster.loseSlot()
    } else if (pick === 12) {
      for (const zombie of this.#zombies) zombie.grow(random.int(0, segmentSize))
      for (const zombie of this.#zombies) zombie.cutAll()
    } else this.#storage.weather = this.#drawWeather()
  }

  /** The hosts in the order of the connection string: former primaries come first, so that nobody ends there by luck. */
  #hosts(): readonly FakeCluster[] {
    return this.#isPrimaryFirst ? [this.cluster] : [...this.#zombies, this.cluster]
  }

  async #shutDown(): Promise<void> {
    this.report.shutdowns++
    const { outage, weather } = this.#storage
    const tookMs = await this.cluster.shutDown(60_000)
    // A receiver that reads confirms at once. One whose pool is full and stays full gives the connection up after 15 s;
    // only a store that takes a segment now and then may keep the server waiting while it sends the rest.
    if (outage ?? weather === calm) assert.ok(tookMs < 20_000, `a fast shutdown took ${tookMs} ms`)
    await this.clock.sleep(this.random.int(100, 30_000))
    this.cluster.startUp()
  }

  /** kill -9: from now on nothing that the receiver set off has any effect, except requests already in the store's hands. */
  async #kill(): Promise<void> {
    const incarnation = this.#incarnation
    if (!incarnation) return
    this.report.kills++
    incarnation.alive = false
    this.cluster.cutAll()
    await this.clock.sleep(this.random.int(0, 10_000))
    // A failed start may have been repeated meanwhile.
    if (this.#incarnation) this.#incarnation.alive = false
    this.cluster.cutAll()
    this.#storage = this.#openStorage()
    this.#startReceiver()
  }

  async #stop(): Promise<void> {
    this.#incarnation?.drain.abort()
    await this.#incarnation?.ended
  }

  #startReceiver(): void {
    const incarnation = { alive: true, ended: Promise.resolve() as Promise<unknown>, drain: new AbortController() }
    this.#incarnation = incarnation
    const clock: Clock = {
      now: () => this.clock.now(),
      setTimer: (ms, fire) => this.clock.setTimer(ms, () => incarnation.alive && fire()),
    }
    const mortal = <T extends object>(target: T): T => mortalCopy(target, () => incarnation.alive)
    const receiver = new Receiver({
      server: mortalServer(
        () => this.#hosts(),
        () => incarnation.alive,
      ),
      archive: mortal(this.#openArchive(this.#storage)),
      clock,
      random: this.random.next,
      log: this.log,
      meter: this.#meter(),
      slot: 'walrx',
      allowStandby: false,
      memoryBytes,
      uploadConcurrency: this.random.int(1, 4),
      endpos: undefined,
      drainTimeoutMs: 60_000,
      tailPace: this.tailPace,
      syncOutageMs: this.random.pick([undefined, 5_000]),
    })
    incarnation.ended = receiver.run(incarnation.drain.signal, new AbortController().signal).catch((error: unknown) => {
      if (!incarnation.alive) return
      incarnation.alive = false
      // The start may fail while server or store are out, and is tried again as a supervisor would.
      if (isStartFailure(error))
        this.clock.setTimer(1_000, () => this.#incarnation === incarnation && this.#startReceiver())
      else this.#failure ??= error
    })
  }

  #meter(): ReceiveMeter {
    const nothing = () => {}
    return {
      received: nothing,
      uploaded: nothing,
      uploadFailed: nothing,
      tailStored: nothing,
      flushed: nothing,
      reconnected: nothing,
      poolFull: nothing,
      pastFork: nothing,
      repaired: nothing,
      gap: (start, end) => {
        this.#gaps++
        if (this.#slotLosses === 0)
          this.#failure ??= new Error(`gap reported from ${formatLsn(start)} to ${formatLsn(end)}`)
      },
    }
  }

  #onStatus(timeline: Timeline, write: Lsn, flush: Lsn, apply: Lsn): void {
    try {
      assert.equal(apply, 0n, 'apply must never be answered')
      this.#checkMemory()
      this.#oracle.noteFirst()
      if (flush === 0n) return
      this.report.flushes++
      assert.ok(write >= flush, 'flush is ahead of write')
      if (this.tailPace.isSynchronous) assert.equal(write, flush, 'remote_write passes from memory')
      else assert.equal(segmentStart(flush, segmentSize), flush, 'flush is no segment boundary')
      this.#oracle.checkDurable(timeline, flush)
    } catch (error) {
      this.#failure ??= error
    }
  }

  #checkMemory(): void {
    assert.ok(this.#storage.bodyBytes <= memoryBytes, `${this.#storage.bodyBytes} bytes under way in uploads`)
  }

  async #hasSeen(timeline: Timeline): Promise<void> {
    while (timeline > 1 && !this.#objects.has(`wal_005/${historyName(timeline)}`)) {
      for (const zombie of this.#zombies) zombie.cutAll()
      await this.clock.sleep(500)
    }
  }

  async #caughtUp(): Promise<void> {
    const lastByte = addBytes(lastLsn, -1)
    const name = segmentNameAt(this.cluster.chain().at(lastByte).timeline, lastByte, segmentSize)
    const isOver = () =>
      this.#objects.has(`wal_005/${name}`) || this.#oracle.isLost(segmentStart(lastByte, segmentSize))
    while (!isOver()) await this.clock.sleep(500)
  }
}

function isStartFailure(error: unknown): boolean {
  const { code } = error as { code?: string }
  return code !== undefined && !['WALRX_ARCHIVE_CONFLICT', 'WALRX_WAL_INVALID', 'WALRX_INTERNAL'].includes(code)
}

/** The same object whose promises never settle any more once `isAlive` says no. */
function mortalCopy<T extends object>(target: T, isAlive: () => boolean): T {
  return new Proxy(target, {
    get: (object, property) => {
      const value: unknown = Reflect.get(object, property, object)
      if (typeof value !== 'function') return value
      return (...args: unknown[]): unknown => {
        const result: unknown = isAlive() ? Reflect.apply(value, object, args) : new Promise(() => {})
        if (!(result instanceof Promise)) return result
        return new Promise((resolve, reject) => {
          result.then(
            (outcome) => isAlive() && resolve(outcome),
            (error: unknown) => isAlive() && reject(error as Error),
          )
        })
      }
    },
  })
}

/** Hosts that are tried one after the other, as PgServer does. */
function mortalServer(hosts: () => readonly FakeCluster[], isAlive: () => boolean): ReplicationServer {
  return {
    connect: async (signal, judge) => {
      let failure: unknown
      for (const host of hosts()) {
        try {
          const session = await mortalCopy(host, isAlive).connect(signal)
          const mortal = mortalCopy<ReplicationSession>(
            { ...session, takeOver: () => mortalSocket(session.takeOver(), isAlive) },
            isAlive,
          )
          await judge?.(mortal)
          return mortal
        } catch (error) {
          signal?.throwIfAborted()
          failure ??= error
        }
      }
      throw failure as Error
    },
  }
}

function mortalSocket(socket: ByteSocket, isAlive: () => boolean): ByteSocket {
  return {
    start: (handlers) =>
      socket.start({
        onBytes: (chunk) => isAlive() && handlers.onBytes(chunk),
        onClose: (error) => isAlive() && handlers.onClose(error),
      }),
    write: (bytes) => isAlive() && socket.write(bytes),
    pause: () => isAlive() && socket.pause(),
    resume: () => isAlive() && socket.resume(),
    destroy: () => socket.destroy(),
  }
}
