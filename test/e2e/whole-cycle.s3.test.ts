/**
 * The whole of walrx on one store: receive, back up, kill the receiver and the server, look at the archive, restore and
 * recover. The store is that of the environment, else s3rver. docs/operations.md shows what came of it on several.
 */
import assert from 'node:assert/strict'
import { mkdir, readFile, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { type Lsn, parseLsn } from '../../src/postgres/lsn.ts'
import { generateWal } from '../harness/made/wal-load.ts'
import { startPostgres, type TestPostgres } from '../harness/postgres/postgres.ts'
import { startRestored } from '../harness/postgres/restored-server.ts'
import { newServerDirectory } from '../harness/walrx/test-workspace.ts'
import type { ProcessEnd, WalrxProcess } from '../harness/walrx/walrx-process.ts'
import { StoreWorld } from './receive/store-world.ts'

async function rowsOf(server: TestPostgres): Promise<number> {
  const [row] = await server.sql<{ rows: number }>('select count(*)::int as rows from t')
  return row?.rows ?? -1
}

/** Inserts rows, and waits until the archive has them, be it as a part of an unfinished segment. */
async function insert(server: TestPostgres, receiver: WalrxProcess, rows: number): Promise<void> {
  await server.sql(`insert into t select generate_series(1, ${rows})`)
  const [row] = await server.sql<{ lsn: Lsn }>('select pg_current_wal_flush_lsn()::text as lsn')
  const end = parseLsn(String(row?.lsn))
  await receiver.logged(({ msg, upTo }) => msg === 'stored' && parseLsn(String(upTo)) >= end)
}

function assertDone(end: ProcessEnd): string {
  assert.equal(end.status, 0, end.stderr)
  return end.stdout
}

test('what is archived comes back, whatever is killed', { timeout: 300_000 }, async () => {
  await using world = await StoreWorld.open()
  await using server = await startPostgres({ major: 17, segmentSizeMb: 1, dataChecksums: true })
  await server.sql('create table t (id int)')
  const receive = async () => {
    const receiver = world.receive(server.conninfo(), ['--tail-interval=100ms', '--log-level=debug'])
    await receiver.logged('streaming')
    return receiver
  }
  {
    await using receiver = await receive()
    await insert(server, receiver, 100)
    assertDone(await world.run('backup-push', '--dbname', server.conninfo()))
    await generateWal(server, { segments: 3 })
    await insert(server, receiver, 100)
    await receiver.stop('SIGKILL')
  }
  await using again = await receive()
  await generateWal(server, { segments: 2 })
  await insert(server, again, 100)
  await server.kill9()
  await again.stop('SIGKILL')

  const compared = await world.compareWithServer(server)
  assert.ok(compared.length >= 5, compared.join())
  assert.match(assertDone(await world.run('wal-show', '--json')), /"status":\s*"OK"/)
  assertDone(await world.run('backup-mark', 'LATEST'))
  assert.match(assertDone(await world.run('backup-list', '--detail', '--json')), /"is_permanent":\s*true/)
  assertDone(await world.run('backup-verify', 'LATEST'))

  const directory = newServerDirectory('cycle')
  await mkdir(directory, { recursive: true, mode: 0o755 })
  const [segment = ''] = compared
  assertDone(await world.run('wal-fetch', segment, join(directory, segment)))
  assert.ok((await readFile(join(directory, segment))).equals(await readFile(join(server.pgWal(), segment))))
  const missing = await world.run('wal-fetch', '0000000900000000000000FF', join(directory, 'none'))
  assert.equal(missing.status, 74, missing.stderr)
  assertDone(await world.run('backup-fetch', join(directory, 'data'), 'LATEST', '--recover'))
  await using restored = await startRestored(directory, 17, [], world.env)
  assert.equal(await rowsOf(restored), 300)
  await restored[Symbol.asyncDispose]()
  await rm(directory, { recursive: true, force: true })
})
