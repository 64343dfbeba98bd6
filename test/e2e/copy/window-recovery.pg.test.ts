/**
 * Copies that a real server recovers from: a window, taken while the receiver runs, to a moment in it; and WAL-G and WAL-RUS
 * restore the whole copy, where WALG_BIN and WALRUS_BIN name their programs.
 */
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { appendFile, mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { describe, test } from 'node:test'
import { majorsFor } from '../../harness/extent.ts'
import { makeServerDirectory } from '../../harness/postgres/postgres-files.ts'
import { majorSkip, startPostgres, type TestPostgres } from '../../harness/postgres/postgres.ts'
import { startRestored } from '../../harness/postgres/restored-server.ts'
import { archivedSegments } from '../../harness/store/archive-check.ts'
import { newServerDirectory } from '../../harness/walrx/test-workspace.ts'
import { runWalrx, startWalrx, type WalrxProcess } from '../../harness/walrx/walrx-process.ts'

const tools = { walg: process.env['WALG_BIN'], walrus: process.env['WALRUS_BIN'] }

/** A moment at which the table had so many rows. */
interface Moment {
  readonly rows: number
  readonly time: string
}

async function mark(server: TestPostgres): Promise<Moment> {
  await server.sql('insert into t select generate_series(1, 100)')
  const [row] = await server.sql<Moment>('select count(*)::int as rows, clock_timestamp()::text as time from t')
  // So that there is a record after each moment, by which the server knows that it is over.
  await server.sql('insert into t values (0)')
  return row ?? assert.fail()
}

/** Ends the present segment, and waits until it is archived. */
async function archive(server: TestPostgres, receiver: WalrxProcess): Promise<void> {
  await server.sql(`select pg_logical_emit_message(false, 'walrx', 'something to switch away from')`)
  const [row] = await server.sql<{ file: string }>('select pg_walfile_name(pg_current_wal_insert_lsn()) as file')
  await server.switchWal()
  await server.sql(`select pg_logical_emit_message(false, 'walrx', 'one more')`)
  await receiver.logged((line) => line.msg === 'archived' && line['file'] === row?.file)
}

async function ok(...args: string[]): Promise<string> {
  const { status, stderr, stdout } = await runWalrx(args)
  assert.equal(status, 0, `${args.join(' ')}: ${stderr}`)
  return stdout
}

for (const major of majorsFor([17])) {
  describe(`PostgreSQL ${major}`, { skip: majorSkip(major) }, () => {
    test(
      'recovers from a window to a moment in it, and from the whole copy to the end',
      { timeout: 300_000 },
      async () => {
        const root = newServerDirectory(`copied${major}`)
        await makeServerDirectory(root, 0o755)
        const [source, window, whole] = ['archive', 'window', 'whole'].map((name) => join(root, name)) as [
          string,
          string,
          string,
        ]
        for (const folder of [source, window, whole]) await mkdir(folder)
        const prefix = ['--file-prefix', source]
        await using server = await startPostgres({ major, segmentSizeMb: 1 })
        await server.sql('create table t (id int)')
        await using receiver = startWalrx(['wal-receive', ...prefix, '--dbname', server.conninfo()])
        await receiver.logged('streaming')
        await ok('backup-push', ...prefix, '--dbname', server.conninfo())
        await archive(server, receiver)
        await ok('backup-push', ...prefix, '--dbname', server.conninfo())
        const first = await mark(server)
        await archive(server, receiver)
        const wanted = await mark(server)
        for (let more = 0; more < 4; more++) {
          await mark(server)
          await archive(server, receiver)
        }
        const summary = JSON.parse(
          await ok('copy', ...prefix, '--from', first.time, '--to', window, '--to', wanted.time, '--json', '--verify'),
        ) as { backups: string[] }
        // The second backup was complete at that time.
        assert.equal(summary.backups.length, 1)
        const all = archivedSegments(source)
        const copied = archivedSegments(window)
        assert.ok(copied.length > 0 && copied.length + 5 <= all.length, `${copied.length} of ${all.length}`)
        await restoreTo(window, wanted, major)

        const last = await mark(server)
        await archive(server, receiver)
        await ok('copy', ...prefix, '--to', whole)
        await receiver.stop()
        // What the receiver sent last, as chunks, comes along when it has ended.
        await ok('copy', ...prefix, '--to', whole)
        const again = JSON.parse(await ok('copy', ...prefix, '--to', whole, '--json')) as { objects: number }
        assert.equal(again.objects, 0)
        const end = (await server.sql<{ rows: number }>('select count(*)::int as rows from t'))[0]?.rows ?? -1
        assert.equal(end, last.rows + 1)
        const directory = await fetchTo(`whole${major}`, whole, ['--recover'])
        await using restored = await startRestored(directory, major)
        assert.equal(await countOf(restored), end)
        for (const [name, program] of Object.entries(tools))
          if (program !== undefined) await restoreByTool(name, program, whole, major, end)
      },
    )
  })
}

async function countOf(server: TestPostgres): Promise<number | undefined> {
  const [row] = await server.sql<{ rows: number }>('select count(*)::int as rows from t')
  return row?.rows
}

async function fetchTo(label: string, archivePath: string, flags: readonly string[]): Promise<string> {
  const directory = newServerDirectory(label)
  await makeServerDirectory(directory, 0o755)
  await ok('backup-fetch', join(directory, 'data'), 'LATEST', '--file-prefix', archivePath, ...flags)
  return directory
}

async function restoreTo(
  archivePath: string,
  { rows, time }: Moment,
  major: Parameters<typeof startRestored>[1],
): Promise<void> {
  const directory = await fetchTo(`window${major}`, archivePath, ['--target-time', time, '--target-action', 'promote'])
  await using restored = await startRestored(directory, major)
  assert.equal(await countOf(restored), rows)
}

/** The tool restores LATEST of the copy and recovers all whole segments of it. */
async function restoreByTool(
  name: string,
  program: string,
  archivePath: string,
  major: Parameters<typeof startRestored>[1],
  rows: number,
): Promise<void> {
  const directory = newServerDirectory(`${name}${major}`)
  await makeServerDirectory(directory, 0o755)
  const data = join(directory, 'data')
  const env = { PATH: process.env['PATH'] ?? '', HOME: directory, WALG_FILE_PREFIX: archivePath }
  await promisify(execFile)(program, ['backup-fetch', data, 'LATEST'], { env })
  await appendFile(
    join(data, 'postgresql.auto.conf'),
    `restore_command = 'HOME=${directory} WALG_FILE_PREFIX=${archivePath} ${program} wal-fetch "%f" "%p"'\n`,
  )
  await writeFile(join(data, 'recovery.signal'), '')
  await using restored = await startRestored(directory, major)
  assert.equal(await countOf(restored), rows, name)
}
