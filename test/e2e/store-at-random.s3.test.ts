/**
 * Commands on a store that fails at random, by a seed: wal-receive, backup-push, wal-fetch and backup-fetch. Whatever it
 * does, there is no wrong 74, no false success, no reason that gets lost, and nothing stays open.
 */
import assert from 'node:assert/strict'
import { existsSync } from 'node:fs'
import { mkdir, readFile, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { zstdDecompressSync } from 'node:zlib'
import { formatLsn, parseLsn } from '../../src/postgres/lsn.ts'
import { segmentNameAt } from '../../src/postgres/wal/wal-file.ts'
import { trials } from '../harness/extent.ts'
import { generateWal } from '../harness/made/wal-load.ts'
import { startPostgres, type TestPostgres } from '../harness/postgres/postgres.ts'
import { Random } from '../harness/random.ts'
import { endOfSwitched } from '../harness/store/archive-check.ts'
import { type FaultyS3, startFaultyS3 } from '../harness/store/faulty-s3/faulty-s3.ts'
import { until } from '../harness/time/until.ts'
import { newServerDirectory } from '../harness/walrx/test-workspace.ts'
import { type ProcessEnd, runWalrx, startWalrx } from '../harness/walrx/walrx-process.ts'
import { drawSchedule, drawTraits } from './random-faults.ts'

const MiB = 1024 * 1024

/** The first seed, and how many. */
const firstSeed = Number(process.env['WALRX_TEST_STORE_SEED'] ?? 1)
const seedCount = trials('WALRX_TEST_STORE_SEEDS', 3, 20)

/** A command that failed has said why, in one line that is no stack trace, and it is no defect of walrx. */
function assertReason(end: ProcessEnd, at: string): void {
  const said = `${at}: status ${end.status}, ${end.stderr.slice(-1500)}`
  assert.equal(end.signal, null, said)
  assert.ok(end.status !== null && ![0, 1].includes(end.status), said)
  assert.doesNotMatch(end.stderr, /^\s+at .*\(?.*:\d+:\d+\)?$/m, said)
  assert.match(end.stderr, /\S/, said)
}

describe('commands on a store that fails at random', () => {
  let server: TestPostgres
  before(async () => {
    server = await startPostgres({ major: 18, segmentSizeMb: 1, settings: { wal_keep_size: '4GB' } })
  })
  after(() => server[Symbol.asyncDispose]())

  for (let seed = firstSeed; seed < firstSeed + seedCount; seed++) {
    const random = new Random(seed)
    const traits = drawTraits(random)
    const rate = random.pick([0.01, 0.05, 0.1, 0.2, 0.3])
    test(`seed ${seed}: ${rate * 100} % of all requests, ${JSON.stringify(traits)}`, { timeout: 400_000 }, async () => {
      await using store = await startFaultyS3(traits)
      const world = new World(server, store, seed)
      const misbehave = () => (store.schedule = drawSchedule(random, rate))
      const behave = () => (store.schedule = undefined)
      misbehave()
      const slot = `random_${seed}`
      await using receiver = startWalrx(
        ['wal-receive', '--dbname', server.conninfo(), '--slotname', slot],
        world.options,
      )
      await receiver.logged('streaming')
      const pushing = world.run('backup-push', '--dbname', server.conninfo())
      const end = await world.writeWal(12)
      await world.archivedUpTo(end)
      const pushed = await pushing
      behave()
      await world.assertPushed(pushed)
      if (pushed.status !== 0) {
        const again = await world.run('backup-push', '--dbname', server.conninfo())
        assert.equal(again.status, 0, again.stderr)
      }
      const stopped = await receiver.stop()
      assert.equal(stopped.status, 0, stopped.stderr.slice(-2000))
      assert.ok(!receiver.lines.some(({ msg }) => msg.includes('WAL is lost')), receiver.stderr)
      await world.assertSlot(slot, end)
      misbehave()
      await world.assertFetches(end)
      await world.assertRestores(behave, misbehave)
      await until('no connection is left', () => store.connections === 0)
    })
  }
})

/** An archive in a store of its own. */
class World {
  readonly options: { readonly env: Readonly<Record<string, string>> }
  readonly #server: TestPostgres
  readonly #store: FaultyS3
  readonly #seed: number

  constructor(server: TestPostgres, store: FaultyS3, seed: number) {
    this.#server = server
    this.#store = store
    this.#seed = seed
    this.options = {
      env: {
        WALG_S3_PREFIX: `s3://${store.bucket}/archive`,
        AWS_ENDPOINT: store.endpoint,
        AWS_REGION: store.region,
        AWS_ACCESS_KEY_ID: store.accessKeyId,
        AWS_SECRET_ACCESS_KEY: store.secretAccessKey,
        WALRX_STORE_PATIENCE: '60s',
      },
    }
  }

  run(...args: string[]): Promise<ProcessEnd> {
    return runWalrx(args, this.options)
  }

  /** @returns the end of the last segment */
  async writeWal(segments: number): Promise<bigint> {
    await generateWal(this.#server, { segments: segments / 2, fill: 'full' })
    await generateWal(this.#server, { segments: segments / 2 })
    const end = endOfSwitched(parseLsn(await this.#server.switchWal()), MiB)
    await this.#server.sql(`select pg_logical_emit_message(false, 'walrx', 'one more')`)
    return end
  }

  #has(name: string): boolean {
    return this.#store.store.objects.has(`archive/wal_005/${name}.zst`)
  }

  async archivedUpTo(end: bigint): Promise<void> {
    const last = segmentNameAt(1, parseLsn(formatLsn((end - 1n) as never)), MiB)
    await until(`${last} in the archive`, () => this.#has(last), 120_000)
  }

  /** What backup-push said is true: a backup that it called complete is, and of another there is none. */
  async assertPushed(pushed: ProcessEnd): Promise<void> {
    const at = `seed ${this.#seed}, backup-push`
    const listed = await this.run('backup-list', '--json')
    const backups = listed.status === 0 ? (JSON.parse(listed.stdout) as { backup_name: string }[]) : []
    if (pushed.status === 0) {
      assert.equal(backups.length, 1, listed.stdout + listed.stderr)
      const verified = await this.run('backup-verify', 'LATEST')
      assert.equal(verified.status, 0, `${at}: ${verified.stderr}`)
    } else {
      assertReason(pushed, at)
      assert.equal(backups.length, 0, `${at} failed with ${pushed.status}, and there is a backup: ${pushed.stderr}`)
    }
  }

  /** The server keeps what is not archived: the slot is at no segment that is missing. */
  async assertSlot(slot: string, end: bigint): Promise<void> {
    const [row] = await this.#server.sql<{ lsn: string }>(
      `select restart_lsn::text as lsn from pg_replication_slots where slot_name = '${slot}'`,
    )
    assert.ok(parseLsn(row?.lsn ?? '0/0') >= end, `seed ${this.#seed}: the slot is at ${row?.lsn}`)
    await this.#server.sql(`select pg_drop_replication_slot('${slot}')`)
  }

  /** Each archived segment comes as the server wrote it, or with a reason; 74 is for what is not there. */
  async assertFetches(end: bigint): Promise<void> {
    const directory = newServerDirectory(`random-${this.#seed}`)
    await mkdir(directory, { recursive: true })
    for (let back = -1; back < 5; back++) {
      const name = segmentNameAt(1, (end - BigInt(MiB) * BigInt(back) - 1n) as never, MiB)
      const target = join(directory, name)
      const at = `seed ${this.#seed}, wal-fetch ${name}`
      const fetched = await this.run('wal-fetch', name, target, '--fetch-retry-timeout', '20s')
      if (fetched.status === 0) {
        const stored = this.#store.store.objects.get(`archive/wal_005/${name}.zst`)
        assert.ok(stored, at)
        const bytes = await readFile(target)
        assert.ok(bytes.equals(zstdDecompressSync(stored.body)), at)
        assert.ok(bytes.equals(await readFile(join(this.#server.pgWal(), name))), at)
      } else {
        assert.ok(!existsSync(target), `${at} failed, and left a file`)
        if (fetched.status === 74) assert.ok(!this.#has(name), `${at}: 74, and it is there: ${fetched.stderr}`)
        else assertReason(fetched, at)
      }
    }
    await rm(directory, { recursive: true })
  }

  /** A restore is whole, or fails with a reason and can be started by nobody. */
  async assertRestores(behave: () => void, misbehave: () => void): Promise<void> {
    const directory = newServerDirectory(`random-restore-${this.#seed}`)
    const at = `seed ${this.#seed}, backup-fetch`
    behave()
    const listed = await this.run('backup-list', '--json')
    if (listed.status !== 0 || (JSON.parse(listed.stdout) as unknown[]).length === 0) return
    misbehave()
    const data = join(directory, 'data')
    const fetched = await this.run('backup-fetch', data, 'LATEST')
    if (fetched.status === 0) {
      for (const name of ['PG_VERSION', 'global/pg_control', 'backup_manifest'])
        assert.ok(existsSync(join(data, name)), at)
      assert.ok(!existsSync(join(data, 'walrx_restore_incomplete')), at)
    } else {
      assertReason(fetched, at)
      assert.ok(!existsSync(join(data, 'global/pg_control')), `${at} failed, and pg_control is there`)
    }
    await rm(directory, { recursive: true, force: true })
  }
}
