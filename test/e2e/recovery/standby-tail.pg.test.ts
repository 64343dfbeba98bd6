/** A standby that asks the archive after its primary has died can follow whichever standby is promoted. */
import assert from 'node:assert/strict'
import { chmodSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, test } from 'node:test'
import { startStandby, untilReplayed } from '../../harness/postgres/postgres-copies.ts'
import { startPostgres, type TestPostgres } from '../../harness/postgres/postgres.ts'
import { walrxRestoring } from '../../harness/walrx/walrx-restoring.ts'
import { newServerDirectory } from '../../harness/walrx/test-workspace.ts'
import { until } from '../../harness/time/until.ts'
import { startWalrx } from '../../harness/walrx/walrx-process.ts'

async function rows(server: TestPostgres): Promise<string[]> {
  return (await server.sql<{ name: string }>('select name from t order by 1')).map(({ name }) => name)
}

async function openFile(server: TestPostgres): Promise<string> {
  const [row] = await server.sql<{ file: string }>('select pg_walfile_name(pg_current_wal_insert_lsn()) as file')
  return row?.file ?? ''
}

/**
 * A primary with two standbys, both stopped when it writes its last row. It is killed when the archive has that row in
 * the tail of a segment.
 */
async function makeWorld() {
  const root = newServerDirectory('standby-tail')
  const archive = join(root, 'archive')
  const asked = join(root, 'asked')
  mkdirSync(archive, { recursive: true })
  writeFileSync(asked, '')
  chmodSync(archive, 0o777)
  chmodSync(asked, 0o666)
  const primary = await startPostgres({ major: 17, segmentSizeMb: 1 })
  await primary.sql("create table t (name text); insert into t values ('on all')")
  await using receiver = startWalrx([
    'wal-receive',
    '--file-prefix',
    archive,
    '--dbname',
    primary.conninfo(),
    '--tail-interval=100ms',
    '--log-level=debug',
  ])
  await receiver.logged('streaming')
  const [next, other] = [await startStandby(primary), await startStandby(primary)]
  await primary.switchWal()
  await primary.sql("insert into t values ('on all, too')")
  for (const standby of [next, other]) {
    await untilReplayed(standby, primary)
    await standby.stop('fast')
  }
  await primary.sql("insert into t values ('on the primary')")
  const last = await openFile(primary)
  const [row] = await primary.sql<{ lsn: string }>('select pg_current_wal_flush_lsn()::text as lsn')
  const end = BigInt(`0x${row?.lsn.split('/')[1]}`)
  await receiver.logged(({ msg, upTo }) => msg === 'stored' && BigInt(`0x${String(upTo).split('/')[1]}`) >= end)
  await receiver.stop('SIGKILL')
  await primary.kill9()
  return { archive, asked, last, next, other, primary }
}

/** Starts the other standby: it lives on the archive, and on the standby that will be promoted. */
async function startOther({ archive, asked, next, other }: Awaited<ReturnType<typeof makeWorld>>, flags: string[]) {
  await other.configure({
    settings: {
      restore_command: `echo "%f" >>${asked}; ${walrxRestoring(archive, flags)}`,
      primary_conninfo: `host=${next.socketDir} port=${next.port} user=postgres`,
      wal_retrieve_retry_interval: '100ms',
    },
  })
  await other.start()
}

// cnpg #4990, #10394, patroni #1747
describe('a standby whose primary has died', () => {
  test('does not replay what no other standby has, and follows the one that is promoted', async () => {
    const world = await makeWorld()
    await using primary = world.primary
    await using next = world.next
    await using other = world.other
    assert.equal(primary.pid, undefined)
    await startOther(world, [])
    await until('it to ask for the tail twice', () =>
      Promise.resolve(readFileSync(world.asked, 'utf8').split(world.last).length > 2),
    )
    assert.deepEqual(await rows(other), ['on all', 'on all, too'])
    await next.start()
    await next.promote()
    await next.sql("insert into t values ('on the next primary')")
    await until('it to follow', async () => (await rows(other)).length === 3)
    assert.deepEqual(await rows(other), ['on all', 'on all, too', 'on the next primary'])
  })

  test('replays it where an option says so', async () => {
    const world = await makeWorld()
    await using primary = world.primary
    await using next = world.next
    await using other = world.other
    assert.deepEqual([primary.pid, next.pid], [undefined, undefined])
    await startOther(world, ['--standby-tail'])
    await until('the last row', async () => (await rows(other)).includes('on the primary'))
  })
})
