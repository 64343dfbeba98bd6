/**
 * A restored cluster is its own: nothing from the life of the original acts in it, and nothing of the recovery outlives
 * the recovery.
 */
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { appendFile, chmod, mkdir, readdir, readFile, rename, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { before, describe, test } from 'node:test'
import { promisify } from 'node:util'
import { makeServerDirectory, pgBinary } from '../../harness/postgres/postgres-files.ts'
import { copyDataDir, startStandby, untilReplayed } from '../../harness/postgres/postgres-copies.ts'
import { openAndStart, startPostgres, type TestPostgres } from '../../harness/postgres/postgres.ts'
import { restoredToServer, startRestored } from '../../harness/postgres/restored-server.ts'
import { freePort } from '../../harness/ports.ts'
import { isRunning } from '../../harness/walrx/processes.ts'
import { newServerDirectory } from '../../harness/walrx/test-workspace.ts'
import { until } from '../../harness/time/until.ts'
import { runWalrx, startWalrx } from '../../harness/walrx/walrx-process.ts'

/** An archive with a backup of a standby that was set up to live on another archive. */
async function makeWorld() {
  const root = newServerDirectory('own')
  await makeServerDirectory(root, 0o755)
  const [archive, touched] = [join(root, 'archive'), join(root, 'touched')]
  for (const directory of [archive, touched]) {
    await mkdir(directory)
    await chmod(directory, 0o777)
  }
  const prefix = ['--file-prefix', archive]
  await using primary = await startPostgres({ major: 17, segmentSizeMb: 1 })
  await primary.sql('create table t as select g as id from generate_series(1, 1000) g')
  await using receiver = startWalrx(['wal-receive', ...prefix, '--dbname', primary.conninfo()])
  await receiver.logged('streaming')
  const settings = { recovery_end_command: `touch ${touched}/ended`, archive_mode: 'on', archive_command: 'true' }
  await using standby = await startStandby(primary, { settings })
  await standby.sql(`alter system set archive_cleanup_command = 'touch ${touched}/cleaned'`)
  await standby.sql(`alter system set recovery_min_apply_delay = '1h'`)
  await standby.sql(`alter system set recovery_target_xid = '777'`)
  await standby.sql(`alter system set work_mem = '5MB'`)
  await using push = startWalrx(['backup-push', ...prefix, '--dbname', standby.conninfo()])
  await until('the end of the backup', async () => {
    await primary.sql('insert into t values (0); select pg_switch_wal()')
    return push.hasEnded
  })
  assert.equal((await push.ended).status, 0)
  await primary.sql('delete from t where id = 0')
  const [moment] = await primary.sql<{ lsn: string; time: string }>(
    'select pg_current_wal_insert_lsn()::text as lsn, clock_timestamp()::text as time',
  )
  await primary.sql('insert into t values (1001)')
  const end = await primary.switchWal()
  await primary.sql('insert into t values (1002)')
  await receiver.stop()
  const rest = await runWalrx(['wal-receive', ...prefix, '--dbname', primary.conninfo(), '--endpos', end])
  assert.equal(rest.status, 0, rest.stderr)
  return { prefix, touched, lsn: moment?.lsn ?? '', time: moment?.time ?? '' }
}

describe('a restored cluster', () => {
  let world: Awaited<ReturnType<typeof makeWorld>>
  before(async () => {
    world = await makeWorld()
  })

  /** Restores; returns the directory that holds `data`, and what was printed. */
  async function fetch(...flags: string[]): Promise<{ directory: string; stdout: string }> {
    const directory = newServerDirectory('own-restored')
    await makeServerDirectory(directory, 0o755)
    const args = ['backup-fetch', join(directory, 'data'), 'LATEST', ...flags, ...world.prefix]
    const { status, stderr, stdout } = await runWalrx(args)
    assert.equal(status, 0, stderr)
    return { directory, stdout }
  }

  const show = async (server: TestPostgres, name: string) =>
    Object.values((await server.sql(`show ${name}`))[0] ?? {})[0]
  const count = async (server: TestPostgres) =>
    (await server.sql<{ rows: number }>('select count(*)::int as rows from t'))[0]?.rows
  const autoConf = (server: TestPostgres) => readFile(join(server.dataDir, 'postgresql.auto.conf'), 'utf8')

  /** A standby of the server, made of its files as `pg_basebackup -R` does. */
  async function standbyOf(server: TestPostgres): Promise<TestPostgres> {
    const copy = await copyDataDir(server, true)
    const conninfo = `host=${server.socketDir} port=${server.port} user=postgres`
    await appendFile(join(copy.dataDir, 'postgresql.auto.conf'), `primary_conninfo = '${conninfo}'\n`)
    await writeFile(join(copy.dataDir, 'standby.signal'), '')
    await restoredToServer(copy.directory)
    return openAndStart(copy.directory, { major: server.major })
  }

  /** It starts, streams and follows: nothing of the recovery is left in the files that it was made of. */
  async function assertStandbyFollows(server: TestPostgres): Promise<void> {
    await using standby = await standbyOf(server)
    await server.sql('insert into t values (2000)')
    await untilReplayed(standby, server)
    assert.equal(await count(standby), await count(server))
    assert.equal(await show(standby, 'recovery_target_lsn'), '')
    assert.equal(await show(standby, 'restore_command'), '')
  }

  // pgbackrest #2417, patroni #1520, wal-g #1702
  test("runs no command of the original's, waits for no delay of it, and names what was turned off", async () => {
    const { directory, stdout } = await fetch('--target-time', world.time, '--target-action', 'promote')
    for (const name of ['archive_cleanup_command', 'recovery_min_apply_delay', 'recovery_target_xid'])
      assert.match(stdout, new RegExp(`turned off.*\\b${name} \\(postgresql.auto.conf\\)`))
    for (const name of ['primary_conninfo', 'recovery_end_command'])
      assert.match(stdout, new RegExp(`turned off.*\\b${name} \\(postgresql.conf\\)`))
    assert.match(stdout, /^removed, because it came with the backup: standby.signal$/m)
    assert.match(stdout, /^archive_command came with the backup.*--archive-mode off/m)
    await using server = await startRestored(directory, 17)
    await server.sql('checkpoint')
    assert.equal(await count(server), 1000)
    assert.deepEqual(await readdir(world.touched), [])
    assert.equal(await show(server, 'work_mem'), '5MB')
    await server.stop('fast')
    await server.start()
    for (const name of ['primary_conninfo', 'archive_cleanup_command', 'recovery_end_command', 'recovery_target_xid'])
      assert.equal(await show(server, name), '', name)
    await assertStandbyFollows(server)
  })

  test('archives nothing where a clone is asked for, also when archiving is turned on later', async () => {
    const { directory, stdout } = await fetch('--recover', '--archive-mode', 'off')
    assert.match(stdout, /turned off.*\barchive_command \(postgresql.conf\)/)
    await using server = await startRestored(directory, 17)
    assert.equal(await show(server, 'archive_mode'), 'off')
    // Where it archives nothing, the server shows "(disabled)".
    assert.match(await autoConf(server), /^archive_command = ''$/m)
  })

  test('keeps what it is asked to keep', async () => {
    const { directory, stdout } = await fetch('--recover', '--keep-settings', 'recovery_end_command,primary_conninfo')
    assert.doesNotMatch(stdout, /turned off.*(recovery_end_command|primary_conninfo)/)
    await using server = await startRestored(directory, 17)
    await until('the command of the original', async () => (await readdir(world.touched)).includes('ended'))
    assert.match(String(await show(server, 'primary_conninfo')), /^host=/)
    assert.doesNotMatch(await autoConf(server), /include/)
  })

  test('without a recovery starts none of its own, and none of the original', async () => {
    const { directory } = await fetch()
    const names = await readdir(join(directory, 'data'))
    assert.deepEqual(
      names.filter((name) => name.endsWith('.signal')),
      [],
    )
    const text = await readFile(join(directory, 'data/postgresql.auto.conf'), 'utf8')
    assert.match(text, /^primary_conninfo = ''$/m)
    assert.match(text, /^work_mem = '5MB'$/m)
    assert.doesNotMatch(text, /^(archive_cleanup_command|recovery_)\w* = '.+'/m)
  })

  for (const flags of [['--recover'], []]) {
    test(`starts by the commands that are printed, ${flags[0] ?? 'without --recover'}`, async () => {
      const directory = newServerDirectory('own-pasted')
      await makeServerDirectory(directory, 0o777)
      const data = join(directory, "it's data")
      const env = { WALG_FILE_PREFIX: world.prefix[1] ?? '', WALRX_FETCH_RETRY_TIMEOUT: '10s' }
      const { status, stderr, stdout } = await runWalrx(['backup-fetch', data, 'LATEST', ...flags], { env })
      assert.equal(status, 0, stderr)
      assert.match(stdout, /^ {2}export WALRX_FETCH_RETRY_TIMEOUT=10s$/m)
      const settings = `port = ${await freePort()}\nunix_socket_directories = '${directory}'\n`
      await appendFile(join(data, 'postgresql.conf'), settings)
      const commands = stdout.split('\n').filter((line) => line.startsWith('  '))
      const script = commands.join('\n').replaceAll('su postgres ', 'su nobody ').replaceAll(' postgres: ', ' nobody: ')
      const bin = dirname(pgBinary(17, 'pg_ctl'))
      const shell = { cwd: directory, env: { PATH: `${bin}:${process.env['PATH'] ?? ''}` } }
      await promisify(execFile)('/bin/sh', ['-ec', script], shell)
      const pid = Number((await readFile(join(data, 'postmaster.pid'), 'utf8')).split('\n')[0])
      try {
        const log = () => readFile(join(data, 'walrx-start.log'), 'utf8')
        await until('the end of the recovery', async () =>
          /archive recovery complete[^]*ready to accept connections/.test(await log()),
        )
      } finally {
        process.kill(pid, 'SIGINT')
        await until('the end of the server', async () => !(await isRunning(pid)))
      }
    })
  }

  test('has no target left after its recovery, whatever ALTER SYSTEM did meanwhile', async () => {
    const { directory } = await fetch('--target-lsn', world.lsn)
    await restoredToServer(directory)
    await using server = await openAndStart(directory, { major: 17 })
    await until('the pause', async () => {
      const [row] = await server.sql<{ state: string }>('select pg_get_wal_replay_pause_state() as state')
      return row?.state === 'paused'
    })
    // It copies the settings of recovery.signal into postgresql.auto.conf.
    await server.sql("alter system set maintenance_work_mem = '17MB'")
    assert.match(await autoConf(server), /^recovery_target_lsn = '.+'$/m)
    await server.sql('select pg_wal_replay_resume()')
    await server.recovered()
    await until('the end of the recovery', async () => !/recovery_target_lsn = '.+'/.test(await autoConf(server)))
    assert.equal(await count(server), 1000)
    assert.match(await autoConf(server), /^maintenance_work_mem = '17MB'$/m)
    assert.match(await autoConf(server), /^work_mem = '5MB'$/m)
    await assertStandbyFollows(server)
  })

  for (const way of ['beside recovery.signal', 'for recovery.signal']) {
    test(`is a standby with standby.signal ${way}, and starts again after its promotion`, async () => {
      const { directory } = await fetch('--recover')
      const signal = (name: string) => join(directory, 'data', `${name}.signal`)
      if (way.startsWith('for')) await rename(signal('recovery'), signal('standby'))
      else await writeFile(signal('standby'), '')
      await restoredToServer(directory)
      await using server = await openAndStart(directory, { major: 17 })
      await until('the rows of the archive', async () => (await count(server)) === 1001)
      await server.sql('select pg_promote()')
      await until('the end of the recovery', async () => !(await autoConf(server)).includes('include'))
      await server.restart()
      await server.sql('insert into t values (3000)')
      assert.deepEqual(
        (await readdir(server.dataDir)).filter((name) => name.endsWith('.signal')),
        [],
      )
      await assertStandbyFollows(server)
    })
  }

  test('has none left either where the server died before its recovery_end_command', async () => {
    const { directory } = await fetch('--target-lsn', world.lsn, '--target-action', 'promote')
    const path = join(directory, 'data/postgresql.auto.conf')
    const asRestored = await readFile(path)
    await using server = await startRestored(directory, 17)
    await server.stop('fast')
    assert.doesNotMatch(await autoConf(server), /include/)
    await writeFile(path, asRestored)
    await server.start()
    await assertStandbyFollows(server)
  })
})
