/** What is in the archive before a segment is whole, and what it is worth when the server is gone. */
import assert from 'node:assert/strict'
import { chmodSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, test } from 'node:test'
import { archivedKeys, compareWithServer } from '../../harness/store/archive-check.ts'
import { type PgMajor, startPostgres, type TestPostgres } from '../../harness/postgres/postgres.ts'
import { copyDataDir, startRecovery } from '../../harness/postgres/postgres-copies.ts'
import { walrxRestoring } from '../../harness/walrx/walrx-restoring.ts'
import { newServerDirectory } from '../../harness/walrx/test-workspace.ts'
import { until } from '../../harness/time/until.ts'
import { startWalrx, type WalrxProcess } from '../../harness/walrx/walrx-process.ts'

/** An archive that a recovering server, which is another user, may read. */
function newArchive(): string {
  const archive = join(newServerDirectory('tails'), 'archive')
  mkdirSync(archive, { recursive: true })
  chmodSync(archive, 0o777)
  return archive
}

/** Keys of the chunks. */
function chunks(archive: string): string[] {
  return archivedKeys(archive).filter((key) => /^walrx_005\/tail\/.*-[0-9A-F]{8}/.test(key))
}

async function count(server: TestPostgres): Promise<number> {
  const [row] = await server.sql<{ count: string }>('select count(*)::text as count from t')
  return Number(row?.count)
}

/** Resolves when a commit returns; `isBack` says so meanwhile. */
function insert(server: TestPostgres, value: number): { done: Promise<unknown>; isBack: () => boolean } {
  let isBack = false
  const done = server.sql(`insert into t values (${value})`).then(() => (isBack = true))
  return { done, isBack: () => isBack }
}

function receive(archive: string, server: TestPostgres, ...flags: string[]): WalrxProcess {
  return startWalrx([
    'wal-receive',
    '--file-prefix',
    archive,
    '--dbname',
    server.conninfo(),
    '--log-level=debug',
    ...flags,
  ])
}

for (const major of [14, 18] as PgMajor[]) {
  describe(`tails, PostgreSQL ${major}`, () => {
    test('the last seconds come back although server and receiver are gone', { timeout: 120_000 }, async () => {
      const archive = newArchive()
      await using server = await startPostgres({ major })
      await server.sql('create table t (i int)')
      const copy = await copyDataDir(server, false)
      await using receiver = receive(archive, server, '--tail-interval=100ms')
      await receiver.logged('streaming')
      for (let i = 0; i < 5; i++) {
        await server.sql(`insert into t values (${i})`)
        const [row] = await server.sql<{ lsn: string }>('select pg_current_wal_flush_lsn()::text as lsn')
        const end = BigInt(`0x${row?.lsn.split('/')[1]}`)
        await receiver.logged(({ msg, upTo }) => msg === 'stored' && BigInt(`0x${String(upTo).split('/')[1]}`) >= end)
      }
      await until('chunks that are replaced to be removed', () => Promise.resolve(chunks(archive).length <= 2))
      await receiver.stop('SIGKILL')
      await server.kill9()
      await using recovered = await startRecovery({ copy, restoreCommand: walrxRestoring(archive) })
      assert.equal(await count(recovered), 5)
    })

    test('a commit waits for the archive, and for nothing else', { timeout: 120_000 }, async () => {
      const archive = newArchive()
      await using server = await startPostgres({ major, settings: { synchronous_standby_names: '' } })
      await server.sql('create table t (i int)')
      await using receiver = receive(archive, server, '--synchronous')
      await receiver.logged('streaming')
      await server.configure({ settings: { synchronous_standby_names: 'walrx' } })
      await server.reload()
      for (let i = 0; i < 20; i++) await insert(server, i).done
      const [row] = await server.sql<{ sync_state: string }>('select sync_state from pg_stat_replication')
      assert.equal(row?.sync_state, 'sync')

      chmodSync(join(archive, 'walrx_005'), 0o000)
      receiver.child.kill('SIGSTOP')
      const waiting = insert(server, 100)
      await until('the commit to wait', async () => {
        const rows = await server.sql(`select 1 from pg_stat_activity where wait_event = 'SyncRep'`)
        return rows.length === 1
      })
      assert.equal(waiting.isBack(), false)
      chmodSync(join(archive, 'walrx_005'), 0o755)
      receiver.child.kill('SIGCONT')
      await waiting.done

      const stopMs = await server.stop('fast')
      assert.ok(stopMs < 3_000, `pg_ctl stop -m fast took ${stopMs} ms`)
      const end = await receiver.stop('SIGTERM')
      assert.equal(end.status, 0, end.stderr)
    })
  })
}

test('a chunk that was damaged is set aside, and its segment is received again', { timeout: 120_000 }, async () => {
  const archive = newArchive()
  await using server = await startPostgres({ major: 17, segmentSizeMb: 1 })
  await server.sql('create table t (i int)')
  {
    await using receiver = receive(archive, server, '--tail-interval=100ms')
    await receiver.logged('stored')
    await receiver.stop()
  }
  const [damaged = ''] = chunks(archive)
  const path = join(archive, damaged)
  const bytes = readFileSync(path).subarray(0, 100)
  writeFileSync(path, bytes)
  await using receiver = receive(archive, server, '--tail-interval=100ms')
  const line = await receiver.logged('a chunk is damaged: it is set aside, and its WAL is taken from the server again')
  assert.equal(line['file'], damaged)
  assert.ok(readFileSync(join(archive, String(line['movedTo']))).equals(bytes))
  await receiver.logged('streaming')
  await server.sql('insert into t values (1)')
  const [row] = await server.sql<{ file: string }>('select pg_walfile_name(pg_current_wal_lsn()) as file')
  await server.switchWal()
  await server.sql(`select pg_logical_emit_message(true, 'walrx', 'one more')`)
  await receiver.logged(({ file, msg }) => msg === 'archived' && file === row?.file)
  assert.equal((await receiver.stop()).status, 0)
  assert.equal(receiver.lines.filter(({ msg }) => msg === line.msg).length, 1)
  assert.ok(compareWithServer(archive, server) > 0)
})
