import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, test } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import { isFullRun, isInDepth, withNext } from '../extent.ts'
import { descendants, isRunning } from '../walrx/processes.ts'
import { currentLsn, generateWal, startLoad } from '../made/wal-load.ts'
import { copyDataDir, removeCopy, startRecovery, startStandby, untilReplayed } from './postgres-copies.ts'
import { exists } from './postgres-files.ts'
import { majorSkip, pgMajors, startPostgres } from './postgres.ts'

describe('test servers', () => {
  for (const major of withNext(pgMajors)) {
    test(`PostgreSQL ${major} starts, answers, stops and leaves nothing`, { skip: majorSkip(major) }, async () => {
      const server = await startPostgres({ major, segmentSizeMb: 1, settings: { work_mem: '3MB' } })
      const [row] = await server.sql<{ version: number; id: string; memory: string }>(
        `select current_setting('server_version_num')::int as version, current_setting('work_mem') as memory,
           (select system_identifier::text from pg_control_system()) as id`,
      )
      assert.equal(Math.floor((row?.version ?? 0) / 10_000), major)
      assert.equal(row?.id, server.systemId.toString())
      assert.equal(row.memory, '3MB')
      const pid = server.pid ?? 0
      const below = await descendants(pid)
      assert.ok(below.length > 0)
      const elapsedMs = await server.stop('fast')
      assert.ok(elapsedMs > 0 && elapsedMs < 10_000, `${elapsedMs} ms`)
      for (const id of [pid, ...below]) assert.equal(await isRunning(id), false)
      await server[Symbol.asyncDispose]()
      assert.equal(await exists(server.directory), false)
    })

    if (!isInDepth(major) || (!isFullRun && major !== pgMajors.at(-1))) continue
    test(`PostgreSQL ${major} survives kill -9, streams to a standby and recovers from an archive`, async () => {
      await using server = await startPostgres({ major, segmentSizeMb: 1, settings: { wal_keep_size: '1GB' } })
      await generateWal(server, { segments: 3 })
      const pid = server.pid ?? 0
      const below = await descendants(pid)
      await server.kill9()
      for (const id of [pid, ...below]) assert.equal(await isRunning(id), false)
      await server.start()

      const copy = await copyDataDir(server, false)
      const load = await startLoad(server)
      await using standby = await startStandby(server)
      while (load.committed < 50) await delay(5)
      const committed = await load.stop()
      await untilReplayed(standby, server)
      await standby.promote()
      const history = 'select count(*)::int as rows from load_history'
      assert.deepEqual(await server.sql(history), [{ rows: committed }])
      await server.switchWal()
      await using recovered = await startRecovery({ copy, restoreCommand: `cp ${server.pgWal()}/%f %p` })
      assert.deepEqual(await recovered.sql(history), [{ rows: committed }])
      const [timeline] = await recovered.sql('select timeline_id from pg_control_checkpoint()')
      assert.deepEqual(timeline, { timeline_id: 2 })
    })
  }

  test('two servers of one layout share a system identifier unless one is asked to be fresh', async () => {
    await using first = await startPostgres({ major: 17 })
    await using second = await startPostgres({ major: 17 })
    await using other = await startPostgres({ major: 17, fresh: true })
    assert.equal(second.systemId, first.systemId)
    assert.notEqual(other.systemId, first.systemId)
  })

  for (const segmentSizeMb of isFullRun ? ([1, 16, 64] as const) : ([16] as const)) {
    test(`WAL fills segments of ${segmentSizeMb} MB to the last byte`, async () => {
      await using server = await startPostgres({ major: 17, segmentSizeMb, settings: { wal_keep_size: '1GB' } })
      const currentFile = async () => {
        const [row] = await server.sql<{ name: string }>('select pg_walfile_name(pg_current_wal_insert_lsn()) as name')
        return row?.name ?? ''
      }
      const first = await currentFile()
      const end = await generateWal(server, { segments: 2, fill: 'full' })
      assert.equal(await currentLsn(server), end)
      assert.equal(Number(`0x${await currentFile()}`.slice(-2)), Number(`0x${first}`.slice(-2)) + 2)
      const segment = await readFile(join(server.pgWal(), first))
      assert.equal(segment.length, segmentSizeMb * 1024 * 1024)
      assert.ok(segment.subarray(-64).some((byte) => byte !== 0))
    })
  }

  test('a server that cannot start is reported with its log and removed', async () => {
    const broken = startPostgres({ major: 17, settings: { max_wal_senders: 'many' } })
    await assert.rejects(broken, (error: Error) => {
      assert.match(error.message, /did not start\n[^]*invalid value for parameter "max_wal_senders"/)
      return true
    })
  })

  test('a copy of a stopped server has no backup_label, and one of a running server has', async () => {
    await using server = await startPostgres({ major: 15 })
    const online = await copyDataDir(server, false)
    await server.stop()
    const offline = await copyDataDir(server, true)
    assert.equal(await exists(join(online.dataDir, 'backup_label')), true)
    assert.equal(await exists(join(offline.dataDir, 'backup_label')), false)
    assert.equal((await readdir(join(online.dataDir, 'pg_wal'))).join(), 'archive_status')
    await removeCopy(online)
    await removeCopy(offline)
  })

  test('nothing keeps running when a test process is killed', async () => {
    const script = `
      import { startPostgres } from ${JSON.stringify(new URL('./postgres.ts', import.meta.url).href)}
      const server = await startPostgres({ major: 17 })
      console.log(JSON.stringify({ pid: server.pid, directory: server.directory }))
      process.kill(process.pid, 'SIGKILL')`
    const child = spawn(process.execPath, ['--input-type=module', '--eval', script], {
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    let output = ''
    child.stdout.setEncoding('utf8').on('data', (text: string) => (output += text))
    await once(child, 'close')
    const left = JSON.parse(output) as { pid: number; directory: string }
    // The clean-up runs in another process; no event reports its end.
    const deadline = performance.now() + 20_000
    while ((await isRunning(left.pid)) || (await exists(left.directory))) {
      assert.ok(performance.now() < deadline, `process ${left.pid} or ${left.directory} is still there`)
      await delay(20)
    }
  })
})
