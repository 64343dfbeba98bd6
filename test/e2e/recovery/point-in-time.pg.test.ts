/** Recovery to a time, a position and a restore point, before and after a promotion, and backups of standbys. */
import assert from 'node:assert/strict'
import { mkdir, readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, test } from 'node:test'
import { isFullRun, isInDepth, majorsFor, withNext } from '../../harness/extent.ts'
import { makeServerDirectory } from '../../harness/postgres/postgres-files.ts'
import { startStandby, untilReplayed } from '../../harness/postgres/postgres-copies.ts'
import { majorSkip, startPostgres, type TestPostgres } from '../../harness/postgres/postgres.ts'
import { startRestored } from '../../harness/postgres/restored-server.ts'
import { newServerDirectory } from '../../harness/walrx/test-workspace.ts'
import { until } from '../../harness/time/until.ts'
import { runWalrx, startWalrx } from '../../harness/walrx/walrx-process.ts'

/** A moment at which the table had so many rows. */
interface Moment {
  readonly rows: number
  readonly time: string
  readonly lsn: string
  readonly name: string
}

async function mark(server: TestPostgres, name: string): Promise<Moment> {
  await server.sql('insert into t select generate_series(1, 100)')
  const [row] = await server.sql<{ rows: number; time: string; lsn: string }>(
    'select count(*)::int as rows, clock_timestamp()::text as time, pg_current_wal_insert_lsn()::text as lsn from t',
  )
  await server.sql(`select pg_create_restore_point('${name}')`)
  // So that there is a record after each moment, by which the server knows that it is over.
  await server.sql('insert into t values (0)')
  return { name, rows: row?.rows ?? -1, time: row?.time ?? '', lsn: row?.lsn ?? '' }
}

async function archivedTo(server: TestPostgres, prefix: readonly string[], slot: string): Promise<void> {
  const [end] = await server.sql<{ lsn: string }>('select pg_switch_wal()::text as lsn')
  await server.sql(`select pg_logical_emit_message(false, 'walrx', 'one more')`)
  const args = ['wal-receive', ...prefix, '--dbname', server.conninfo(), '--slotname', slot, '--endpos', end?.lsn ?? '']
  const { status, stderr } = await runWalrx(args)
  assert.equal(status, 0, stderr)
}

for (const major of withNext(majorsFor([18]))) {
  describe(`PostgreSQL ${major}`, { skip: majorSkip(major) }, () => {
    test('recovers to moments on both sides of a promotion', { timeout: 300_000 }, async () => {
      const root = newServerDirectory(`pitr${major}`)
      await makeServerDirectory(root, 0o755)
      const archive = join(root, 'archive')
      await mkdir(archive)
      const prefix = ['--file-prefix', archive]
      await using primary = await startPostgres({ major, segmentSizeMb: 1 })
      await primary.sql('create table t (id int)')
      await using receiver = startWalrx(['wal-receive', ...prefix, '--dbname', primary.conninfo()])
      await receiver.logged('streaming')
      const pushed = await runWalrx(['backup-push', ...prefix, '--dbname', primary.conninfo()])
      assert.equal(pushed.status, 0, pushed.stderr)
      const before = await mark(primary, 'before')
      await using standby = await startStandby(primary)
      const late = await mark(primary, 'just before')
      await untilReplayed(standby, primary)
      await receiver.stop()
      await primary.stop('fast')
      await standby.sql('select pg_promote()')
      const after = await mark(standby, 'after')
      await archivedTo(standby, prefix, 'walrx2')
      const last = await mark(standby, 'last')
      await archivedTo(standby, prefix, 'walrx2')

      const trials = [before, late, after, last].flatMap((moment) =>
        [
          ['--target-time', moment.time],
          ['--target-lsn', moment.lsn],
          ['--target-name', moment.name],
        ].map((target) => ({ moment, target })),
      )
      // Every kind on both sides with the newest server; with others, and by default, some of them.
      const chosen = isFullRun && major >= 18 ? [0, 1, 2, 6, 7, 8, 11] : isInDepth(major) ? [0, 4, 8, 9] : [1, 6]
      for (const { moment, target } of trials.filter((_, index) => chosen.includes(index))) {
        const directory = newServerDirectory(`pitr${major}-${moment.name}`)
        await makeServerDirectory(directory, 0o755)
        const args = ['backup-fetch', join(directory, 'data'), 'LATEST', ...target, '--target-action', 'promote']
        const fetched = await runWalrx([...args, ...prefix])
        assert.equal(fetched.status, 0, fetched.stderr)
        await using restored = await startRestored(directory, major)
        const [row] = await restored.sql<{ rows: number }>('select count(*)::int as rows from t')
        assert.equal(row?.rows, moment.rows, `${target.join(' ')} (${moment.name})`)
      }
    })

    // A standby ends its backup in the same way since 10.
    if (!isInDepth(major)) return
    test('backs a standby up, and gives up when it is promoted meanwhile', { timeout: 300_000 }, async () => {
      const root = newServerDirectory(`standby${major}`)
      await makeServerDirectory(root, 0o755)
      const archive = join(root, 'archive')
      await mkdir(archive)
      const prefix = ['--file-prefix', archive]
      await using primary = await startPostgres({ major, segmentSizeMb: 1 })
      await primary.sql('create table t as select g as id from generate_series(1, 1000) g')
      await using receiver = startWalrx(['wal-receive', ...prefix, '--dbname', primary.conninfo()])
      await receiver.logged('streaming')
      await using standby = await startStandby(primary)
      await using push = startWalrx(['backup-push', ...prefix, '--dbname', standby.conninfo()])
      // The end of the backup lies in a segment that only the primary can end.
      await until('the end of the backup', async () => {
        await primary.sql('insert into t values (0)')
        await primary.sql('select pg_switch_wal()')
        return push.hasEnded
      })
      const pushed = await push.ended
      assert.equal(pushed.status, 0, pushed.stderr)
      const directory = newServerDirectory(`standby${major}-restored`)
      await makeServerDirectory(directory, 0o755)
      const fetched = await runWalrx(['backup-fetch', join(directory, 'data'), 'LATEST', '--recover', ...prefix])
      assert.equal(fetched.status, 0, fetched.stderr)
      await using restored = await startRestored(directory, major)
      const [row] = await restored.sql<{ rows: number }>('select count(*)::int as rows from t')
      assert.ok((row?.rows ?? 0) >= 1000)

      // Another restartpoint: a backup of the same one would have the same name.
      await primary.sql('checkpoint')
      await until('a restartpoint', async () => {
        await standby.sql('checkpoint')
        const [point] = await standby.sql<{ lsn: string }>('select redo_lsn::text as lsn from pg_control_checkpoint()')
        return point?.lsn
      })
      await using slow = startWalrx(['backup-push', ...prefix, '--dbname', standby.conninfo(), '--max-rate', '1MB'])
      await slow.logged('backup begins')
      await standby.sql('select pg_promote()')
      const { status, stderr } = await slow.ended
      assert.equal(status, 3, stderr)
      assert.match(stderr, /standby was promoted during online backup/)
      await receiver.stop()
      const names = await readdir(join(archive, 'basebackups_005'))
      assert.equal(names.filter((name) => name.endsWith('_backup_stop_sentinel.json')).length, 1)
      assert.equal(names.length, 2, names.join(' '))
    })
  })
}
