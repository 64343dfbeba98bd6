/** Every reason to take a full backup instead of a delta, on real servers, with what the operator sees. */
import assert from 'node:assert/strict'
import { mkdir, readdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import process from 'node:process'
import { describe, test } from 'node:test'
import { isFullRun, isInDepth } from '../../harness/extent.ts'
import { startStandby, untilReplayed } from '../../harness/postgres/postgres-copies.ts'
import { makeServerDirectory } from '../../harness/postgres/postgres-files.ts'
import { startPostgres, type TestPostgres } from '../../harness/postgres/postgres.ts'
import { newServerDirectory } from '../../harness/walrx/test-workspace.ts'
import { until } from '../../harness/time/until.ts'
import { type ProcessEnd, runWalrx } from '../../harness/walrx/walrx-process.ts'

/** What `backup-push --json` prints. */
interface Printed {
  readonly backup_name: string
  readonly delta_from: string | null
  readonly full_because: { readonly code: string; readonly message: string } | null
}

async function newArchive(): Promise<string> {
  const root = newServerDirectory('delta-fallbacks')
  await makeServerDirectory(root, 0o755)
  const archive = join(root, 'archive')
  await mkdir(archive)
  return archive
}

function run(server: TestPostgres, archive: string, args: readonly string[], user?: string): Promise<ProcessEnd> {
  const all = ['--file-prefix', archive, '--dbname', server.conninfo(user), '--no-wait', '--json', ...args]
  return runWalrx(['backup-push', ...all], { env: { WALG_DELTA_MAX_STEPS: '3' } })
}

async function push(server: TestPostgres, archive: string, args: readonly string[] = [], user?: string) {
  const end = await run(server, archive, args, user)
  assert.equal(end.status, 0, end.stderr)
  return JSON.parse(end.stdout) as Printed
}

/** A full backup for this reason; the same again with --require-incremental is refused with the same words. */
async function assertFull(server: TestPostgres, archive: string, code: string, words: RegExp, user?: string) {
  const refused = await run(server, archive, ['--require-incremental'], user)
  assert.equal(refused.status, 2, refused.stderr)
  assert.match(refused.stderr, words)
  assert.match(refused.stderr, /the backup would have to be a full one/)
  const printed = await push(server, archive, [], user)
  assert.equal(printed.delta_from, null)
  assert.equal(printed.full_because?.code, code, printed.full_because?.message)
  assert.match(printed.full_because?.message ?? '', words)
}

const summarizing = { summarize_wal: 'on' }

test('a server before 17', { timeout: 60_000 }, async () => {
  await using server = await startPostgres({ major: 16 })
  const archive = await newArchive()
  assert.equal((await push(server, archive)).full_because?.code, 'no-backup')
  await assertFull(server, archive, 'server', /is PostgreSQL 16, and incremental backups need 17/)
})

for (const major of [17, 18] as const) {
  if (!isInDepth(major)) continue
  describe(`PostgreSQL ${major}`, { timeout: 500_000 }, () => {
    test('that does not summarize its WAL, until it does', async () => {
      await using server = await startPostgres({ major })
      const archive = await newArchive()
      await push(server, archive)
      await assertFull(server, archive, 'summaries', /does not summarize its WAL/)
      await server.sql(`alter system set summarize_wal = on`)
      await server.reload()
      const first = await push(server, archive, ['--full'])
      assert.equal((await push(server, archive)).delta_from, first.backup_name)
    })

    test('without some of its summaries, or without the right to read them', async () => {
      await using server = await startPostgres({ major, settings: summarizing })
      await server.sql('create role repl login replication')
      const archive = await newArchive()
      const parent = await push(server, archive)
      // With no ordinary connection.
      await server.configure({ hba: 'host replication repl 127.0.0.1/32 trust' })
      await server.reload()
      await assertFull(
        server,
        archive,
        'summaries',
        /cannot read the WAL summaries over an ordinary connection/,
        'repl',
      )
      await server.configure({ auth: 'trust' })
      await server.reload()
      const delta = await push(server, archive, ['--delta-from-name', parent.backup_name], 'repl')
      assert.equal(delta.delta_from, parent.backup_name)
      await server.sql(`alter system set wal_summary_keep_time = '0'`)
      await server.sql(`alter system set summarize_wal = off`)
      await server.reload()
      await server.switchWal()
      await server.checkpoint()
      await removeSummaries(server)
      await server.sql(`alter system set summarize_wal = on`)
      await server.reload()
      await removeSummaries(server)
      await server.switchWal()
      await server.checkpoint()
      await until('a summary', async () => (await server.sql('select * from pg_available_wal_summaries()')).length > 0)
      const named = ['--delta-from-name', delta.backup_name]
      const printed = await push(server, archive, named)
      assert.equal(printed.full_because?.code, 'summaries')
      assert.match(printed.full_because?.message ?? '', /the server has no WAL summary of .* on timeline 1/)
    })

    const skip = !isFullRun && 'the server waits a minute for it; WALRX_TEST_ALL=1'
    test('with a summarizer that stands still', { skip }, async () => {
      await using server = await startPostgres({ major, settings: summarizing })
      const archive = await newArchive()
      await push(server, archive)
      const [row] = await server.sql<{ pid: number }>('select summarizer_pid as pid from pg_get_wal_summarizer_state()')
      const pid = row?.pid ?? assert.fail('no summarizer')
      process.kill(pid, 'SIGSTOP')
      try {
        const printed = await push(server, archive)
        assert.equal(printed.full_because?.code, 'server')
        assert.match(printed.full_because?.message ?? '', /WAL summarization is not progressing/)
      } finally {
        process.kill(pid, 'SIGCONT')
      }
    })

    test('by what the archive has: steps, permanence, --full', async () => {
      await using server = await startPostgres({ major, settings: summarizing })
      const archive = await newArchive()
      const full = await push(server, archive, ['--permanent'])
      await assertFull(server, archive, 'permanent', /is permanent, and this backup is not to be/)
      const names: string[] = [
        (await push(server, archive, ['--delta-from-name', full.backup_name, '--permanent'])).backup_name,
      ]
      for (let step = 2; step <= 3; step++) {
        const printed = await push(server, archive, ['--permanent'])
        assert.equal(printed.delta_from, names.at(-1))
        names.push(printed.backup_name)
      }
      const refused = await run(server, archive, ['--permanent', '--require-incremental'])
      assert.match(refused.stderr, /is 3 steps away from its full backup, and 3 are allowed/)
      assert.equal((await push(server, archive, ['--full', '--permanent'])).full_because?.code, 'asked')
    })

    test('as a standby: a delta after each restartpoint, and none without', async () => {
      await using primary = await startPostgres({ major, settings: summarizing })
      await using standby = await startStandby(primary, { settings: summarizing })
      const archive = await newArchive()
      const parent = await push(standby, archive)
      await primary.sql('create table t as select g as id from generate_series(1, 10000) g')
      await primary.checkpoint()
      await untilReplayed(standby, primary)
      const delta = await push(standby, archive)
      assert.equal(delta.delta_from, parent.backup_name)
      const objects = await readdir(archive, { recursive: true })
      for (const args of [[], ['--require-incremental']]) {
        const refused = await run(standby, archive, args)
        assert.equal(refused.status, 8, refused.stderr)
        assert.match(
          refused.stderr,
          new RegExp(`is a standby, and its last restartpoint is .*, where ${delta.backup_name} begins`),
        )
      }
      assert.deepEqual(await readdir(archive, { recursive: true }), objects)
      await primary.sql('insert into t values (0)')
      await primary.checkpoint()
      await untilReplayed(standby, primary)
      assert.equal((await push(standby, archive)).delta_from, delta.backup_name)
    })

    test('over a promotion: on the ancestor, but not on what the old primary wrote after the fork', async () => {
      await using primary = await startPostgres({ major, settings: summarizing })
      const archive = await newArchive()
      const parent = await push(primary, archive)
      await primary.sql('create table t as select g as id from generate_series(1, 10000) g')
      await using standby = await startStandby(primary, { settings: summarizing })
      // A fork right at the beginning of a segment leaves the 40 bytes of a page header that no summary has, and over those
      // no server makes an increment.
      await primary.sql('insert into t values (0)')
      await untilReplayed(standby, primary)
      await standby.promote()
      await primary.sql('insert into t select g from generate_series(1, 10000) g')
      const later = await push(primary, archive)
      assert.equal(later.delta_from, parent.backup_name)
      await standby.sql('insert into t select g from generate_series(1, 50000) g')
      // So far on that positions alone do not show it.
      await standby.switchWal()
      await standby.sql('insert into t select g from generate_series(1, 50000) g')
      await standby.switchWal()
      await standby.checkpoint()
      const refused = await run(standby, archive, ['--require-incremental'])
      assert.equal(refused.status, 2, refused.stderr)
      assert.match(refused.stderr, /and the server's history left timeline 1 at/)
      const onAncestor = await push(standby, archive, ['--delta-from-name', parent.backup_name])
      assert.equal(onAncestor.delta_from, parent.backup_name, onAncestor.full_because?.message)
      assert.match(onAncestor.backup_name, /^base_00000002.*_D_00000001/)
      // The old primary knows nothing of the new timeline.
      const refusedThere = await run(primary, archive, ['--require-incremental'])
      assert.match(refusedThere.stderr, /is of timeline 2, which is not in the history of the server's, 1/)
    })
  })
}

/** As wal_summary_keep_time would, only at once. */
async function removeSummaries(server: TestPostgres): Promise<void> {
  const directory = join(server.pgWal(), 'summaries')
  for (const name of await readdir(directory)) await rm(join(directory, name))
}
