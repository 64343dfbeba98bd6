/** Tablespaces at odd places come back where they are mapped to, and one that is gone makes no directory. */
import assert from 'node:assert/strict'
import { mkdir, readlink, rm, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { makeServerDirectory } from '../../harness/postgres/postgres-files.ts'
import { startPostgres } from '../../harness/postgres/postgres.ts'
import { startRestored } from '../../harness/postgres/restored-server.ts'
import { newServerDirectory } from '../../harness/walrx/test-workspace.ts'
import { runWalrx, startWalrx } from '../../harness/walrx/walrx-process.ts'

// barman #95, pg_hardstorage #50
test('tablespaces at odd places, inside the data directory, and one that is gone', { timeout: 300_000 }, async () => {
  const root = newServerDirectory('tablespaces')
  await makeServerDirectory(root, 0o755)
  const archive = join(root, 'archive')
  await mkdir(archive)
  const prefix = ['--file-prefix', archive]
  await using server = await startPostgres({ major: 17, segmentSizeMb: 1 })
  const [odd, inside, gone] = [join(root, 'a, b = "c"\\d'), join(server.dataDir, 'own,space'), join(root, 'gone')]
  for (const [name, path] of [
    ['odd', odd],
    ['inside', inside],
    ['gone', gone],
  ] as const) {
    await makeServerDirectory(path, 0o700)
    await server.sql(`create tablespace ${name} location '${path}'`)
    if (path !== gone) await server.sql(`create table t_${name} tablespace ${name} as select 1 as id`)
  }
  await rm(gone, { recursive: true })
  {
    await using receiver = startWalrx(['wal-receive', ...prefix, '--dbname', server.conninfo()])
    await receiver.logged('streaming')
    const pushed = await runWalrx(['backup-push', ...prefix, '--dbname', server.conninfo()])
    assert.equal(pushed.status, 0, pushed.stderr)
    await receiver.stop()
  }
  const directory = newServerDirectory('tablespaces-restored')
  await makeServerDirectory(directory, 0o755)
  const [data, place] = [join(directory, 'data'), join(directory, 'new, = place')]
  const escaped = (path: string) => path.replace(/[\\=]/g, '\\$&')
  const mappings = ['-T', `${escaped(odd)}=${escaped(place)}`, '-T', `${gone}=${join(directory, 'gone')}`]
  const fetched = await runWalrx(['backup-fetch', data, 'LATEST', '--recover', ...mappings, ...prefix])
  assert.equal(fetched.status, 0, fetched.stderr)
  assert.match(fetched.stderr, /gone",.*a tablespace has nothing in the backup/)
  await assert.rejects(stat(join(directory, 'gone')), { code: 'ENOENT' })
  await using restored = await startRestored(directory, 17, [place])
  for (const name of ['odd', 'inside']) assert.deepEqual(await restored.sql(`select id from t_${name}`), [{ id: 1 }])
  const rows = await restored.sql<{ oid: number; name: string }>('select oid, spcname as name from pg_tablespace')
  const links = new Map<string, string>()
  for (const { name, oid } of rows.filter((row) => !row.name.startsWith('pg_')))
    links.set(name, await readlink(join(restored.dataDir, 'pg_tblspc', String(oid))))
  assert.deepEqual(Object.fromEntries(links), {
    odd: place,
    inside: join(data, 'own,space'),
    gone: join(directory, 'gone'),
  })
})
