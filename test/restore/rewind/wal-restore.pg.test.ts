/**
 * wal-restore with the real pg_rewind: an old primary that went on after its standby was promoted. Neither pg_wal has the
 * WAL around the divergence any more; pg_rewind fails without it, works with it, and the rewound server follows.
 */
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { chmodSync, mkdirSync } from 'node:fs'
import { readdir, readFile, stat, unlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, test } from 'node:test'
import { promisify } from 'node:util'
import { parseControlState } from '../../../src/postgres/control-file.ts'
import { formatLsn } from '../../../src/postgres/lsn.ts'
import { isSegmentName } from '../../../src/postgres/wal/wal-file.ts'
import { clientTool } from '../../harness/postgres/client-tools.ts'
import { startStandby, untilReplayed } from '../../harness/postgres/postgres-copies.ts'
import { giveToServer, serverEnvironment, serverIdentity, superuser } from '../../harness/postgres/postgres-files.ts'
import { type PgMajor, pgMajors, startPostgres, type TestPostgres } from '../../harness/postgres/postgres.ts'
import { newServerDirectory } from '../../harness/walrx/test-workspace.ts'
import { runWalrx, startWalrx } from '../../harness/walrx/walrx-process.ts'
import { isFullRun } from '../../harness/extent.ts'

const found = await Promise.all(
  pgMajors.map(async (major: PgMajor) => ({ major, path: await clientTool('pg_rewind', major) })),
)
const tools = found.filter((one): one is { major: PgMajor; path: string } => one.path !== undefined)
const used = isFullRun ? tools : tools.slice(-1)
const skip = used.length === 0 && 'this machine has no pg_rewind'

/** Checkpoints come only when they are asked for, and remove all WAL that they may. */
const settings = {
  wal_log_hints: 'on',
  wal_keep_size: '0',
  max_wal_size: '1GB',
  min_wal_size: '2MB',
  checkpoint_timeout: '1d',
}

/** Where the last segment that it has filled ends. */
async function fill(server: TestPostgres, table: string, segments: number): Promise<string> {
  let last = ''
  for (let count = 0; count < segments; count++) {
    await server.sql(`insert into ${table} select generate_series(1, 100)`)
    last = await server.switchWal()
  }
  return last
}

/** Receives all that a server has, up to a new segment. */
async function archive(server: TestPostgres, root: string): Promise<void> {
  const [row] = await server.sql<{ lsn: string }>('select pg_switch_wal()::text as lsn')
  await server.sql(`select pg_logical_emit_message(false, 'walrx', 'one more')`)
  const args = [
    'wal-receive',
    '--slotless',
    '--file-prefix',
    root,
    '--dbname',
    server.conninfo(),
    '--endpos',
    row?.lsn ?? '',
  ]
  const ended = await runWalrx(args)
  assert.equal(ended.status, 0, ended.stderr)
}

async function checkControl(server: TestPostgres): Promise<void> {
  const state = parseControlState(await readFile(join(server.dataDir, 'global', 'pg_control')))
  const [row] = await server.sql<{ checkpoint: string; redo: string; timeline: number; system: string; size: number }>(
    `select checkpoint_lsn::text as checkpoint, redo_lsn::text as redo, timeline_id as timeline,
      system_identifier::text as system, (select bytes_per_wal_segment from pg_control_init()) as size
      from pg_control_checkpoint(), pg_control_system()`,
  )
  assert.ok(row && state)
  const { checkpoint, redo, segmentSize, systemId, timeline } = state
  assert.deepEqual(
    [formatLsn(checkpoint), formatLsn(redo), timeline, String(systemId), segmentSize],
    [row.checkpoint, row.redo, row.timeline, row.system, row.size],
  )
}

/** Takes away every segment that a start does not need, as a server does that keeps none. */
async function removeOldWal(server: TestPostgres): Promise<void> {
  const state = parseControlState(await readFile(join(server.dataDir, 'global', 'pg_control')))
  assert.ok(state)
  const first = (state.redo / 0x100000n).toString(16).toUpperCase().padStart(16, '0')
  const old = (await readdir(server.pgWal())).filter((name) => isSegmentName(name) && name.slice(8) < first)
  for (const name of old) await unlink(join(server.pgWal(), name))
}

describe('wal-restore', { skip }, () => {
  for (const { major, path } of used) {
    test(`gives pg_rewind ${major} the WAL that both servers have removed`, { timeout: 100_000 }, async () => {
      const root = join(newServerDirectory(`rewind${major}`), 'archive')
      mkdirSync(root, { recursive: true })
      chmodSync(root, 0o777)
      await using target = await startPostgres({ major, segmentSizeMb: 1, settings })
      await target.sql('create table t (i int)')
      await target.checkpoint()
      await checkControl(target)
      await using source = await startStandby(target, { settings: { ...settings, hot_standby_feedback: 'off' } })
      {
        const args = ['--file-prefix', root, '--tail-interval=50ms', '--dbname', target.conninfo()]
        await using receiver = startWalrx(['wal-receive', ...args])
        await receiver.logged('streaming')
        await fill(target, 't', 3)
        await target.sql('insert into t values (-1)')
        await untilReplayed(source, target)
        await source.promote()
        const end = await fill(target, 't', 3)
        const [row] = await target.sql<{ last: string }>(`select pg_walfile_name('${end}') as last`)
        await receiver.logged(({ file, msg }) => msg === 'archived' && file === row?.last)
        assert.equal((await receiver.stop()).status, 0)
      }
      await target.checkpoint()
      await target.checkpoint()
      await source.sql('create table since (i int)')
      await fill(source, 'since', 3)
      // Before a checkpoint removes it.
      await archive(source, root)
      await source.checkpoint()
      await fill(source, 'since', 1)
      await archive(source, root)
      await source.checkpoint()
      const expected = await source.sql('select count(*)::int as rows from t')
      await target.stop()
      await source.stop()
      for (const server of [target, source]) await removeOldWal(server)

      const rewind = (...args: string[]) =>
        promisify(execFile)(path, ['-D', target.dataDir, `--source-pgdata=${source.dataDir}`, ...args], {
          ...serverIdentity,
          env: serverEnvironment(target.directory),
        })
      await assert.rejects(rewind('--dry-run'), /could not (open file|find previous WAL record)/)
      const restore = () => runWalrx(['wal-restore', target.dataDir, source.dataDir, '--file-prefix', root, '--json'])
      const { status, stderr, stdout } = await restore()
      assert.equal(status, 0, stderr)
      const restored = JSON.parse(stdout) as Record<'source' | 'target', { restored: string[]; missing: string[] }>
      assert.ok(restored.target.restored.length >= 3, stdout)
      assert.ok(restored.source.restored.length >= 1, stdout)
      assert.deepEqual([restored.target.missing, restored.source.missing], [[], []])
      const owner = (await stat(target.pgWal())).uid
      for (const name of restored.target.restored) {
        const file = await stat(join(target.pgWal(), name))
        assert.deepEqual([file.uid, file.mode & 0o777], [owner, 0o600])
      }
      assert.ok(!(await readdir(target.pgWal())).some((name) => name.includes('walrx')), 'nothing of ours is left')
      const again = JSON.parse((await restore()).stdout) as typeof restored
      assert.deepEqual([again.target.restored, again.source.restored], [[], []], 'what is there stays')

      await rewind()
      await source.start()
      const conninfo = `host=${source.socketDir} port=${source.port} user=${superuser}`
      const own = { port: String(target.port), unix_socket_directories: target.socketDir, primary_conninfo: conninfo }
      await target.configure({ auth: 'trust', settings: own })
      await writeFile(join(target.dataDir, 'standby.signal'), '')
      await giveToServer(join(target.dataDir, 'standby.signal'))
      await target.start()
      await untilReplayed(target, source)
      assert.deepEqual(await target.sql('select count(*)::int as rows from t'), expected)
      assert.deepEqual(await target.sql('select count(*)::int as rows from since'), [{ rows: 400 }])
    })
  }
})
