/**
 * A receiver on a store that fails for a long time, with rates that change by a seed from 1 to 30 % of all requests; then a
 * recovery from what it archived. `WALRX_TEST_STORE_MINUTES` says how long; half a minute by default.
 */
import assert from 'node:assert/strict'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import { parseLsn } from '../../../src/postgres/lsn.ts'
import { segmentNameAt } from '../../../src/postgres/wal/wal-file.ts'
import { startLoad } from '../../harness/made/wal-load.ts'
import { makeServerDirectory } from '../../harness/postgres/postgres-files.ts'
import { startPostgres, type TestPostgres } from '../../harness/postgres/postgres.ts'
import { startRestored } from '../../harness/postgres/restored-server.ts'
import { Random } from '../../harness/random.ts'
import { startFaultyS3 } from '../../harness/store/faulty-s3/faulty-s3.ts'
import { until } from '../../harness/time/until.ts'
import { newServerDirectory } from '../../harness/walrx/test-workspace.ts'
import { runWalrx, startWalrx } from '../../harness/walrx/walrx-process.ts'
import { drawSchedule, drawTraits } from '../random-faults.ts'

const MiB = 1024 * 1024
const minutes = Number(process.env['WALRX_TEST_STORE_MINUTES'] ?? 0.5)
const seed = Number(process.env['WALRX_TEST_STORE_SEED'] ?? 1)
/** So many rates, one after the other. */
const stretches = 12

async function rssMb(pid: number | undefined): Promise<number> {
  const status = await readFile(`/proc/${pid}/status`, 'utf8')
  return Number(/VmRSS:\s+(\d+)/.exec(status)?.[1] ?? 0) / 1024
}

/** What the load has written, as one text. */
async function stateOf(server: TestPostgres): Promise<string> {
  const [row] = await server.sql<{ state: string }>(
    `select (select count(*) || ' ' || coalesce(sum(number), 0) from load_history) || ' '
       || (select sum(balance) || ' ' || md5(string_agg(id || ':' || balance, ',' order by id)) from load_accounts) as state`,
  )
  return row?.state ?? ''
}

test(
  `seed ${seed}: ${minutes} minutes of a bad store, then a recovery`,
  { timeout: minutes * 60_000 + 600_000 },
  async (t) => {
    const random = new Random(seed)
    const traits = drawTraits(random)
    await using server = await startPostgres({ major: 17, segmentSizeMb: 1 })
    await using store = await startFaultyS3(traits)
    const env = {
      WALG_S3_PREFIX: `s3://${store.bucket}/archive`,
      AWS_ENDPOINT: store.endpoint,
      AWS_REGION: store.region,
      AWS_ACCESS_KEY_ID: store.accessKeyId,
      AWS_SECRET_ACCESS_KEY: store.secretAccessKey,
    }
    await using receiver = startWalrx(['wal-receive', '--dbname', server.conninfo(), '--slotname', 'bad_days'], { env })
    await receiver.logged('streaming')
    const pushed = await runWalrx(['backup-push', '--dbname', server.conninfo()], { env })
    assert.equal(pushed.status, 0, pushed.stderr)
    const load = await startLoad(server, { pauseMs: 20 })
    const memory: number[] = []
    const rates: number[] = []
    for (let stretch = 0; stretch < stretches; stretch++) {
      const rate = random.pick([0.01, 0.02, 0.05, 0.1, 0.2, 0.3])
      rates.push(rate)
      store.schedule = drawSchedule(random, rate)
      const end = performance.now() + (minutes * 60_000) / stretches
      while (performance.now() < end) {
        await delay(Math.min(1000, Math.max(1, end - performance.now())))
        memory.push(await rssMb(receiver.child.pid))
        // So that segments are finished all the time.
        await server.sql(`select pg_logical_emit_message(false, 'walrx', repeat(md5(random()::text), 20000))`)
      }
    }
    const committed = await load.stop()
    const expected = await stateOf(server)
    const [last] = await server.sql<{ lsn: string }>('select pg_switch_wal()::text as lsn')
    const name = segmentNameAt(1, (parseLsn(last?.lsn ?? '0/1') - 1n) as never, MiB)
    await server.sql(`select pg_logical_emit_message(false, 'walrx', 'one more')`)
    // Still on the bad store: what is archived last has to get through it, too.
    await until(`${name} in the archive`, () => store.store.objects.has(`archive/wal_005/${name}.zst`), 300_000)
    const faults = store.log.filter(({ fault }) => fault !== undefined).length
    store.schedule = undefined
    const stopped = await receiver.stop()
    assert.equal(stopped.status, 0, stopped.stderr.slice(-2000))
    t.diagnostic(
      `${committed} transactions, ${store.store.objects.size} objects, ${faults} faults in ${store.log.length} requests`,
    )
    t.diagnostic(`rates ${rates.join(', ')}; ${JSON.stringify(traits)}`)

    const third = Math.floor(memory.length / 3)
    const [early, late] = [Math.max(...memory.slice(0, third)), Math.max(...memory.slice(-third))]
    t.diagnostic(`memory in MB: at most ${early.toFixed(0)} in the first third, ${late.toFixed(0)} in the last`)
    assert.ok(late <= early * 1.2 + 16, `memory grew from ${early} to ${late} MB`)

    const directory = newServerDirectory('bad-days')
    await makeServerDirectory(directory, 0o755)
    await server.stop('immediate')
    const fetched = await runWalrx(['backup-fetch', join(directory, 'data'), 'LATEST', '--recover'], { env })
    assert.equal(fetched.status, 0, fetched.stderr)
    await using restored = await startRestored(directory, 17, [], env)
    assert.equal(await stateOf(restored), expected)
    const shown = await runWalrx(['wal-show', '--json'], { env })
    assert.equal(shown.status, 0, shown.stderr)
    assert.doesNotMatch(shown.stdout, /"kind":"gap"/)
  },
)
