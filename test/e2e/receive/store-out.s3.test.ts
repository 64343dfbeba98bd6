/** A server that is shut down, switched over or fills its slot while the bucket is out. */
import assert from 'node:assert/strict'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, test } from 'node:test'
import { formatLsn, type Lsn, parseLsn, segmentOffset, segmentStart } from '../../../src/postgres/lsn.ts'
import { segmentNameAt } from '../../../src/postgres/wal/wal-file.ts'
import { endOfSwitched } from '../../harness/store/archive-check.ts'
import { FixedAddress } from '../../harness/postgres/fixed-addresses.ts'
import { freePort } from '../../harness/ports.ts'
import { startPostgres, type TestPostgres } from '../../harness/postgres/postgres.ts'
import { startStandby } from '../../harness/postgres/postgres-copies.ts'
import { until } from '../../harness/time/until.ts'
import { generateWal } from '../../harness/made/wal-load.ts'
import type { WalrxProcess } from '../../harness/walrx/walrx-process.ts'
import { StoreWorld } from './store-world.ts'

const segmentSize = 1024 * 1024
const timeout = 240_000
const settings = { wal_keep_size: '1GB', checkpoint_timeout: '1h' }

/** A healthy shutdown takes a tenth of a second; one that waits for walrx never ends. */
const shutdownMsMax = 20_000

/** What the slot keeps. */
async function slotOf(server: TestPostgres): Promise<{ restart: Lsn; status: string }> {
  const [slot] = await server.sql<{ restart: string; status: string }>(
    `select restart_lsn::text as restart, wal_status as status from pg_replication_slots where slot_name = 'walrx'`,
  )
  return { restart: parseLsn(slot?.restart ?? ''), status: slot?.status ?? '' }
}

async function flushLsn(server: TestPostgres): Promise<Lsn> {
  const [row] = await server.sql<{ lsn: string }>('select pg_current_wal_flush_lsn()::text as lsn')
  return parseLsn(row?.lsn ?? '')
}

describe('while the bucket is out', () => {
  let world: StoreWorld
  beforeEach(async () => {
    world = await StoreWorld.open()
  })
  afterEach(() => world[Symbol.asyncDispose]())

  /** Ends the segment and waits until it is in the bucket. Returns its name. */
  async function archived(server: TestPostgres, receiver: WalrxProcess, timeline = 1): Promise<string> {
    const end = endOfSwitched(parseLsn(await server.switchWal()), segmentSize)
    await server.sql(`select pg_logical_emit_message(false, 'walrx', 'one more')`)
    const last = segmentNameAt(timeline, (end - 1n) as Lsn, segmentSize)
    await receiver.logged(({ file, msg }) => msg === 'archived' && file === last)
    return last
  }

  for (const kind of ['asynchronous', 'synchronous'] as const) {
    test(
      `a fast shutdown comes to its end, and the slot keeps what is not archived (${kind})`,
      { timeout },
      async () => {
        await using server = await startPostgres({ major: 17, segmentSizeMb: 1, settings })
        const conninfo = server.conninfo()
        await using receiver = world.receive(conninfo, kind === 'synchronous' ? ['--synchronous'] : [])
        await receiver.logged('streaming')
        if (kind === 'synchronous') {
          await server.configure({ settings: { synchronous_standby_names: 'walrx' } })
          await server.reload()
        }
        const durable = await archived(server, receiver)
        world.proxy.mode = 'stall'
        // Asynchronously committed: a synchronous commit would wait for the bucket, as it should.
        await server.sql('set synchronous_commit = local; create table t (i int)')
        await server.sql(`select pg_logical_emit_message(false, 'walrx', repeat('x', 3000000))`)
        const unarchived = await flushLsn(server)
        await until('all WAL to be received', async () => {
          const [row] = await server.sql<{ has: boolean }>(
            kind === 'synchronous'
              ? `select sent_lsn >= '${formatLsn(unarchived)}' as has from pg_stat_replication`
              : `select write_lsn >= '${formatLsn(unarchived)}' as has from pg_stat_replication`,
          )
          return row?.has
        })
        await world.proxy.saw('stall')
        const stopMs = await server.stop('fast', shutdownMsMax)
        await receiver.logged('the server shuts down')
        assert.ok(!(await world.segments()).some((name) => name > durable), 'the store was not out')
        await receiver.stop('SIGKILL')

        await server.configure({ settings: { synchronous_standby_names: '' } })
        await server.start()
        const { restart, status } = await slotOf(server)
        assert.equal(status, 'reserved', `after a shutdown of ${Math.round(stopMs)} ms`)
        const firstMissing = segmentNameAt(1, restart, segmentSize)
        assert.ok(
          (await world.segments()).includes(
            segmentNameAt(1, (segmentStart(restart, segmentSize) - 1n) as Lsn, segmentSize),
          ),
          `the slot is at ${firstMissing}, and the segment before is not archived`,
        )
        assert.ok(restart < unarchived, 'the slot has moved past WAL that is not archived')

        world.recover()
        await using again = world.receive(conninfo)
        await again.logged('streaming')
        const last = await archived(server, again)
        const compared = await world.compareWithServer(server)
        assert.ok(compared.includes(segmentNameAt(1, unarchived, segmentSize)) && compared.includes(last))
        assert.equal((await again.stop()).status, 0)
      },
    )
  }

  test(
    'a switchover loses nothing: what only walrx holds is archived when the bucket is back',
    { timeout },
    async () => {
      await using addresses = new AsyncDisposableStack()
      const [here, there] = [addresses.use(await FixedAddress.open()), addresses.use(await FixedAddress.open())]
      await using old = await startPostgres({ major: 17, segmentSizeMb: 1, settings })
      await using standby = await startStandby(old, { settings })
      here.target = old.port
      there.target = standby.port
      const conninfo = `${old.conninfo()} host=127.0.0.1,127.0.0.1 port=${here.port},${there.port}`
      await using receiver = world.receive(conninfo)
      await receiver.logged('streaming')
      const durable = await archived(old, receiver)

      world.proxy.mode = 'stall'
      await generateWal(old, { segments: 3, fill: 'full' })
      await old.sql(`select pg_logical_emit_message(true, 'walrx', repeat('x', 300000))`)
      await world.proxy.saw('stall')
      const from = receiver.lines.length
      await old.stop('fast', shutdownMsMax)
      here.target = undefined
      const sent = await receiver.logged('the server shuts down', from)
      const end = parseLsn(String(sent['receivedUpTo']))
      await standby.promote()
      await generateWal(standby, { segments: 2 })
      assert.ok(!(await world.segments()).some((name) => name > durable), 'the store was not out')
      world.recover()
      await receiver.logged(({ msg, timeline }) => msg === 'streaming' && timeline === 2, from)
      const last = await archived(standby, receiver, 2)

      const [history] = (await readFile(join(standby.pgWal(), '00000002.history'), 'utf8')).split('\n')
      const fork = parseLsn(history?.split('\t')[1] ?? '')
      assert.ok(fork <= end, 'walrx had everything that the old primary had')
      assert.notEqual(segmentOffset(fork, segmentSize), 0)
      assert.deepEqual(
        await world.decoded('00000002.history'),
        await readFile(join(standby.pgWal(), '00000002.history')),
      )
      // Whole segments up to the fork, the rest as a partial one, and everything after it on the new timeline.
      const whole = await world.compareWithServer(old)
      for (let lsn = end; lsn > 0n; lsn = (lsn - BigInt(segmentSize)) as Lsn) {
        const name = segmentNameAt(1, segmentStart(lsn, segmentSize), segmentSize)
        if (name === durable) break
        const isLast = segmentStart(lsn, segmentSize) === segmentStart(fork, segmentSize)
        assert.ok(isLast || whole.includes(name), `${name} of the old timeline is missing`)
      }
      const partial = await world.decoded(`${segmentNameAt(1, fork, segmentSize)}.partial`)
      const own = await readFile(join(old.pgWal(), segmentNameAt(1, fork, segmentSize)))
      const filled = segmentOffset(fork, segmentSize)
      assert.ok(partial.subarray(0, filled).equals(own.subarray(0, filled)))
      assert.ok((await world.compareWithServer(standby)).includes(last))

      // The old primary comes back as if nothing had happened, and is the only one that answers.
      const before = await world.keys('wal_005/')
      await old.start()
      await generateWal(old, { segments: 3 })
      const mark = receiver.lines.length
      there.target = undefined
      here.target = old.port
      there.cut()
      await receiver.logged((line) => line['code'] === 'WALRX_SOURCE_BEHIND', mark)
      const fresh = await world.run('wal-receive', '--dbname', old.conninfo(), '--slotname', 'zombie')
      assert.equal(fresh.status, 3, fresh.stderr)
      assert.match(fresh.stderr, /probably a former primary/)
      assert.deepEqual(await world.keys('wal_005/'), before, 'WAL of a former primary was archived')
      there.target = standby.port
      const back = receiver.lines.length
      await receiver.logged('streaming', back)
      await archived(standby, receiver, 2)
      assert.equal((await receiver.stop()).status, 0)
    },
  )

  test(
    'one that refuses everything: an alert says how much the slot keeps, and all is archived afterwards',
    { timeout },
    async () => {
      await using server = await startPostgres({ major: 17, segmentSizeMb: 1, settings })
      const port = await freePort()
      const flags = ['--max-slot-lag=6MB', `--status-listen=127.0.0.1:${port}`]
      await using receiver = world.receive(server.conninfo(), flags)
      await receiver.logged('streaming')
      await archived(server, receiver)
      const metric = async (name: string) => {
        const text = await (await fetch(`http://127.0.0.1:${port}/metrics`)).text()
        return Number(new RegExp(`^${name}\\{cluster="[^"]+"\\} (\\S+)$`, 'm').exec(text)?.[1])
      }
      assert.equal(await metric('walrx_slot_lag_over_budget'), 0)
      world.proxy.mode = '403'
      await generateWal(server, { segments: 12, fill: 'full' })
      await receiver.logged('could not archive, trying again')
      const alert = await receiver.logged('the slot keeps more WAL than --max-slot-lag allows')
      assert.equal(alert['action'], 'warn')
      assert.equal(await metric('walrx_slot_lag_over_budget'), 1)
      assert.ok((await metric('walrx_slot_lag_bytes')) > 6 * segmentSize)
      world.recover()
      await archived(server, receiver)
      await until('the alert to end', async () => (await metric('walrx_slot_lag_over_budget')) === 0)
      assert.ok((await world.compareWithServer(server)).length >= 12)
      assert.equal((await receiver.stop()).status, 0)
    },
  )
})
