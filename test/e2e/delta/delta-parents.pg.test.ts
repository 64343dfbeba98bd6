/** Deltas on backups that walrx did not make, or that have only their documents left, restored by WAL-G. */
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { mkdir, readdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { describe, test } from 'node:test'
import { makeServerDirectory } from '../../harness/postgres/postgres-files.ts'
import { startPostgres, type TestPostgres } from '../../harness/postgres/postgres.ts'
import { startRecovering } from '../../harness/postgres/restored-server.ts'
import { newServerDirectory } from '../../harness/walrx/test-workspace.ts'
import { runWalrx, startWalrx } from '../../harness/walrx/walrx-process.ts'
import { archivedAll } from './delta-chain.ts'
import { contentsOf } from './delta-proofs.ts'

const run = promisify(execFile)
const walg = process.env['WALG_BIN'] ?? ''
const walrus = process.env['WALRUS_BIN'] ?? ''

interface World {
  readonly server: TestPostgres
  readonly archive: string
}

/** Takes a backup beside the data directory, with a program that has WAL-G's settings. */
async function pushBeside(program: string, { archive, server }: World, deltas: number): Promise<void> {
  const env = {
    ...process.env,
    WALG_FILE_PREFIX: archive,
    WALG_COMPRESSION_METHOD: 'zstd',
    WALG_DELTA_MAX_STEPS: String(deltas),
    PGHOST: server.socketDir,
    PGPORT: String(server.port),
    PGUSER: 'postgres',
    PGDATABASE: 'postgres',
  }
  await run(program, ['backup-push', server.dataDir], { env })
}

async function pushByWalrx({ archive, server }: World): Promise<void> {
  const pushed = await runWalrx([
    'backup-push',
    '--file-prefix',
    archive,
    '-d',
    server.conninfo(),
    '--no-wait',
    '--full',
  ])
  assert.equal(pushed.status, 0, pushed.stderr)
}

/** Backups, and what one needs to make them. */
const parents: readonly { what: string; needs: string; take: (world: World) => Promise<void> }[] = [
  { what: 'a full backup of WAL-G', needs: walg, take: (world) => pushBeside(walg, world, 0) },
  {
    what: 'a delta of WAL-G on a full backup of its own',
    needs: walg,
    take: async (world) => {
      await pushBeside(walg, world, 0)
      await world.server.sql('update t set id = -id where id < 10')
      await pushBeside(walg, world, 3)
    },
  },
  {
    what: 'a full backup of WAL-RUS, with names without a leading slash',
    needs: walg && walrus,
    take: (world) => pushBeside(walrus, world, 0),
  },
  {
    what: 'one of ours without its manifest and walrx.json',
    needs: walg,
    take: async (world) => {
      await pushByWalrx(world)
      const folder = join(world.archive, 'basebackups_005')
      const names = (await readdir(folder, { recursive: true })).filter((name) =>
        /backup_manifest|walrx\.json/.test(name),
      )
      assert.equal(names.length, 2)
      for (const name of names) await rm(join(folder, name))
    },
  },
]

describe('a delta on', () => {
  for (const { needs, take, what } of parents) {
    const skip = needs === '' ? 'WALG_BIN and WALRUS_BIN do not name the tools' : false
    test(what, { skip, timeout: 120_000 }, async () => {
      const root = newServerDirectory('delta-parents')
      await makeServerDirectory(root, 0o755)
      const archive = join(root, 'archive')
      await mkdir(archive)
      const prefix = ['--file-prefix', archive]
      await using server = await startPostgres({ major: 17, settings: { summarize_wal: 'on' } })
      await using receiver = startWalrx(['wal-receive', ...prefix, '--dbname', server.conninfo()])
      await receiver.logged('streaming')
      await server.sql(`create table t as select g as id, repeat('x', 500) as text from generate_series(1, 20000) g`)
      await server.sql('create table gone as select * from t')
      // Else the one after the parent would change every page.
      await server.sql('vacuum')
      await take({ server, archive })
      await server.sql(`update t set text = 'changed' where id between 5000 and 5020`)
      for (const change of [
        'delete from t where id > 15000',
        'vacuum t',
        'drop table gone',
        'create table new as select 1 as id',
      ]) {
        await server.sql(change)
      }
      const args = ['backup-push', ...prefix, '-d', server.conninfo(), '--no-wait', '--json', '--require-incremental']
      const pushed = await runWalrx([...args, '--delta-max-steps', '5'])
      assert.equal(pushed.status, 0, pushed.stderr)
      const { uncompressed_size: size } = JSON.parse(pushed.stdout) as { uncompressed_size: number }
      // What is left of t, for it was cut, and little else: a full one has twice as much.
      assert.ok(size < 16_000_000, `${size} bytes`)
      const expected = await contentsOf(server)
      await archivedAll(server, receiver)
      await receiver.stop()

      const directory = newServerDirectory('delta-parents-walg')
      await makeServerDirectory(directory, 0o755)
      const data = join(directory, 'data')
      await run(walg, ['backup-fetch', data, 'LATEST'], { env: { ...process.env, WALG_FILE_PREFIX: archive } })
      await using restored = await startRecovering(directory, 17, prefix)
      assert.deepEqual(await contentsOf(restored), expected)
      assert.deepEqual(Object.keys(expected), ['postgres public.new', 'postgres public.t'])
    })
  }
})
