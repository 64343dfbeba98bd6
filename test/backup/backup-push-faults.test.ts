import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { pushBackup } from '../../src/backup/backup-push.ts'
import { noneCodec } from '../../src/compression/none.ts'
import { hasCode } from '../../src/primitives/errors.ts'
import type { Keyring } from '../../src/crypto/keyring.ts'
import { calm, FaultyStorage } from '../faults/faulty-storage.ts'
import { simulatedKeyring } from '../faults/simulated-keys.ts'
import { Random } from '../harness/random.ts'
import { VirtualClock } from '../harness/time/virtual-clock.ts'
import { BackupServer, type BackupScript, pushOptions, segment } from './backup-server.ts'
import { assertNoSentinelWithoutData } from './sentinel-check.ts'
import { withNothingUnhandled } from './parts/watched-storage.ts'

const hour = 3600_000

/** A day of bad weather, drawn by a seed: a push, then a second one a day later, when the weather is fine. */
class World {
  readonly clock = new VirtualClock()
  readonly storage: FaultyStorage
  readonly #random: Random
  #server = new BackupServer({})

  constructor(seed: number, keyring: Keyring | undefined) {
    this.#random = new Random(seed)
    const store = { objects: new Map(), torn: new Set<string>(), onTorn: () => {}, truths: () => [] }
    this.storage = new FaultyStorage(this.clock, this.#random, { ...store, ...(keyring && { keyring }) })
  }

  /** What came of a push: undefined where it succeeded. */
  async push(script: BackupScript): Promise<Error | undefined> {
    this.#server = new BackupServer(script)
    const walTimeoutMs = this.#random.pick([0, 60_000])
    const options = pushOptions(this.#server, this.storage, { clock: this.clock, codec: noneCodec, walTimeoutMs })
    if (this.#random.chance(0.2)) this.storage.objects.delete(`wal_005/${segment}.zst`)
    const outcome = pushBackup(options).then(
      () => undefined,
      (error: unknown) => error as Error,
    )
    await this.#run(outcome, 12 * hour)
    assert.equal(this.#server.open.size, 0)
    return outcome
  }

  pass(ms: number): Promise<void> {
    return this.#run(this.clock.sleep(ms), ms + 1)
  }

  /** Some of everything that may go wrong. */
  storm(): BackupScript {
    const random = this.#random
    const chance = () => (random.chance(0.5) ? random.next() * 0.05 : 0)
    this.storage.weather = {
      failBefore: chance(),
      failAfter: chance(),
      late: chance(),
      twice: chance(),
      stall: chance(),
      torn: 0,
      latencyMsMax: random.pick([1, 20, 2000]),
    }
    if (random.chance(0.2)) {
      const outageMs = random.int(0, 4000)
      this.clock.setTimer(outageMs, () => (this.storage.outage = 'unavailable'))
    }
    const whole = this.#server.bytes().length
    const breaks = random.chance(0.2) ? { breaksAfter: random.int(0, whole) } : {}
    return { readBytes: random.pick([500, 3000, 20_000]), ...breaks }
  }

  async #run(promise: Promise<unknown>, limitMs: number): Promise<void> {
    let isOver = false
    const over = () => {
      isOver = true
    }
    promise.then(over, over)
    await this.clock.run(
      () => isOver,
      () => this.storage.openBodies > 0 || this.#server.isPlaying,
      limitMs,
    )
  }
}

describe('backups in bad weather', { timeout: 120_000 }, () => {
  const first = Math.floor(Math.random() * 2 ** 31)
  const outcomes = new Map<string, number>()

  const title = `never leave a sentinel without its data, nor what is in the way a day later (seeds from ${first})`
  test(title, () => pushAll(150, undefined))
  test(`encrypted, ${title}`, () => pushAll(50, simulatedKeyring(0)))

  async function pushAll(count: number, keyring: Keyring | undefined): Promise<void> {
    for (let seed = first; seed < first + count; seed++) {
      try {
        await withNothingUnhandled(async () => {
          const world = new World(seed, keyring)
          const failure = await world.push(world.storm())
          const kind = failure ? ((failure as { code?: string }).code ?? 'other') : 'complete'
          outcomes.set(kind, (outcomes.get(kind) ?? 0) + 1)
          const isThere = assertNoSentinelWithoutData(world.storage)
          if (!failure) assert.ok(isThere, 'no sentinel of a backup that succeeded')
          await world.pass(25 * hour)
          assert.equal(assertNoSentinelWithoutData(world.storage), isThere)
          world.storage.weather = calm
          world.storage.outage = undefined
          const second = await world.push({})
          if (isThere) assert.ok(hasCode(second, 'WALRX_BACKUP_EXISTS'), String(second))
          else assert.ok(second === undefined || hasCode(second, 'WALRX_BACKUP_INCOMPLETE'), String(second))
          assert.equal(assertNoSentinelWithoutData(world.storage), isThere || second === undefined)
        })
      } catch (error) {
        throw new Error(`seed ${seed}`, { cause: error })
      }
    }
  }

  test('come to every kind of end', (t) => {
    t.diagnostic([...outcomes].map(([kind, count]) => `${kind} ${count}`).join(', '))
    for (const kind of ['complete', 'WALRX_STORAGE_UNAVAILABLE', 'WALRX_CONNECTION_LOST', 'WALRX_BACKUP_INCOMPLETE']) {
      assert.ok((outcomes.get(kind) ?? 0) > 0, `${kind} never happened`)
    }
  })
})
