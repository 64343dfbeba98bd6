/** A failover that walrx has not seen: when it comes back, the former primary is up again, and first in the list. */
import assert from 'node:assert/strict'
import { chmodSync, mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { archivedSegments, compareWithServer } from '../../harness/store/archive-check.ts'
import { startStandby, untilReplayed } from '../../harness/postgres/postgres-copies.ts'
import { startPostgres, type TestPostgres } from '../../harness/postgres/postgres.ts'
import { newServerDirectory } from '../../harness/walrx/test-workspace.ts'
import { generateWal } from '../../harness/made/wal-load.ts'
import { startWalrx, type WalrxProcess } from '../../harness/walrx/walrx-process.ts'

const settings = { wal_keep_size: '1GB', checkpoint_timeout: '1h' }

function receive(archive: string, ...servers: readonly TestPostgres[]): WalrxProcess {
  const [hosts, ports] = [servers.map(() => '127.0.0.1').join(','), servers.map(({ port }) => port).join(',')]
  return startWalrx(['wal-receive', '--file-prefix', archive, '--dbname', `host=${hosts} port=${ports} user=postgres`])
}

function archiveDirectory(): string {
  const archive = join(newServerDirectory('former'), 'archive')
  mkdirSync(archive, { recursive: true })
  chmodSync(archive, 0o777)
  return archive
}

/** A standby that has all that the primary has written. */
async function followedBy(primary: TestPostgres): Promise<TestPostgres> {
  const standby = await startStandby(primary, { settings: { ...settings, hot_standby: 'on' } })
  await untilReplayed(standby, primary)
  return standby
}

test('the new primary is taken, though the former one is first and can be written', { timeout: 200_000 }, async () => {
  const archive = archiveDirectory()
  await using former = await startPostgres({ major: 17, segmentSizeMb: 1, settings })
  {
    await using receiver = receive(archive, former)
    await receiver.logged('streaming')
    await generateWal(former, { segments: 3 })
    await receiver.stop()
  }
  await using present = await followedBy(former)
  await present.promote()
  await generateWal(former, { segments: 4 })
  await generateWal(present, { segments: 2 })
  await present.sql(`select pg_logical_emit_message(true, 'walrx', 'in the last segment')`)
  const [end] = await present.sql<{ file: string }>('select pg_walfile_name(pg_current_wal_lsn()) as file')
  await present.switchWal()
  await present.sql(`select pg_logical_emit_message(true, 'walrx', 'one more')`)

  await using receiver = receive(archive, former, present)
  const refused = await receiver.logged('a host that accepts writes is not the primary')
  assert.match(
    String(refused['message']),
    new RegExp(`:${former.port} is on timeline 1, which .*:${present.port} left`),
  )
  await receiver.logged(({ file, msg }) => msg === 'archived' && file === end?.file)
  assert.ok(receiver.lines.every(({ host, msg }) => msg !== 'connected' || String(host).endsWith(`:${present.port}`)))
  assert.equal((await receiver.stop()).status, 0)
  const compared = compareWithServer(archive, present)
  assert.equal(compared, archivedSegments(archive).length, 'everything that is archived is what the new primary has')
  assert.deepEqual((await former.sql(`select from pg_replication_slots where active`)).length, 0)
})

test('two standbys that were promoted apart: neither is taken, and both are named', { timeout: 200_000 }, async () => {
  const archive = archiveDirectory()
  await using former = await startPostgres({ major: 17, segmentSizeMb: 1, settings })
  {
    await using receiver = receive(archive, former)
    await receiver.logged('streaming')
    await receiver.stop()
  }
  await using one = await followedBy(former)
  await using other = await followedBy(former)
  await one.promote()
  await generateWal(former, { segments: 2 })
  await untilReplayed(other, former)
  await other.promote()
  await former.stop('fast')
  const { status, stderr } = await receive(archive, former, one, other).ended
  assert.equal(status, 3, stderr)
  for (const { port } of [one, other]) assert.match(stderr, new RegExp(`:${port} has 1 up to [0-9A-F/]+, 2`))
  assert.ok(archivedSegments(archive).every((name) => name.startsWith('00000001')))
})
