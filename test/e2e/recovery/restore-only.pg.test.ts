/** `backup-fetch --restore-only`: some databases of a cluster, with WAL that touches all of them. */
import assert from 'node:assert/strict'
import { mkdir, readdir, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, test } from 'node:test'
import { majorsFor, withNext } from '../../harness/extent.ts'
import { makeServerDirectory, superuser } from '../../harness/postgres/postgres-files.ts'
import { majorSkip, startPostgres, type TestPostgres } from '../../harness/postgres/postgres.ts'
import { startRestored } from '../../harness/postgres/restored-server.ts'
import { newServerDirectory } from '../../harness/walrx/test-workspace.ts'
import { runWalrx } from '../../harness/walrx/walrx-process.ts'

const wanted = 'ord"ers'
const others = ['billing', 'a,b', 'Umlaut ä', 'in space']
const identifier = (name: string) => `"${name.replaceAll('"', '""')}"`

function inDatabase<Row extends object>(server: TestPostgres, database: string, text: string): Promise<Row[]> {
  return server.sql<Row>(text, superuser, database)
}

/** Changes pages that the backup has, makes new ones, and cuts some off. */
async function change(server: TestPostgres, database: string): Promise<void> {
  await inDatabase(server, database, 'vacuum quiet')
  await inDatabase(server, database, 'update t set v = v + 1 where id % 3 = 0')
  await inDatabase(
    server,
    database,
    'insert into t select i, i, repeat(md5(i::text), 20) from generate_series(1, 300) i',
  )
  await inDatabase(server, database, 'delete from t where id > 1500')
  await inDatabase(server, database, 'vacuum t')
  await inDatabase(server, database, 'create table late as select * from t limit 50')
}

const sums =
  'select count(*)::int as rows, sum(v)::int as sum, md5(string_agg(filler, $$$$ order by id, v)) as all from t'

for (const major of withNext(majorsFor([14, 18]))) {
  describe(`PostgreSQL ${major}`, { skip: majorSkip(major) }, () => {
    test('one of five databases recovers, and the others can be dropped', { timeout: 300_000 }, async () => {
      const root = newServerDirectory(`only${major}`)
      await makeServerDirectory(root, 0o755)
      const archive = join(root, 'archive')
      const space = join(root, 'space')
      await mkdir(archive)
      await makeServerDirectory(space, 0o700)
      // Without checksums a page that becomes all-visible has no image in the WAL, and with 14 no page has one.
      const settings = major >= 17 ? { summarize_wal: 'on' } : { full_page_writes: 'off' }
      await using primary = await startPostgres({ major, segmentSizeMb: 1, settings })
      const prefix = ['--file-prefix', archive]
      const server = [...prefix, '--dbname', primary.conninfo()]
      await primary.sql(`create tablespace elsewhere location '${space}'`)
      for (const name of [wanted, ...others]) {
        await primary.sql(`create database ${identifier(name)}${name === 'in space' ? ' tablespace elsewhere' : ''}`)
        await inDatabase(primary, name, 'create table t (id int, v int, filler text)')
        await inDatabase(primary, name, 'create index on t (id)')
        const rows = 'insert into t select i, 0, repeat(md5(i::text), 20) from generate_series(1, 2000) i'
        await inDatabase(primary, name, rows)
        await inDatabase(primary, name, 'create table quiet as select * from t')
      }
      // pg_database gets another file, and rows of names that are gone.
      await primary.sql('alter database billing rename to billed')
      await primary.sql('vacuum full pg_database')
      await primary.sql('alter database billed rename to billing')
      const receive = async () => {
        const [end] = await primary.sql<{ lsn: string }>('select pg_switch_wal()::text as lsn')
        await primary.sql(`select pg_logical_emit_message(false, 'walrx', 'one more')`)
        const ended = await runWalrx(['wal-receive', ...server, '--endpos', end?.lsn ?? ''])
        assert.equal(ended.status, 0, ended.stderr)
      }
      await receive()
      const push = async (...args: string[]) => {
        const pushed = await runWalrx(['backup-push', '--no-wait', '--tar-size-threshold=2MiB', ...args, ...server])
        assert.equal(pushed.status, 0, pushed.stderr)
      }
      await push('--full')
      for (const name of [wanted, ...others]) await change(primary, name)
      if (major >= 17) {
        await receive()
        await push('--delta-max-steps=3')
        for (const name of [wanted, ...others]) await inDatabase(primary, name, 'update t set v = v + 7')
      }
      await primary.sql('create database late_copy')
      await receive()
      const [expected] = await inDatabase(primary, wanted, sums)

      const directory = newServerDirectory(`only${major}-restored`)
      await makeServerDirectory(directory, 0o755)
      const data = join(directory, 'data')
      const newSpace = join(directory, 'space')
      const mapping = `--tablespace-mapping=${space}=${newSpace}`
      const fetch = (...args: string[]) => runWalrx(['backup-fetch', data, 'LATEST', mapping, ...prefix, ...args])
      const bytesToRead = async (...args: string[]) => {
        const { stdout, stderr } = await fetch('--dry-run', ...args)
        return Number(/(\d+) bytes to read/.exec(stdout)?.[1] ?? assert.fail(stderr))
      }
      const all = await bytesToRead()
      const some = await bytesToRead(`--restore-only=${wanted}`, '--recover')
      assert.ok(some < all, `${some} of ${all} bytes`)
      const refused = await fetch('--restore-only=orders', '--recover')
      assert.equal(refused.status, 2)
      assert.match(refused.stderr, /"its databases are: .*a,b, .*billing.*has no database \\"orders\\""/)
      const fetched = await fetch(`--restore-only=${wanted}`, '--recover')
      assert.equal(fetched.status, 0, fetched.stderr)
      for (const name of others)
        assert.ok(fetched.stdout.includes(`  DROP DATABASE ${identifier(name)};`), fetched.stdout)
      assert.ok(!(await readdir(data)).includes('backup_manifest'))
      const [{ oid } = { oid: '' }] = await primary.sql<{ oid: string }>(
        `select oid::text from pg_database where datname = 'billing'`,
      )
      const [{ path } = { path: '' }] = await inDatabase<{ path: string }>(
        primary,
        'billing',
        `select pg_relation_filepath('t') as path`,
      )
      assert.ok(path.startsWith(`base/${oid}/`))
      const { blocks, size } = await stat(join(data, path))
      assert.ok(size > 0 && blocks === 0, `${path} has ${size} bytes in ${blocks} blocks`)

      await using restored = await startRestored(directory, major, [newSpace])
      assert.deepEqual(await inDatabase(restored, wanted, sums), [expected])
      assert.deepEqual(await inDatabase(restored, wanted, 'select count(*)::int as n from late'), [{ n: 50 }])
      assert.deepEqual(await inDatabase(restored, 'late_copy', 'select 1 as one'), [{ one: 1 }])
      await assert.rejects(inDatabase(restored, 'billing', 'select 1'))
      for (const name of others) await restored.sql(`drop database ${identifier(name)}`)
      const names = await restored.sql<{ name: string }>('select datname as name from pg_database order by oid')
      assert.equal(names.length, 5)
      await restored.stop('fast')
      await restored.start()
      assert.deepEqual(await inDatabase(restored, wanted, sums), [expected])
    })
  })
}
