/**
 * Failover after failover: one receiver with the addresses of three hosts follows whichever is the primary. Both
 * timelines are complete afterwards, and what the archive gives back is what the newest primary has.
 */
import assert from 'node:assert/strict'
import { chmodSync, mkdirSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { describe, test } from 'node:test'
import { FixedAddress } from '../../harness/postgres/fixed-addresses.ts'
import { startPostgres, type TestPostgres } from '../../harness/postgres/postgres.ts'
import { copyDataDir, startRecovery, startStandby } from '../../harness/postgres/postgres-copies.ts'
import { Random } from '../../harness/random.ts'
import { newServerDirectory } from '../../harness/walrx/test-workspace.ts'
import { walrxRestoring } from '../../harness/walrx/walrx-restoring.ts'
import { startWalrx, type WalrxProcess } from '../../harness/walrx/walrx-process.ts'

const rounds = Number(process.env.WALRX_SWITCHOVERS ?? 2)
const seed = Number(process.env.WALRX_SEED ?? Date.now() % 100_000)
const settings = { wal_keep_size: '1GB', max_wal_size: '2GB', checkpoint_timeout: '1h' }

async function rowsOf(server: TestPostgres): Promise<string> {
  const [row] = await server.sql<{ rows: string }>(`select string_agg(v, ' ' order by v) as rows from t`)
  return row?.rows ?? ''
}

async function timelineOf(server: TestPostgres): Promise<number> {
  const [row] = await server.sql<{ timeline: number }>('select timeline_id as timeline from pg_control_checkpoint()')
  return Number(row?.timeline)
}

/** Three hosts: one primary and two standbys. */
class Cluster implements AsyncDisposable {
  readonly random: Random
  readonly addresses: FixedAddress[] = []
  primary!: TestPostgres
  standbys: TestPostgres[] = []

  constructor(random: Random) {
    this.random = random
  }

  async open(): Promise<void> {
    for (let host = 0; host < 3; host++) this.addresses.push(await FixedAddress.open())
    this.primary = await startPostgres({ major: 17, segmentSizeMb: 1, settings })
    await this.primary.sql('create table t (v text)')
    ;(this.addresses[0] as FixedAddress).target = this.primary.port
  }

  get conninfo(): string {
    const ports = this.addresses.map(({ port }) => port).join(',')
    return `${this.primary.conninfo()} host=127.0.0.1,127.0.0.1,127.0.0.1 port=${ports}`
  }

  /** The address of a server. */
  addressOf(server: TestPostgres): FixedAddress {
    return this.addresses.find(({ target }) => target === server.port) as FixedAddress
  }

  /** Two standbys at the addresses that are free. */
  async addStandbys(): Promise<void> {
    for (const address of this.addresses.filter(({ target }) => target === undefined)) {
      const standby = await startStandby(this.primary, { settings: { ...settings, hot_standby: 'on' } })
      address.target = standby.port
      this.standbys.push(standby)
    }
  }

  async remove(server: TestPostgres): Promise<void> {
    const address = this.addressOf(server)
    address.target = undefined
    address.cut()
    await server[Symbol.asyncDispose]()
  }

  async write(server: TestPostgres, prefix: string): Promise<void> {
    for (let index = this.random.int(1, 5); index > 0; index--) {
      await server.sql(`insert into t values ('${prefix}-${index}')`)
      const bytes = this.random.int(0, 600_000)
      await server.sql(`select pg_logical_emit_message(false, 'walrx', repeat('x', ${bytes}))`)
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const server of [this.primary, ...this.standbys]) await server[Symbol.asyncDispose]()
    for (const address of this.addresses) await address[Symbol.asyncDispose]()
  }
}

/** One failover. The old primary is shut down, or killed, and in the end may come back and write on. */
async function failOver(cluster: Cluster, receiver: WalrxProcess, round: number): Promise<string> {
  const { random } = cluster
  const old = cluster.primary
  const from = receiver.lines.length
  await cluster.write(old, `r${round}`)
  const how = random.pick(['fast', 'immediate'] as const)
  const comesBack = random.chance(0.6)
  const next = random.int(0, 1)
  if (how === 'fast') await old.stop('fast')
  else await old.kill9()
  const oldAddress = cluster.addressOf(old)
  oldAddress.target = undefined
  cluster.primary = cluster.standbys[next] as TestPostgres
  await cluster.primary.promote()
  await cluster.primary.sql('checkpoint')
  const timeline = await timelineOf(cluster.primary)
  await cluster.write(cluster.primary, `r${round}-new`)
  await receiver.logged((line) => line.msg === 'streaming' && line['timeline'] === timeline, from)

  if (comesBack) {
    oldAddress.target = old.port
    await old.start()
    await cluster.write(old, `r${round}-zombie`)
    const mark = receiver.lines.length
    cluster.addressOf(cluster.primary).cut()
    await receiver.logged('streaming', mark)
    const streams = receiver.lines.slice(mark).filter(({ msg }) => msg === 'streaming')
    assert.ok(
      streams.every((line) => line['timeline'] === timeline),
      JSON.stringify(streams),
    )
  }
  await cluster.remove(cluster.standbys[1 - next] as TestPostgres)
  oldAddress.target = old.port
  await cluster.remove(old)
  cluster.standbys = []
  return `${how}${comesBack ? ', comes back writable' : ''}, timeline ${timeline}`
}

describe('a receiver follows the primary', () => {
  test(`through ${rounds} failovers`, { timeout: 60_000 + rounds * 60_000 }, async (t) => {
    t.diagnostic(`seed ${seed}`)
    const archive = join(newServerDirectory('switchover'), 'archive')
    mkdirSync(archive, { recursive: true })
    chmodSync(archive, 0o777)
    await using cluster = new Cluster(new Random(seed))
    await cluster.open()
    const copy = await copyDataDir(cluster.primary, false)
    await using receiver = startWalrx(['wal-receive', '--file-prefix', archive, '--dbname', cluster.conninfo])
    await receiver.logged('streaming')
    for (let round = 1; round <= rounds; round++) {
      await cluster.addStandbys()
      t.diagnostic(`round ${round}: ${await failOver(cluster, receiver, round)}`)
    }
    const rows = await rowsOf(cluster.primary)
    const [end] = await cluster.primary.sql<{ file: string; lsn: string }>(
      'select pg_walfile_name(pg_current_wal_lsn()) as file, pg_current_wal_lsn()::text as lsn',
    )
    await cluster.primary.switchWal()
    await cluster.primary.sql(`select pg_logical_emit_message(true, 'walrx', 'one more')`)
    await receiver.logged(({ file, msg }) => msg === 'archived' && file === end?.file)
    assert.equal((await receiver.stop('SIGTERM')).status, 0)

    const names = readdirSync(join(archive, 'wal_005'))
    const timeline = await timelineOf(cluster.primary)
    for (let id = 2; id <= timeline; id++) {
      const hex = id.toString(16).toUpperCase().padStart(8, '0')
      assert.ok(
        names.some((name) => name.startsWith(`${hex}.history`)),
        `the history of timeline ${id} is archived`,
      )
    }
    await using recovered = await startRecovery({ copy, restoreCommand: walrxRestoring(archive), wait: false })
    await recovered.recovered(60_000 + rounds * 20_000)
    assert.equal(await rowsOf(recovered), rows, `seed ${seed}`)
  })
})
