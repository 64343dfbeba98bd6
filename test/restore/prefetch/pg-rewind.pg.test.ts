/** pg_rewind -c with the printed restore_command. Public reports of tools that met the same: patroni #1525, repmgr #697. */
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { readdir, readFile, unlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { promisify } from 'node:util'
import { isSegmentName } from '../../../src/postgres/wal/wal-file.ts'
import { clientTool } from '../../harness/postgres/client-tools.ts'
import { startRecovery, untilReplayed } from '../../harness/postgres/postgres-copies.ts'
import { giveToServer, serverEnvironment, serverIdentity, superuser } from '../../harness/postgres/postgres-files.ts'
import { type PgMajor, pgMajors, type TestPostgres } from '../../harness/postgres/postgres.ts'
import { until } from '../../harness/time/until.ts'
import { isRunning } from '../../harness/walrx/processes.ts'
import { makeRecoveryWorld, type RecoveryWorld } from '../../harness/walrx/recovery-world.ts'

const MiB = 1024 * 1024

const tools = await Promise.all(
  pgMajors.map(async (major: PgMajor) => ({ major, path: await clientTool('pg_rewind', major) })),
)
const tool = tools.findLast((one): one is { major: PgMajor; path: string } => one.path !== undefined)

describe('pg_rewind -c', { skip: tool === undefined && 'this machine has no pg_rewind' }, () => {
  let world: RecoveryWorld
  before(async () => {
    assert.ok(tool)
    world = await makeRecoveryWorld(tool.major, 'zstd', 24, { wal_log_hints: 'on' })
  })
  after(() => world.close())

  /** The position where a segment begins. */
  const startOf = (index: number) => `0/${(parseInt(world.segments[index]!.slice(16), 16) * MiB).toString(16)}`

  const recoverTo = async (index: number, action: 'pause' | 'promote') =>
    startRecovery({
      copy: await world.copy(),
      restoreCommand: world.command(['--prefetch-size=8MB']),
      settings: { recovery_target_lsn: startOf(index), recovery_target_action: action, wal_log_hints: 'on' },
      wait: action === 'promote',
    })

  const readyFolder = async (server: TestPostgres) => {
    const root = join(server.pgWal(), '.walrx')
    const [name = ''] = await readdir(root).catch(() => [])
    return join(root, name)
  }

  const rewind = async (target: TestPostgres, source: TestPostgres) => {
    const from = `--source-server=host=${source.socketDir} port=${source.port} user=${superuser} dbname=postgres`
    return promisify(execFile)(tool!.path, ['-c', '-D', 'data', from], {
      ...serverIdentity,
      cwd: target.directory,
      env: serverEnvironment(target.directory),
    })
  }

  const follow = async (target: TestPostgres, source: TestPostgres) => {
    // The settings are those of the source now.
    const conninfo = `host=${source.socketDir} port=${source.port} user=${superuser}`
    await target.configure({
      auth: 'trust',
      settings: {
        port: String(target.port),
        unix_socket_directories: target.socketDir,
        primary_conninfo: conninfo,
        recovery_target_lsn: '',
      },
    })
    await writeFile(join(target.dataDir, 'standby.signal'), '')
    await giveToServer(join(target.dataDir, 'standby.signal'))
    await target.start()
    await untilReplayed(target, source)
  }

  for (const prefetcher of ['lives until the server stops', 'was killed before']) {
    test(`rewinds a server whose prefetcher ${prefetcher}, with a relative path`, async () => {
      await using source = await recoverTo(4, 'promote')
      await source.sql('create table since (id int)')
      await using target = await recoverTo(13, 'pause')
      await target.ready()
      await until('the target', async () => {
        const [row] = await target.sql<{ state: string }>('select pg_get_wal_replay_pause_state() as state')
        return row?.state === 'paused'
      })
      await until('segments to be ready', async () =>
        (await readdir(await readyFolder(target))).some((name) => isSegmentName(name)),
      )
      if (prefetcher.includes('killed')) {
        const owner = await readFile(join(await readyFolder(target), 'owner'), 'utf8')
        const { pid } = (JSON.parse(owner) as { prefetcher: { pid: number } }).prefetcher
        process.kill(pid, 'SIGKILL')
        await until('its end', async () => !(await isRunning(pid)))
      }
      await target.stop()
      // Everything must come from the archive.
      for (const name of await readdir(target.pgWal())) {
        if (isSegmentName(name)) await unlink(join(target.pgWal(), name))
      }
      const callsBefore = (await world.calls()).length
      await rewind(target, source)
      const calls = (await world.calls()).slice(callsBefore)
      assert.ok(calls.length > 5, 'pg_rewind has read the archive')
      assert.ok(!(await readdir(target.pgWal())).includes('.walrx'), 'nothing of ours is left, or was started')
      await follow(target, source)
      assert.deepEqual(await target.sql('select * from since'), [])
    })
  }
})
