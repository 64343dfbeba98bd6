/** After a change of its segment size a cluster keeps its system identifier, and its new WAL does not go to the old archive. */
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { mkdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { promisify } from 'node:util'
import { archivedKeys, archivedSegments, compareWithServer } from '../../harness/store/archive-check.ts'
import { clientTool } from '../../harness/postgres/client-tools.ts'
import { serverIdentity } from '../../harness/postgres/postgres-files.ts'
import { startPostgres } from '../../harness/postgres/postgres.ts'
import { until } from '../../harness/time/until.ts'
import { generateWal } from '../../harness/made/wal-load.ts'
import { runWalrx, startWalrx } from '../../harness/walrx/walrx-process.ts'
import { newServerDirectory } from '../../harness/walrx/test-workspace.ts'

const mebi = 1024 * 1024

test('after pg_resetwal --wal-segsize an archive of another size is refused', { timeout: 180_000 }, async (t) => {
  const resetWal = await clientTool('pg_resetwal', 15)
  if (resetWal === undefined) return t.skip('pg_resetwal of PostgreSQL 15 is not here')
  await using server = await startPostgres({ major: 15, segmentSizeMb: 1, settings: { wal_keep_size: '1GB' } })
  const root = newServerDirectory('segsize')
  const old = join(root, 'old')
  const fresh = join(root, 'fresh')
  for (const each of [old, fresh]) await mkdir(each, { recursive: true })
  const place = (archive: string) => ['--file-prefix', archive, '--dbname', server.conninfo()]
  const archives = (archive: string, least: number) =>
    until('segments in the archive', () => Promise.resolve(archivedSegments(archive).length >= least))

  {
    await using receiver = startWalrx(['wal-receive', ...place(old)])
    await receiver.logged('streaming')
    await generateWal(server, { segments: 3 })
    await archives(old, 3)
    assert.equal((await receiver.stop()).status, 0)
  }
  const pushed = await runWalrx(['backup-push', ...place(old), '--no-wait'])
  assert.equal(pushed.status, 0, pushed.stderr)

  await server.stop('fast')
  await promisify(execFile)(resetWal, ['--wal-segsize=2', server.dataDir], serverIdentity)
  await server.start()
  const [row] = await server.sql<{ id: string; size: string }>(
    `select (pg_control_system()).system_identifier::text as id, current_setting('wal_segment_size') as size`,
  )
  assert.deepEqual(row, { id: String(server.systemId), size: '2MB' })

  const before = archivedKeys(old)
  for (const command of [['wal-receive'], ['backup-push', '--no-wait'], ['backup-push', '--dry-run']]) {
    const { status, stderr } = await runWalrx([...command, ...place(old)])
    assert.equal(status, 5, stderr)
    assert.match(stderr, /WALRX_OTHER_CLUSTER/)
    for (const part of [`${mebi} bytes`, `${2 * mebi} bytes`, 'use a new prefix'])
      assert.ok(stderr.includes(part), stderr)
  }
  assert.deepEqual(archivedKeys(old), before)

  await using receiver = startWalrx(['wal-receive', ...place(fresh)])
  await receiver.logged('streaming')
  const again = await runWalrx(['backup-push', ...place(fresh)])
  assert.equal(again.status, 0, again.stderr)
  await generateWal(server, { segments: 3 })
  await archives(fresh, 3)
  assert.ok(compareWithServer(fresh, server) > 0)
  assert.match(await readFile(join(fresh, 'walrx_005/system.json'), 'utf8'), /"WalSegmentSize":2097152/)
  assert.equal((await receiver.stop()).status, 0)
})
