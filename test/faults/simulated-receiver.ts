/**
 * A host on which walrx runs: the receiver under test, which is killed and restarted, on its own way to the store.
 * What the servers hear and what the store holds is the world's to check.
 */
import type { Clock } from '../../src/primitives/clock.ts'
import { type ErrorCode, toWalrxError } from '../../src/primitives/errors.ts'
import type { Logger } from '../../src/observe/log.ts'
import { invalidLsn, type Lsn } from '../../src/postgres/lsn.ts'
import type { ReceiveArchive, ReceiveMeter } from '../../src/receive/ports.ts'
import { Receiver } from '../../src/receive/receiver.ts'
import type { GapRecord } from '../../src/walg/wal/gap-records.ts'
import type { TailPace } from '../../src/receive/tail/tail-pace.ts'
import type { Random } from '../harness/random.ts'
import type { VirtualClock } from '../harness/time/virtual-clock.ts'
import type { FakeHost } from './fake-host.ts'
import type { FaultyStorage } from './faulty-storage.ts'
import { mortalCopy, mortalServer } from './mortal.ts'
import { segmentSize } from './recorded-wal.ts'

/** Memory that each receiver gets: four segments. */
export const memoryBytes = 4 * segmentSize

/** What a receiver needs of the world. */
export interface ReceiverSurroundings {
  readonly clock: VirtualClock
  readonly random: Random
  readonly slot: string
  /** All addresses, in the order in which they are tried. */
  readonly hosts: () => readonly FakeHost[]
  /** The store as it is seen from here; a new one for every start, with the same objects. */
  readonly openStorage: (before: FaultyStorage | undefined) => FaultyStorage
  readonly openArchive: (storage: FaultyStorage) => ReceiveArchive
  readonly log: () => Logger
  readonly onGap: (gap: GapRecord) => void
  /** The receiver says what keeps it from streaming. */
  readonly onTrouble: (message: string) => void
  /** The receiver has ended by itself; returns how long until it is started again, in milliseconds. Throws for a defect. */
  readonly onEnd: (error: unknown) => number
  /** What {@link ReceiverSurroundings.onEnd} threw. */
  readonly onDefect: (error: unknown) => void
}

interface Incarnation {
  alive: boolean
  ended: Promise<unknown>
  readonly drain: AbortController
  readonly receiver: Receiver
}

const nothing = () => {}
const meter: ReceiveMeter = {
  received: nothing,
  uploaded: nothing,
  uploadFailed: nothing,
  tailStored: nothing,
  flushed: nothing,
  reconnected: nothing,
  poolFull: nothing,
  pastFork: nothing,
  gap: nothing,
  repaired: nothing,
}

/** See the file's header. */
export class SimulatedReceiver {
  readonly slot: string
  readonly tailPace: TailPace
  /** Of the present incarnation. */
  storage: FaultyStorage
  /** Why it could not connect or had to end the last time; undefined while it streams. */
  lastFailure: ErrorCode | undefined
  /** How often it was started. */
  starts = 0
  readonly #world: ReceiverSurroundings
  #incarnation: Incarnation | undefined

  constructor(world: ReceiverSurroundings) {
    const { random } = world
    this.#world = world
    this.slot = world.slot
    this.tailPace = {
      intervalMs: random.pick([0, 100, 1_000]),
      bytesMax: random.pick([64 * 1024, 300_000]),
      isSynchronous: random.chance(0.4),
    }
    this.storage = world.openStorage(undefined)
  }

  get isAlive(): boolean {
    return this.#incarnation?.alive === true
  }

  /** How far it says that all is durable. */
  get durableLsn(): Lsn {
    return this.#incarnation?.receiver.snapshot().durableLsn ?? invalidLsn
  }

  /** Starts it. */
  start(): void {
    const { archive, clock, isAlive, die } = this.#mortals()
    const { hosts, log, onGap, random } = this.#world
    this.starts++
    const receiver = new Receiver({
      server: mortalServer(hosts, isAlive),
      archive,
      clock,
      random: random.next,
      log: this.#listening(log()),
      meter,
      slot: this.slot,
      allowStandby: false,
      memoryBytes,
      uploadConcurrency: random.int(1, 4),
      endpos: undefined,
      onGap,
      drainTimeoutMs: 60_000,
      tailPace: this.tailPace,
      syncOutageMs: random.pick([undefined, 5_000]),
    })
    const incarnation: Incarnation = { alive: true, ended: Promise.resolve(), drain: new AbortController(), receiver }
    this.#incarnation = incarnation
    die.by(() => !incarnation.alive)
    incarnation.ended = receiver
      .run(incarnation.drain.signal, new AbortController().signal)
      .catch((error: unknown) => this.#onEnd(incarnation, error))
  }

  /** kill -9: from now on nothing that the receiver set off has any effect, except requests already in the store's hands. */
  kill(): void {
    if (!this.#incarnation) return
    this.#incarnation.alive = false
    // Its supervisor dies with it.
    this.#incarnation = undefined
    this.storage.abandon()
    for (const host of this.#world.hosts()) {
      for (const sender of [...host.senders]) if (sender.slot === this.slot) sender.cut('the receiver was killed')
    }
    this.storage = this.#world.openStorage(this.storage)
  }

  /** Lets it finish, and waits for that. */
  async stop(): Promise<void> {
    this.#incarnation?.drain.abort()
    await this.#incarnation?.ended
  }

  #onEnd(incarnation: Incarnation, error: unknown): void {
    if (!incarnation.alive) return
    incarnation.alive = false
    this.lastFailure = toWalrxError(error).code
    try {
      const waitMs = this.#world.onEnd(error)
      this.#world.clock.setTimer(waitMs, () => this.#incarnation === incarnation && this.start())
    } catch (defect) {
      this.#world.onDefect(defect)
    }
  }

  /** Clock and archive that die with the incarnation that is about to be made. */
  #mortals(): {
    archive: ReceiveArchive
    clock: Clock
    isAlive: () => boolean
    die: { by(isDead: () => boolean): void }
  } {
    const world = this.#world
    let isDead = () => false
    const isAlive = () => !isDead()
    const clock: Clock = {
      now: () => world.clock.now(),
      setTimer: (ms, fire) => world.clock.setTimer(ms, () => isAlive() && fire()),
    }
    const archive = mortalCopy(world.openArchive(this.storage), isAlive)
    return { archive, clock, isAlive, die: { by: (says) => (isDead = says) } }
  }

  /** Passes everything on, and hears what keeps the receiver from streaming. */
  #listening(log: Logger): Logger {
    const listening: Logger = {
      debug: (message, fields) => log.debug(message, fields),
      info: (message, fields) => {
        if (message === 'streaming') this.lastFailure = undefined
        log.info(message, { ...fields, by: this.slot })
      },
      warn: (message, fields) => log.warn(message, { ...fields, by: this.slot }),
      error: (message, fields) => {
        if (message === 'the stream broke') {
          this.lastFailure = fields?.code as ErrorCode
          this.#world.onTrouble(String(fields?.error))
        }
        log.error(message, { ...fields, by: this.slot })
      },
      child: () => listening,
    }
    return listening
  }
}
