/**
 * One seeded schedule: a fake cluster, a faulty store, a virtual clock, and one receiver or two that are killed and
 * restarted. After every status update it is checked that what was reported as flushed is in the store with the right
 * bytes, and at the end that every object is what a server had sent, that no receiver held more than its memory, and that
 * all WAL is archived but for gaps that were recorded, or that receivers name the history which keeps them out.
 */
import assert from 'node:assert/strict'
import { setImmediate } from 'node:timers/promises'
import { encodeSlack } from '../../src/walg/stored/stored-form.ts'
import { type Logger, silentLog } from '../../src/observe/log.ts'
import {
  addBytes,
  bytesBetween,
  formatLsn,
  type Lsn,
  parseLsn,
  segmentStart,
  type Timeline,
} from '../../src/postgres/lsn.ts'
import { historyName, parseHistory, segmentNameAt } from '../../src/postgres/wal/wal-file.ts'
import type { GapRecord } from '../../src/walg/wal/gap-records.ts'
import { systemKey } from '../../src/walg/names.ts'
import { tailMemory } from '../../src/receive/tail/tail-pace.ts'
import type { MemoryObject } from '../harness/store/memory-storage.ts'
import { Random } from '../harness/random.ts'
import { VirtualClock } from '../harness/time/virtual-clock.ts'
import { BufferRecycler } from './buffer-recycler.ts'
import { FakeCluster } from './fake-cluster.ts'
import type { FakeHost, HeardStatus } from './fake-host.ts'
import { calm, drawWeather, FaultyStorage } from './faulty-storage.ts'
import type { Lineage } from './lineage.ts'
import { lastLsn, segmentSize } from './recorded-wal.ts'
import { openSimulatedArchive } from './simulated-archive.ts'
import { emptyReport, type ScheduleReport } from './schedule-report.ts'
import { memoryBytes, SimulatedReceiver } from './simulated-receiver.ts'
import { DecryptedObjects, simulatedKeyring } from './simulated-keys.ts'
import { type ClearObjects, StoreOracle } from './store-oracle.ts'

/** What the last segment is kept for: that something is left to receive when all is calm again. */
const disorderEnd = addBytes(lastLsn, -segmentSize)

const recycler = new BufferRecycler()

/** In virtual time. The longest of many schedules takes four minutes; one that takes longer goes round in circles. */
const endsWithinMs = 20 * 60_000

/** See the file's header. */
export class World {
  readonly clock = new VirtualClock()
  /** Where the receivers log to. */
  log: Logger = silentLog
  readonly random: Random
  readonly report: ScheduleReport
  readonly cluster: FakeCluster
  readonly receivers: SimulatedReceiver[] = []
  readonly #objects = new Map<string, MemoryObject>()
  readonly #clear: ClearObjects // without encryption
  readonly #openArchive: typeof openSimulatedArchive
  readonly #oracle: StoreOracle
  /** Keys of objects that a put has left torn. */
  readonly #torn = new Set<string>()
  readonly #onceTorn = new Set<string>()
  readonly #storages: FaultyStorage[] = []
  /** Positions from which a server was asked for WAL that it had removed. */
  readonly #removed = new Set<Lsn>()
  #isPrimaryFirst = false
  #failure: unknown

  /**
   * @param openArchive a test may break it
   * @param isEncrypted true: with one of two keys, drawn for each start of a receiver, which reads both
   */
  constructor(seed: number, openArchive: typeof openSimulatedArchive = openSimulatedArchive, isEncrypted = false) {
    this.#clear = isEncrypted ? new DecryptedObjects(this.#objects) : this.#objects
    this.random = new Random(seed)
    this.report = emptyReport(seed)
    this.#openArchive = openArchive
    this.cluster = new FakeCluster({
      clock: this.clock,
      random: this.random,
      onStart: (slot, start) => this.#oracle.streamBegan(slot, start),
      onRemoved: (start) => this.#removed.add(start),
      onStatus: (status) => this.#guarded(() => this.#onStatus(status)),
    })
    this.#oracle = new StoreOracle(() => this.#lineages, this.#clear, this.#torn)
    this.receivers.push(this.#makeReceiver('walrx'))
    if (this.random.chance(0.4)) this.receivers.push(this.#makeReceiver('walrx_2'))
    this.report.pairs = this.receivers.length - 1
  }

  get #lineages(): readonly Lineage[] {
    const { primary, rival } = this.cluster
    return rival ? [primary.lineage, rival.lineage] : [primary.lineage]
  }

  #makeReceiver(slot: string): SimulatedReceiver {
    const isBackwards = this.random.chance(0.5)
    return new SimulatedReceiver({
      clock: this.clock,
      random: this.random,
      slot,
      hosts: () => this.#hosts(isBackwards),
      openStorage: (before) => this.#openStorage(before),
      openArchive: this.#openArchive,
      log: () => this.log,
      onGap: (gap) => this.#guarded(() => this.#onGap(gap)),
      onTrouble: (message) => this.#setAside(message),
      onEnd: (error) => this.#onEnd(error),
      onDefect: (error) => (this.#failure ??= error),
    })
  }

  #openStorage(before: FaultyStorage | undefined): FaultyStorage {
    const isEncrypted = this.#clear !== this.#objects
    const truths = (key: string) => (isEncrypted ? [] : this.#oracle.truths(key))
    const keys = isEncrypted ? { keyring: simulatedKeyring(this.random.pick([0, 1])) } : {}
    const onTorn = (key: string) => {
      this.report.tears++
      this.#onceTorn.add(key)
    }
    const shared = { objects: this.#objects, torn: this.#torn, onTorn, truths, ...keys }
    const storage = new FaultyStorage(this.clock, this.random, shared)
    this.#storages.push(storage)
    storage.weather = before ? before.weather : drawWeather(this.random)
    storage.outage = before?.outage
    return storage
  }

  /** Each receiver has its own order of them. The first one is not always the right one. */
  #hosts(isBackwards: boolean): readonly FakeHost[] {
    const { primary, stranger } = this.cluster
    // An archive that is bound to no cluster yet takes the first that it sees.
    const hosts = this.cluster.hosts.filter((host) => host !== stranger || this.#objects.has(systemKey))
    const ordered = isBackwards ? [...hosts].reverse() : hosts
    return this.#isPrimaryFirst ? [primary, ...ordered.filter((host) => host !== primary)] : ordered
  }

  /** Runs the whole schedule: disorder first, then calm, in which everything must come right. */
  async run(): Promise<ScheduleReport> {
    const stopLending = recycler.install()
    try {
      return await this.#run()
    } finally {
      // What is still to be reported of the last moment happens before the schedule counts as over.
      await setImmediate()
      stopLending()
      recycler.takeBack()
    }
  }

  async #run(): Promise<ScheduleReport> {
    let isDone = false
    const script = this.#script()
      .catch((error: unknown) => {
        this.#failure ??= error
      })
      .finally(() => {
        isDone = true
      })
    await this.clock
      .run(
        () => isDone || this.#failure !== undefined,
        // Bodies are in memory, and read between two timers. An open one may wait for another request's.
        () => false,
        endsWithinMs,
      )
      .catch((error: unknown) => {
        const states = this.receivers.map(({ durableLsn, lastFailure }) => `${formatLsn(durableLsn)} ${lastFailure}`)
        this.#failure ??= new Error(`${(error as Error).message}: ${states.join(', ')}`)
      })
    if (this.#failure !== undefined) throw this.#failure as Error
    await script
    return this.report
  }

  async #script(): Promise<void> {
    const { clock, random } = this
    for (const receiver of this.receivers) {
      receiver.start()
      await clock.sleep(random.int(0, random.pick([10, 5_000])))
    }
    for (let steps = random.int(3, 12); steps > 0; steps--) {
      await clock.sleep(random.int(10, random.pick([200, 3_000, 40_000])))
      await this.#disturb()
    }
    await this.#calmDown()
    await this.#settled()
    for (const receiver of this.receivers) await receiver.stop()
    this.#checkMemory()
    const { primary } = this.cluster
    if (this.#isKeptOut()) this.report.fenced++
    else this.#oracle.checkChain(primary.lineage, primary.timeline)
    this.#oracle.checkObjects()
  }

  async #disturb(): Promise<void> {
    const { cluster, random, report } = this
    const pick = random.int(0, 17)
    if (pick <= 3) this.#grow(cluster.primary, random.int(1, 2 * segmentSize))
    else if (pick === 4) cluster.primary.cutAll()
    else if (pick <= 6) await this.#kill(random.pick(this.receivers))
    else if (pick === 7) await this.#shutDown()
    else if (pick === 8) {
      report.outages++
      const { storage } = random.pick(this.receivers)
      storage.outage = storage.outage ? undefined : random.pick(['unavailable', 'denied'])
    } else if (pick <= 11) await this.#promote(pick)
    else if (pick === 12) {
      report.slotLosses++
      cluster.primary.loseSlot(random.pick(this.receivers).slot)
    } else if (pick === 13) {
      for (const host of [...cluster.zombies, ...(cluster.rival ? [cluster.rival] : [])]) {
        this.#grow(host, random.int(0, segmentSize))
        host.cutAll()
      }
    } else if (pick === 14) {
      const host = random.pick(cluster.hosts)
      host.isUp = !host.isUp && !cluster.gone.has(host)
      if (!host.isUp) host.cutAll()
    } else if (pick === 15 && !cluster.rival && random.chance(0.3)) {
      cluster.splitBrain(random.int(1, random.pick([100, segmentSize])))
      if (!cluster.rival) return
      report.splits++
      this.#grow(cluster.rival, random.int(0, segmentSize))
    } else random.pick(this.receivers).storage.weather = drawWeather(random)
  }

  #grow(host: FakeHost, bytes: number): void {
    host.grow(Math.max(0, Math.min(bytes, bytesBetween(host.end, disorderEnd))))
  }

  async #promote(pick: number): Promise<void> {
    const { cluster, random, report } = this
    if (cluster.timeline >= 6) return
    const skippedIds = random.pick([0, 0, 1])
    if (pick === 9) {
      report.promotions++
      const lostBytes = random.pick([0, random.int(0, 100_000), random.int(0, 2 * segmentSize)])
      cluster.failOver({ lostBytes, skippedIds })
    } else if (pick === 10 && cluster.standbys.length > 0) {
      report.switchovers++
      await this.#shutDownPrimary()
      cluster.switchOver()
    } else {
      report.promotions++
      cluster.promoteInPlace(skippedIds)
    }
    this.#grow(cluster.primary, random.int(0, segmentSize))
  }

  async #shutDown(): Promise<void> {
    this.report.shutdowns++
    const { primary } = this.cluster
    await this.#shutDownPrimary()
    await this.clock.sleep(this.random.int(100, 30_000))
    primary.isUp = true
  }

  async #shutDownPrimary(): Promise<void> {
    const before = this.receivers.map(({ storage: { outage, weather } }) => outage ?? weather === calm)
    const tookMs = await this.cluster.primary.shutDown(60_000)
    // A receiver that reads confirms at once. One with a pool that is full and stays full gives the connection up after 15 s;
    // only a store that takes a segment now and then may keep the server waiting while it sends the rest.
    if (before.every(Boolean)) assert.ok(tookMs < 20_000, `a fast shutdown took ${tookMs} ms`)
  }

  async #kill(receiver: SimulatedReceiver): Promise<void> {
    this.report.kills++
    receiver.kill()
    await this.clock.sleep(this.random.int(0, 10_000))
    receiver.start()
  }

  /** The store answers, the servers are back, the rival has been shut down, and the primary goes on. */
  async #calmDown(): Promise<void> {
    const { clock, cluster, receivers } = this
    for (const { storage } of receivers) {
      storage.weather = calm
      storage.outage = undefined
    }
    cluster.startAll()
    cluster.primary.isUp = true
    if (cluster.rival) {
      cluster.rival.isUp = false
      cluster.rival.cutAll()
    }
    // A receiver that has never seen the newest timeline can't know that a former primary is one.
    this.#isPrimaryFirst = true
    const isSeen = () => cluster.timeline === 1 || this.#objects.has(`wal_005/${historyName(cluster.timeline)}`)
    while (!isSeen() && !this.#isKeptOut()) {
      for (const zombie of cluster.zombies) zombie.cutAll()
      await clock.sleep(500)
    }
    this.#isPrimaryFirst = false
    for (const host of cluster.hosts) host.cutAll()
    while (receivers.some(({ lastFailure }) => lastFailure !== undefined) && !this.#isKeptOut()) await clock.sleep(500)
    cluster.primary.grow(bytesBetween(cluster.primary.end, lastLsn))
  }

  /** Every receiver has received all, or says what keeps it out. */
  async #settled(): Promise<void> {
    const isOver = ({ durableLsn, lastFailure }: SimulatedReceiver) =>
      this.#isKeptOut()
        ? lastFailure === 'WALRX_ARCHIVE_CONFLICT' || lastFailure === 'WALRX_SOURCE_BEHIND'
        : durableLsn >= lastLsn
    while (!this.receivers.every(isOver)) await this.clock.sleep(500)
  }

  /** True when the archive holds the history of another promotion, which the primary's contradicts. */
  #isKeptOut(): boolean {
    const { primary, rival } = this.cluster
    return (rival?.lineage.timelines ?? []).some((timeline) => {
      const archived = this.#clear.get(`wal_005/${historyName(timeline)}`)?.bytes
      if (!archived || primary.lineage.history(timeline)?.equals(archived)) return false
      const isAncestor = primary.chain().link(timeline) !== undefined
      return isAncestor || this.#leaves(primary.timeline, timeline, archived)
    })
  }

  #leaves(old: Timeline, timeline: Timeline, history: Buffer): boolean {
    return timeline > old && parseHistory(history, historyName(timeline)).some((entry) => entry.timeline === old)
  }

  /** What a receiver may end with, and how long until its supervisor starts it again. */
  #onEnd(error: unknown): number {
    const { code } = error as { code?: string }
    // The start may fail while server or store are out, and is tried again as a supervisor would.
    if (this.#setAside((error as Error).message)) return 1_000
    if (code === undefined || code === 'WALRX_WAL_INVALID' || code === 'WALRX_INTERNAL') throw error
    if (code !== 'WALRX_ARCHIVE_CONFLICT') return 1_000
    if (this.cluster.rival) return 30_000
    // Another receiver has set it aside meanwhile.
    if ([...this.#onceTorn].some((key) => (error as Error).message.includes(key))) return 1_000
    throw error
  }

  /** The operator sets the torn objects aside that a receiver has named, by key or by WAL; says if there were any. */
  #setAside(message: string): boolean {
    const range = /between ([0-9A-F]+\/[0-9A-F]+) and/.exec(message)?.[1]
    const isMeant = (key: string) => {
      const segment = /[0-9A-F]{24}/.exec(key)?.[0] ?? ''
      return (
        message.includes(segment) ||
        (range && segmentNameAt(1, parseLsn(range), segmentSize).slice(8) === segment.slice(8))
      )
    }
    const keys = [...this.#torn].filter(isMeant)
    for (const key of keys) this.#objects.delete(key)
    for (const key of keys) this.#torn.delete(key)
    this.report.torn += keys.length
    return keys.length > 0
  }

  #onGap({ host, startLsn, timeline }: GapRecord): void {
    this.report.gaps++
    const isRemoved = [...this.#removed].some((asked) => asked <= startLsn)
    assert.ok(isRemoved, `a gap on timeline ${timeline} at ${formatLsn(startLsn)} that ${host} could have filled`)
  }

  #onStatus({ apply, flush, host, slot, timeline, write }: HeardStatus): void {
    const receiver = this.receivers.find((one) => one.slot === slot)
    assert.ok(receiver, `a status for the slot ${slot}`)
    assert.equal(apply, 0n, 'apply must never be answered')
    this.#oracle.noteFirst()
    if (flush === 0n) return
    this.report.flushes++
    assert.ok(write >= flush, 'flush is ahead of write')
    if (receiver.tailPace.isSynchronous) assert.equal(write, flush, 'remote_write passes from memory')
    else assert.equal(segmentStart(flush, segmentSize), flush, 'flush is no segment boundary')
    this.#oracle.checkFlush(slot, host.lineage, timeline, flush)
  }

  /** No receiver had more buffers than its memory is divided into, nor more bytes on their way to the store. */
  #checkMemory(): void {
    const segments = Math.floor(((memoryBytes / segmentSize) * 3) / 4) * segmentSize
    const bodies = Math.max(...this.receivers.map(({ tailPace }) => segments + tailMemory(tailPace)))
    for (const { bodyBytesMax } of this.#storages)
      assert.ok(bodyBytesMax <= bodies, `${bodyBytesMax} bytes under way in puts`)
    const starts = this.receivers.reduce((sum, receiver) => sum + receiver.starts, 0)
    const pooled = segmentSize + encodeSlack(segmentSize)
    const buffers = Math.floor(((memoryBytes / segmentSize) * 3) / 4)
    assert.ok(recycler.lentOf(pooled) <= starts * buffers, `${recycler.lentOf(pooled)} buffers in ${starts} starts`)
    for (const size of new Set(this.receivers.map(({ tailPace }) => tailPace.bytesMax))) {
      const tail = size + encodeSlack(size)
      const most = this.receivers.reduce(
        (sum, { starts: count, tailPace }) => sum + (tailPace.bytesMax === size ? count * tailMemory(tailPace) : 0),
        0,
      )
      assert.ok(recycler.lentOf(tail) * tail <= most, `${recycler.lentOf(tail)} buffers for chunks of ${size} bytes`)
    }
  }

  #guarded(check: () => void): void {
    try {
      check()
    } catch (error) {
      this.#failure ??= error
    }
  }
}
