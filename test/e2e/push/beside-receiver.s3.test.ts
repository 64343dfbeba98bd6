/**
 * `wal-push` and `wal-receive` on one server, on a store that fails now and then, both killed at random: every segment is in
 * the archive once, with the server's bytes, and archive_command never fails but for the store.
 * `WALRX_TEST_PUSH_SEGMENTS` says how many segments.
 */
import assert from 'node:assert/strict'
import { mkdirSync } from 'node:fs'
import { test } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import { trials } from '../../harness/extent.ts'
import { startPostgres } from '../../harness/postgres/postgres.ts'
import { Random } from '../../harness/random.ts'
import { type S3Fault, startFaultyS3 } from '../../harness/store/faulty-s3/faulty-s3.ts'
import { until } from '../../harness/time/until.ts'
import { newServerDirectory } from '../../harness/walrx/test-workspace.ts'
import { startWalrx } from '../../harness/walrx/walrx-process.ts'
import { ArchiveCommand, bucketEnvironment, compareBucket, runningCalls, waiting } from './push-world.ts'

const segments = trials('WALRX_TEST_PUSH_SEGMENTS', 5, 500)
const seed = Number(process.env['WALRX_TEST_PUSH_SEED'] ?? 1)

function drawFault(random: Random): S3Fault | undefined {
  if (!random.chance(0.03)) return undefined
  return random.pick<S3Fault>([
    { kind: 'answer', status: 503 },
    { kind: 'late', ms: 200 },
    { kind: 'lost' },
    { kind: 'refuse' },
    { kind: 'cut', bytes: 20 },
  ])
}

test(`seed ${seed}: ${segments} segments by both at once`, { timeout: 120_000 + segments * 10_000 }, async (t) => {
  const random = new Random(seed)
  const directory = newServerDirectory('push')
  await using store = await startFaultyS3()
  const env = bucketEnvironment(store)
  mkdirSync(directory, { recursive: true })
  const command = new ArchiveCommand(directory, ['wal-push', '"$1"'], env)
  const settings = { archive_mode: 'on', archive_command: command.setting, wal_keep_size: '2GB', max_wal_size: '4GB' }
  await using server = await startPostgres({ major: 17, segmentSizeMb: 1, settings })
  store.schedule = () => drawFault(random)
  const receiverArguments = ['wal-receive', '--dbname', server.conninfo(), '--slotname', 'both']
  let receiver = startWalrx(receiverArguments, { env })
  let [killedReceivers, killedPushes, isOver] = [0, 0, false]
  const killingPushes = (async () => {
    const seen = new Set<number>()
    while (!isOver) {
      const pid = (await runningCalls('wal-push')).find((each) => !seen.has(each))
      if (pid === undefined) await delay(50)
      else seen.add(pid)
      if (pid === undefined || !random.chance(0.25)) continue
      await delay(random.int(0, 2000))
      if (!(await runningCalls('wal-push')).includes(pid)) continue
      process.kill(pid, 'SIGKILL')
      killedPushes++
    }
  })()
  const killingReceivers = (async () => {
    while (!isOver) {
      await receiver.logged('streaming').catch(() => {})
      await delay(random.int(0, 4000))
      await receiver.stop('SIGKILL')
      killedReceivers++
      await delay(random.int(0, 3000))
      receiver = startWalrx(receiverArguments, { env })
    }
  })()
  // After three failures PostgreSQL waits for a minute, or for this.
  const waking = (async () => {
    for (; !isOver; await delay(1000)) await server.sql('select pg_reload_conf()')
  })()
  const names: string[] = []
  try {
    for (let made = 0; made < segments; made++) {
      const [row] = await server.sql<{ name: string }>(
        `select pg_walfile_name(pg_logical_emit_message(false, 'x', repeat(md5(random()::text), 9000))) as name`,
      )
      await server.sql('select pg_switch_wal()')
      names.push(row?.name ?? '')
      // Now and then the archiver is left to catch up, so that either is first sometimes.
      if (random.chance(0.1)) await until('the archiver', async () => (await waiting(server)).length < 3, 600_000)
    }
    await until('all files', async () => (await waiting(server)).length === 0, segments * 10_000 + 60_000)
  } catch (error) {
    t.diagnostic(command.errors().slice(-3000))
    throw error
  } finally {
    isOver = true
    await Promise.all([killingPushes, killingReceivers, waking])
  }
  store.schedule = undefined
  await receiver.logged('streaming')
  assert.equal((await receiver.stop()).status, 0, receiver.stderr.slice(-2000))
  const { compared, wrong } = await compareBucket(store, server, names)
  const calls = command.calls()
  const failed = calls.filter(({ status }) => ![0, 137].includes(status))
  t.diagnostic(
    `${compared} compared, ${calls.length} calls, ${killedPushes} killed, ${killedReceivers} receivers killed`,
  )
  t.diagnostic(`${failed.length} failed for the store`)
  assert.deepEqual(wrong, [])
  assert.equal(compared, segments)
  assert.deepEqual(
    failed.filter(({ status }) => status !== 4),
    [],
    command.errors().slice(-3000),
  )
  assert.ok(calls.filter(({ status }) => status === 0).length >= segments)
})
