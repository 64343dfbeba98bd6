/** A server that recovers from a bucket which goes out: it never takes the outage for the end of the archive. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { type Lsn, parseLsn } from '../../../src/postgres/lsn.ts'
import { segmentNameAt } from '../../../src/postgres/wal/wal-file.ts'
import { restoreCommand } from '../../../src/restore/wal/restore-command.ts'
import { endOfSwitched } from '../../harness/store/archive-check.ts'
import { isFullRun } from '../../harness/extent.ts'
import { copyTree, makeServerDirectory } from '../../harness/postgres/postgres-files.ts'
import { startPostgres, type TestPostgres } from '../../harness/postgres/postgres.ts'
import { copyDataDir, removeCopy, startRecovery } from '../../harness/postgres/postgres-copies.ts'
import { newServerDirectory } from '../../harness/walrx/test-workspace.ts'
import { until } from '../../harness/time/until.ts'
import { generateWal } from '../../harness/made/wal-load.ts'
import { StoreWorld } from '../receive/store-world.ts'

const segmentSize = 1024 * 1024
const outages = isFullRun ? (['503', '403', 'refuse'] as const) : (['503'] as const)
const main = fileURLToPath(new URL('../../../src/main.ts', import.meta.url))

async function rowsOf(server: TestPostgres): Promise<number> {
  const [row] = await server.sql<{ rows: number }>('select count(*)::int as rows from t')
  return row?.rows ?? -1
}

test(
  'a recovery from a bucket that goes out ends without promotion, and goes on when it is back',
  { timeout: 240_000 },
  async (t) => {
    await using world = await StoreWorld.open()
    await using server = await startPostgres({ major: 17, segmentSizeMb: 1 })
    await server.sql('create table t (id int)')
    const base = await copyDataDir(server, false)
    await using receiver = world.receive(server.conninfo())
    await receiver.logged('streaming')
    for (let round = 0; round < 2; round++) {
      await server.sql('insert into t select generate_series(1, 200)')
      await generateWal(server, { segments: 1 })
    }
    const end = endOfSwitched(parseLsn(await server.switchWal()), segmentSize)
    await server.sql(`select pg_logical_emit_message(true, 'walrx', 'one more')`)
    const last = segmentNameAt(1, (end - 1n) as Lsn, segmentSize)
    await receiver.logged(({ file, msg }) => msg === 'archived' && file === last)
    assert.equal((await receiver.stop()).status, 0)
    const middle = (await world.segments()).at(-2) ?? ''
    // Compiled code, which every restore_command would else make again.
    const cache = newServerDirectory('cache')
    await makeServerDirectory(cache, 0o755)
    const env = { ...world.env, XDG_CACHE_HOME: cache }
    const flags = ['--fetch-retry-timeout=1s', '--download-concurrency=1']
    const command = restoreCommand([process.execPath, main], flags)

    try {
      for (const mode of outages) {
        await t.test(`answering with ${mode}`, async () => {
          const directory = newServerDirectory('recovery')
          await copyTree(base.directory, directory)
          world.recover()
          const isWanted = ({ url }: { readonly url: string }) => url.includes(`${middle}`)
          world.proxy.fail(mode, { count: Infinity, when: isWanted })
          await using recovering = await startRecovery({
            copy: { ...base, directory, dataDir: `${directory}/data` },
            restoreCommand: command,
            env,
            wait: false,
          })
          await recovering.ended()
          const log = await recovering.log()
          assert.match(log, new RegExp(`FATAL: {2}could not restore file "${middle}" from archive`))
          assert.doesNotMatch(log, /archive recovery complete|selected new timeline/)
          world.recover()
          await recovering.start()
          await recovering.recovered()
          assert.equal(await rowsOf(recovering), 400)
        })
      }

      await t.test('while a standby asks: it waits, and has everything afterwards', async () => {
        const directory = newServerDirectory('recovery')
        await copyTree(base.directory, directory)
        world.recover()
        world.proxy.mode = '503'
        await using standby = await startRecovery({
          copy: { ...base, directory, dataDir: `${directory}/data` },
          restoreCommand: command,
          signal: 'standby',
          settings: { wal_retrieve_retry_interval: '100ms' },
          env,
          wait: false,
        })
        await until('some vain attempts', () => world.proxy.log.filter(({ mode }) => mode === '503').length >= 6)
        assert.doesNotMatch(await standby.log(), /archive recovery complete|selected new timeline/)
        world.recover()
        await standby.ready()
        await until('all rows', async () => (await rowsOf(standby)) === 400)
        const [row] = await standby.sql<{ waiting: boolean }>('select pg_is_in_recovery() as waiting')
        assert.equal(row?.waiting, true)
      })
    } finally {
      await removeCopy(base)
    }
  },
)
