/**
 * A chain that WAL-G takes of a running server, while tables grow, shrink and go: restored by walrx to the files that
 * WAL-G's own restore makes, and recovered. Runs where WALG_BIN names its program.
 */
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { test } from 'node:test'
import { restoredFiles } from '../harness/made/golden-restores.ts'
import { giveToServer, makeServerDirectory, superuser } from '../harness/postgres/postgres-files.ts'
import { startPostgres, type TestPostgres } from '../harness/postgres/postgres.ts'
import { startRestored } from '../harness/postgres/restored-server.ts'
import { newServerDirectory } from '../harness/walrx/test-workspace.ts'
import { until } from '../harness/time/until.ts'
import { runWalrx } from '../harness/walrx/walrx-process.ts'

const run = promisify(execFile)
const walg = process.env['WALG_BIN']
const skip = walg === undefined ? 'no program of WAL-G given' : false

/** What is done between the backups. */
const changes: readonly (readonly string[])[] = [
  [
    'create table grown tablespace ts as select g as id, md5(g::text) as text from generate_series(1, 20000) g',
    'create table touched as select g as id, md5(g::text) as text from generate_series(1, 20000) g',
    'create index on touched (text)',
    'create table shrunk as select g as id, md5(g::text) as text from generate_series(1, 20000) g',
    'create table gone as select g as id from generate_series(1, 5000) g',
    'create table emptied as select g as id from generate_series(1, 5000) g',
    'create table elsewhere tablespace old as select g as id from generate_series(1, 5000) g',
    'create database dropped',
  ],
  [
    'update touched set text = md5(text) where id % 500 = 0',
    'delete from shrunk where id > 200',
    'vacuum shrunk',
    'drop table gone',
    'drop table elsewhere',
    'drop tablespace old',
    'create table fresh as select g as id from generate_series(1, 3000) g',
    `insert into grown select g, 'more' from generate_series(20001, 30000) g`,
  ],
  [
    `insert into shrunk select g, 'again' from generate_series(201, 15000) g`,
    'truncate emptied',
    'vacuum full fresh',
    'drop database dropped',
    `update touched set text = 'x' where id = 7`,
  ],
]

async function apply(server: TestPostgres, statements: readonly string[]): Promise<void> {
  for (const statement of statements) await server.sql(statement)
  await server.sql('checkpoint')
}

async function countsOf(server: TestPostgres): Promise<string[]> {
  const tables = ['grown', 'touched', 'shrunk', 'emptied', 'fresh', 'late']
  const counts: string[] = []
  for (const table of tables) {
    const [row] = await server.sql<{ text: string }>(
      `select count(*) || ' ' || coalesce(md5(string_agg(each::text, ',' order by id)), '') as text from ${table} each`,
    )
    counts.push(`${table} ${row?.text}`)
  }
  return counts
}

/** A server that archives its WAL by WAL-G. */
async function startArchiving(root: string): Promise<{ readonly server: TestPostgres; readonly archive: string }> {
  await makeServerDirectory(root, 0o755)
  const archive = join(root, 'archive')
  await mkdir(archive)
  await giveToServer(archive)
  const push = `WALG_FILE_PREFIX=${archive} ${walg} wal-push %p`
  const settings = { archive_mode: 'on', archive_command: push }
  return { server: await startPostgres({ major: 17, dataChecksums: true, settings }), archive }
}

/** The environment of WAL-G beside a server. */
function environment(server: TestPostgres, archive: string): NodeJS.ProcessEnv {
  const place = { PGHOST: server.socketDir, PGPORT: String(server.port), PGUSER: superuser, PGDATABASE: 'postgres' }
  return { ...process.env, ...place, WALG_FILE_PREFIX: archive, WALG_DELTA_MAX_STEPS: '6' }
}

test('a chain by WAL-G is restored as WAL-G restores it, and recovers', { skip, timeout: 300_000 }, async () => {
  const root = newServerDirectory('walg-chain')
  const started = await startArchiving(root)
  await using server = started.server
  const { archive } = started
  const [ts, old] = ['ts', 'old'].map((name) => join(root, name)) as [string, string]
  for (const path of [ts, old]) await mkdir(path)
  for (const path of [ts, old]) await giveToServer(path)
  await server.sql(`create tablespace ts location '${ts}'`)
  await server.sql(`create tablespace old location '${old}'`)
  const env = environment(server, archive)
  const positions: string[] = []
  for (const statements of changes) {
    await apply(server, statements)
    await run(walg!, ['backup-push', server.dataDir], { env })
    const [row] = await server.sql<{ lsn: string }>('select pg_current_wal_insert_lsn()::text as lsn')
    positions.push(row!.lsn)
  }
  await server.sql(`create table late as select 1 as id, 'the last' as text`)
  const expected = await countsOf(server)
  const [last] = await server.sql<{ file: string }>('select pg_walfile_name(pg_switch_wal()) as file')
  await until('the last segment', async () => {
    const [row] = await server.sql<{ file: string }>('select last_archived_wal as file from pg_stat_archiver')
    return (row?.file ?? '') >= last!.file
  })
  await server.stop('fast')

  const prefix = ['--file-prefix', archive]
  const listed = await runWalrx(['backup-list', '--chains', '--json', '--detail', ...prefix])
  const rows = JSON.parse(listed.stdout) as { readonly backup_name: string; readonly delta_count: number }[]
  assert.deepEqual(
    rows.map((row) => row.delta_count),
    [0, 1, 2],
  )
  for (const [index, { backup_name: name }] of rows.entries()) {
    const oids = await oidsOf(archive, name)
    const theirs = join(root, `walg-${index}`)
    const spec = { base_prefix: theirs, tablespaces: oids } as Record<string, unknown>
    for (const each of oids) spec[each] = { loc: join(root, `walg-ts-${index}-${each}`), link: `pg_tblspc/${each}` }
    await writeFile(join(root, 'spec.json'), JSON.stringify(spec))
    await run(walg!, ['backup-fetch', theirs, name, '--restore-spec', join(root, 'spec.json')], { env })

    const ours = join(root, `walrx-${index}`)
    const mapping = [ts, ...(index === 0 ? [old] : [])].map((path) => `${path}=${path}-walrx-${index}`).join(',')
    const fetched = await runWalrx(['backup-fetch', ours, name, '-T', mapping, ...prefix])
    assert.equal(fetched.status, 0, fetched.stderr)
    const [own, other] = [await restoredFiles(ours), await restoredFiles(theirs)]
    const files = ({ files: sums }: typeof own) =>
      new Map([...sums].filter(([path]) => path !== 'tablespace_map').sort())
    assert.deepEqual(files(own), files(other), name)
    // WAL-G makes those of dropped databases and tablespaces again, empty.
    const missing = other.directories.filter((path) => !own.directories.includes(path))
    assert.deepEqual(
      own.directories.filter((path) => !other.directories.includes(path)),
      [],
    )
    assert.deepEqual(
      missing.filter((path) => [...own.files.keys()].some((file) => file.startsWith(`${path}/`))),
      [],
    )
    assert.equal(missing.length > 0, index > 0, missing.join(' '))
  }

  const directory = newServerDirectory('walg-chain-recovered')
  await makeServerDirectory(directory, 0o755)
  const tablespace = join(directory, 'ts')
  const to = ['-T', `${ts}=${tablespace}`, ...prefix]
  const dry = await runWalrx([
    'backup-fetch',
    join(directory, 'data'),
    'LATEST',
    '--target-lsn',
    positions[1]!,
    '--dry-run',
    ...to,
  ])
  assert.ok(
    dry.stdout.startsWith(`${rows[1]!.backup_name} (a delta on ${rows[0]!.backup_name}) `),
    dry.stdout + dry.stderr,
  )
  const fetched = await runWalrx([
    'backup-fetch',
    join(directory, 'data'),
    'LATEST',
    '--recover',
    '--archive-mode',
    'off',
    ...to,
  ])
  assert.equal(fetched.status, 0, fetched.stderr)
  assert.ok(fetched.stdout.startsWith(`${rows[2]!.backup_name} (2 deltas on`), fetched.stdout)
  await using restored = await startRestored(directory, 17, [tablespace])
  assert.deepEqual(await countsOf(restored), expected)
  await restored.sql('create extension amcheck')
  const broken = await restored.sql(`
    select c.relname, v.* from pg_class c, lateral verify_heapam(c.oid) v
    where c.relkind in ('r', 't', 'm') and c.relpersistence = 'p'`)
  assert.deepEqual(broken, [])
})

test('a delta by WAL-G on a full backup by walrx is restored by both', { skip, timeout: 300_000 }, async () => {
  const root = newServerDirectory('mixed-chain')
  const { archive, server } = await startArchiving(root)
  await using _server = server
  await server.sql('create table kept as select g as id, md5(g::text) as text from generate_series(1, 20000) g')
  await server.sql('create table gone as select g as id from generate_series(1, 5000) g')
  const prefix = ['--file-prefix', archive]
  const pushed = await runWalrx(['backup-push', '--dbname', server.conninfo(), ...prefix])
  assert.equal(pushed.status, 0, pushed.stderr)
  await apply(server, ['drop table gone', 'update kept set text = id::text where id % 500 = 0'])
  const env = environment(server, archive)
  await run(walg!, ['backup-push', server.dataDir], { env })
  await server.stop('fast')

  const [theirs, ours] = [join(root, 'by-walg'), join(root, 'by-walrx')]
  await run(walg!, ['backup-fetch', theirs, 'LATEST'], { env })
  const verified = await runWalrx(['backup-verify', 'LATEST', '--json', ...prefix])
  assert.equal(verified.status, 0, verified.stderr)
  const { backups, increments } = JSON.parse(verified.stdout) as { backups: string[]; increments: number }
  assert.equal(backups.length, 2)
  assert.ok(increments > 0, verified.stdout)
  const fetched = await runWalrx(['backup-fetch', ours, 'LATEST', ...prefix])
  assert.equal(fetched.status, 0, fetched.stderr)
  const files = async (directory: string) => [...(await restoredFiles(directory)).files].sort()
  assert.deepEqual(await files(ours), await files(theirs))
})

/** Tablespaces of a backup by its sentinel, the oldest first. */
async function oidsOf(archive: string, name: string): Promise<string[]> {
  const sentinel = await readFile(join(archive, `basebackups_005/${name}_backup_stop_sentinel.json`), 'utf8')
  return [...(/"tablespaces":\[([^\]]*)\]/.exec(sentinel)?.[1] ?? '').matchAll(/\d+/g)].map(([oid]) => oid).sort()
}
