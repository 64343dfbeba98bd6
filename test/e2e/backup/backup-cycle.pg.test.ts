/** The whole cycle: load, backup, more load, kill -9, restore into other folders, recover; every row is there. */
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { appendFile, cp, mkdir, readdir, readFile, rm, truncate, writeFile } from 'node:fs/promises'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { describe, test } from 'node:test'
import { clientTool } from '../../harness/postgres/client-tools.ts'
import { isInDepth, majorsFor, withNext } from '../../harness/extent.ts'
import { giveToServer, makeServerDirectory } from '../../harness/postgres/postgres-files.ts'
import { majorSkip, startPostgres, type TestPostgres } from '../../harness/postgres/postgres.ts'
import { startRestored } from '../../harness/postgres/restored-server.ts'
import { newServerDirectory } from '../../harness/walrx/test-workspace.ts'
import { startLoad } from '../../harness/made/wal-load.ts'
import { runWalrx, startWalrx } from '../../harness/walrx/walrx-process.ts'

const run = promisify(execFile)
const walg = process.env['WALG_BIN']

interface Listed {
  readonly backup_name: string
}

/** Files that somebody left in the data directory: as long as a tar's header bears, and with signs that mean something. */
const oddNames = ['n'.repeat(99), "it's a file", 'back\\slash', 'Größe.txt', '%p %f', '-rf', 'new\nline']

async function rowsOf(server: TestPostgres, table: string): Promise<number> {
  const [row] = await server.sql<{ n: number }>(`select count(*)::int as n from ${table}`)
  return row?.n ?? -1
}

/** What pg_amcheck does: every index against its table, every page of every table. */
async function assertSound(server: TestPostgres): Promise<void> {
  await server.sql('create extension amcheck')
  const [checked] = await server.sql<{ indexes: number }>(`
    select count(bt_index_check(i.indexrelid, true))::int as indexes
    from pg_index i join pg_class c on c.oid = i.indexrelid join pg_am a on a.oid = c.relam
    where a.amname = 'btree' and c.relpersistence = 'p' and i.indisvalid`)
  assert.ok((checked?.indexes ?? 0) > 100)
  const damage = await server.sql(`
    select c.relname, v.* from pg_class c, lateral verify_heapam(c.oid) v
    where c.relkind in ('r', 't', 'm') and c.relpersistence = 'p'`)
  assert.deepEqual(damage, [])
}

/** Of the load: its history without a gap, and as many as the accounts say. */
async function assertWhole(server: TestPostgres, least: number): Promise<void> {
  const [load] = await server.sql<{ rows: number; balance: number; gaps: number }>(`
    select (select count(*)::int from load_history) as rows, (select sum(balance)::int from load_accounts) as balance,
      (select sum(n)::int from (select max(number) - count(*) as n from load_history group by client) g) as gaps`)
  assert.ok((load?.rows ?? 0) >= least, `${load?.rows} of ${least} rows`)
  assert.equal(load?.balance, load?.rows)
  assert.equal(load?.gaps, 0)
}

for (const major of withNext(majorsFor([18]))) {
  describe(`PostgreSQL ${major}`, { skip: majorSkip(major) }, () => {
    test('loses its data directory, and gets it back', { timeout: 300_000 }, async (t) => {
      const root = newServerDirectory(`cycle${major}`)
      await makeServerDirectory(root, 0o755)
      const [archive, tablespace, elsewhere] = ['archive', 'ts', 'ts-elsewhere'].map((name) => join(root, name))
      for (const path of [archive, tablespace]) await mkdir(path!)
      await giveToServer(tablespace!)
      const settings = { allow_in_place_tablespaces: 'on' }
      await using server = await startPostgres({ major, dataChecksums: true, settings })
      await server.sql(`create tablespace ts location '${tablespace}'`)
      await server.sql(`create tablespace inplace location ''`)
      await server.sql('create table v tablespace inplace as select g as id from generate_series(1, 5000) g')
      for (const name of oddNames) await writeFile(join(server.dataDir, name), name)
      await mkdir(join(server.dataDir, 'an empty folder'))
      await giveToServer(join(server.dataDir, 'an empty folder'))
      for (const name of oddNames) await giveToServer(join(server.dataDir, name))
      for (const [name, where] of [
        ['t', 'tablespace ts'],
        ['u', ''],
      ]) {
        await server.sql(
          `create table ${name} ${where} as select g as id, md5(g::text) as text from generate_series(1, 50000) g`,
        )
        await server.sql(`create index on ${name} (text)`)
      }
      const prefix = ['--file-prefix', archive!]
      await using receiver = startWalrx(['wal-receive', ...prefix, '--dbname', server.conninfo()])
      await receiver.logged('streaming')
      const load = await startLoad(server)
      const verifybackup = await clientTool('pg_verifybackup', major)
      if (verifybackup === undefined) t.diagnostic(`no pg_verifybackup of PostgreSQL ${major}: that check is left out`)
      const pushed = await runWalrx([
        'backup-push',
        ...prefix,
        '--dbname',
        server.conninfo(),
        '--json',
        '--tar-size-threshold',
        '8MB',
      ])
      assert.equal(pushed.status, 0, pushed.stderr)
      const { backup_name: name } = JSON.parse(pushed.stdout) as Listed
      assert.match(pushed.stdout, /"parts":[3-9]/)

      await server.sql(`insert into t select g, 'later' from generate_series(50001, 60000) g`)
      await server.sql(`insert into u select g, 'later' from generate_series(50001, 60000) g`)
      await server.sql(`select pg_create_restore_point('before the accident')`)
      const [before] = await server.sql<{ lsn: string }>('select pg_current_wal_insert_lsn()::text as lsn')
      await server.sql('delete from t')
      // Committed before the end of what is going to be archived.
      const committed = await rowsOf(server, 'load_history')
      const [last] = await server.sql<{ file: string }>('select pg_walfile_name(pg_switch_wal()) as file')
      await receiver.logged(({ file, msg }) => msg === 'archived' && file === last?.file)
      assert.ok(committed > 0 && load.committed > 0)
      await server.kill9()
      await load.stop()
      await receiver.stop()
      await rm(server.dataDir, { recursive: true, force: true })
      await rm(tablespace!, { recursive: true, force: true })

      await t.test('a verified backup, restored and recovered to the end', async () => {
        const verified = await runWalrx(['backup-verify', 'LATEST', ...prefix])
        assert.equal(verified.status, 0, verified.stderr)
        const directory = newServerDirectory(`cycle${major}-end`)
        await makeServerDirectory(directory, 0o755)
        const mapping = `${tablespace}=${elsewhere}`
        const fetched = await runWalrx([
          'backup-fetch',
          join(directory, 'data'),
          'LATEST',
          '--recover',
          '-T',
          mapping,
          ...prefix,
        ])
        assert.equal(fetched.status, 0, fetched.stderr)
        if (verifybackup !== undefined) await run(verifybackup, ['-n', join(directory, 'data')])
        await using restored = await startRestored(directory, major, [elsewhere!])
        await assertWhole(restored, committed)
        assert.equal(await rowsOf(restored, 'v'), 5000)
        await assertSound(restored)
        for (const name of oddNames) assert.equal(await readFile(join(restored.dataDir, name), 'utf8'), name)
        assert.deepEqual(await readdir(join(restored.dataDir, 'an empty folder')), [])
        assert.deepEqual([await rowsOf(restored, 't'), await rowsOf(restored, 'u')], [0, 60000])
        // By the index: one that was torn would not find them.
        await restored.sql('set enable_seqscan = off')
        assert.equal(await rowsOf(restored, `u where text = 'later'`), 10000)
      })

      // The ways to restore what was stored once are the same for the versions between.
      if (!isInDepth(major)) return
      await t.test('to a position before an accident', async () => {
        const directory = newServerDirectory(`cycle${major}-lsn`)
        await makeServerDirectory(directory, 0o755)
        const place = `${elsewhere}-lsn`
        const target = ['--target-lsn', before!.lsn, '--target-action', 'promote', '-T', `${tablespace}=${place}`]
        const fetched = await runWalrx(['backup-fetch', join(directory, 'data'), 'LATEST', ...target, ...prefix])
        assert.equal(fetched.status, 0, fetched.stderr)
        await using restored = await startRestored(directory, major, [place])
        assert.deepEqual([await rowsOf(restored, 't'), await rowsOf(restored, 'u')], [60000, 60000])
      })

      await t.test('a position that the archive does not reach is refused', async () => {
        const beyond = ['--target-lsn', 'FF/0', '-T', `${tablespace}=${elsewhere}-beyond`]
        const fetched = await runWalrx(['backup-fetch', join(root, 'beyond'), 'LATEST', ...beyond, ...prefix])
        assert.equal(fetched.status, 2, fetched.stderr)
        assert.ok(!existsSync(join(root, 'beyond')))
      })

      await t.test('by WAL-G', { skip: walg === undefined ? 'WALG_BIN names no WAL-G' : false }, async () => {
        const data = join(root, 'by-walg')
        const spec = {
          base_prefix: data,
          tablespaces: ['16384'],
          16384: { loc: `${elsewhere}-walg`, link: 'pg_tblspc/16384' },
        }
        const sentinel = await readFile(join(archive!, `basebackups_005/${name}_backup_stop_sentinel.json`), 'utf8')
        const oid = /"tablespaces":\["(\d+)"\]/.exec(sentinel)?.[1] ?? ''
        const text = JSON.stringify(spec).replaceAll('16384', oid)
        await writeFile(join(root, 'spec.json'), text)
        const args = ['backup-fetch', data, 'LATEST', '--restore-spec', join(root, 'spec.json')]
        await run(walg ?? '', args, { env: { ...process.env, WALG_FILE_PREFIX: archive } })
        const own = join(root, 'by-walrx')
        const mapping = `${tablespace}=${elsewhere}-own`
        const fetched = await runWalrx(['backup-fetch', own, name, '-T', mapping, ...prefix])
        assert.equal(fetched.status, 0, fetched.stderr)
        const differences = await run('diff', ['-r', '-x', 'tablespace_map', '-x', 'backup_manifest', data, own])
        assert.equal(differences.stdout, '')
      })

      const anywhere = { skip: walg === undefined ? 'WALG_BIN names no WAL-G' : false }
      await t.test('by WAL-G into another folder, which knows nothing of tablespaces there', anywhere, async () => {
        const directory = newServerDirectory(`cycle${major}-walg`)
        await makeServerDirectory(directory, 0o755)
        const args = ['backup-fetch', join(directory, 'data'), 'LATEST']
        await run(walg ?? '', args, { env: { ...process.env, WALG_FILE_PREFIX: archive } })
        const restoreCommand = await runWalrx(['restore-command', ...prefix])
        // It makes plain folders there, which the server takes only with a setting. With a tablespace_map beside them it
        // would not take them at all: it stops at the removal of a folder that is not empty.
        const settings = `${restoreCommand.stdout}allow_in_place_tablespaces = on\n`
        await appendFile(join(directory, 'data/postgresql.auto.conf'), settings)
        await writeFile(join(directory, 'data/recovery.signal'), '')
        await using restored = await startRestored(directory, major)
        assert.deepEqual([await rowsOf(restored, 't'), await rowsOf(restored, 'u')], [0, 60000])
        await assertWhole(restored, committed)
      })

      // What is stored is the same for all of them.
      if (major < 18) return
      await t.test('damage to what walrx stored is found and named', async () => {
        const folder = join(archive!, 'basebackups_005', name)
        const copy = join(root, 'copy')
        const parts = await readdir(join(folder, 'tar_partitions'))
        for (const part of [...parts.map((each) => `tar_partitions/${each}`), 'backup_manifest.zst']) {
          for (const how of ['a flipped bit', 'the last byte cut off', 'gone'] as const) {
            await rm(copy, { recursive: true, force: true })
            await cp(archive!, copy, { recursive: true })
            const path = join(copy, 'basebackups_005', name, part)
            const bytes = await readFile(path)
            if (how === 'gone') await rm(path)
            else if (how === 'a flipped bit') {
              bytes[Math.floor(bytes.length / 3)]! ^= 4
              await writeFile(path, bytes)
            } else await truncate(path, bytes.length - 1)
            const verified = await runWalrx(['backup-verify', name, '--file-prefix', copy])
            assert.notEqual(verified.status, 0, `${part}: ${how}`)
            assert.ok(verified.stderr.includes(part.replace('.zst', '')), `${part}, ${how}: ${verified.stderr}`)
          }
        }
      })
    })
  })
}
