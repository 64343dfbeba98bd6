/** Backups of a running server, one of them permanent; after a deletion those that stay are restored, row by row. */
import assert from 'node:assert/strict'
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { majorSkip, startPostgres } from '../../harness/postgres/postgres.ts'
import { makeServerDirectory } from '../../harness/postgres/postgres-files.ts'
import { startRestored } from '../../harness/postgres/restored-server.ts'
import { newServerDirectory } from '../../harness/walrx/test-workspace.ts'
import { runWalrx, startWalrx } from '../../harness/walrx/walrx-process.ts'
import { keysIn } from '../../retention/made-directory.ts'

const major = 18
const steps = ['--delta-max-steps', '5']

test('what a deletion leaves is restored', { skip: majorSkip(major), timeout: 300_000 }, async () => {
  const root = newServerDirectory('retention')
  await makeServerDirectory(root, 0o755)
  const archive = join(root, 'archive')
  await mkdir(archive)
  const prefix = ['--file-prefix', archive]
  const settings = { summarize_wal: 'on' }
  await using server = await startPostgres({ major, dataChecksums: true, segmentSizeMb: 1, settings })
  await using receiver = startWalrx(['wal-receive', ...prefix, '--dbname', server.conninfo()])
  await receiver.logged('streaming')
  await server.sql('create table t (id int)')
  const backups: string[] = []
  /** A row more, then a backup: backup number n has n rows. */
  const push = async (...flags: string[]) => {
    await server.sql(`insert into t values (${backups.length + 1})`)
    const call = ['backup-push', ...prefix, '--dbname', server.conninfo(), '--checkpoint', 'fast', '--json', ...flags]
    const pushed = await runWalrx(call)
    assert.equal(pushed.status, 0, pushed.stderr)
    backups.push((JSON.parse(pushed.stdout) as { readonly backup_name: string }).backup_name)
  }
  await push('--full')
  await push('--full', '--permanent')
  await push('--full')
  await push('--full')
  await push(...steps)
  await server.sql('insert into t values (6)')
  const [last] = await server.sql<{ file: string }>('select pg_walfile_name(pg_switch_wal()) as file')
  await receiver.logged(({ file, msg }) => msg === 'archived' && file === last?.file)
  await receiver.stop()

  const before = keysIn(archive).filter((key) => key.startsWith('wal_005/'))
  const deleted = await runWalrx(['delete', '--keep-full', '1', '--confirm', '--json', ...prefix])
  assert.equal(deleted.status, 0, deleted.stderr)
  const [first = '', permanent = '', third = '', full = '', delta = ''] = backups
  assert.match(delta, /_D_/)
  const left = keysIn(archive)
  const has = (name: string) => left.some((key) => key.startsWith(`basebackups_005/${name}`))
  assert.deepEqual([first, permanent, third, full, delta].map(has), [false, true, false, true, true])
  const wal = left.filter((key) => key.startsWith('wal_005/'))
  assert.ok(wal.length < before.length, `${wal.length} of ${before.length} WAL files`)

  const restore = async (name: string, ...flags: string[]) => {
    const directory = newServerDirectory(`retention-${name}`)
    await makeServerDirectory(directory, 0o755)
    const fetched = await runWalrx(['backup-fetch', join(directory, 'data'), name, ...flags, ...prefix])
    assert.equal(fetched.status, 0, fetched.stderr)
    await using restored = await startRestored(directory, major)
    const [row] = await restored.sql<{ n: number }>('select count(*)::int as n from t')
    return row?.n
  }
  assert.equal(await restore(permanent, '--target-immediate', '--target-action', 'promote'), 2)
  assert.equal(await restore(full, '--recover'), 6)
  assert.equal(await restore('LATEST', '--recover'), 6)
})
