/** `walrx serve` with two clusters: one has trouble, is changed and goes, and the other does not notice. */
import assert from 'node:assert/strict'
import { appendFile } from 'node:fs/promises'
import { test } from 'node:test'
import { parseLsn } from '../../../src/postgres/lsn.ts'
import { generateWal } from '../../harness/made/wal-load.ts'
import { startPostgres, type TestPostgres } from '../../harness/postgres/postgres.ts'
import { endOfSwitched } from '../../harness/store/archive-check.ts'
import { startBucket } from '../../harness/store/bucket.ts'
import { until } from '../../harness/time/until.ts'
import { descendants, isRunning } from '../../harness/walrx/processes.ts'
import { ServeWorld, walsender } from './serve-world.ts'

const MiB = 1024 * 1024
const password = 'orders-password-4711'

/** Writes two segments, and waits until the archive has them. */
async function archived(world: ServeWorld, name: string, server: TestPostgres): Promise<void> {
  await generateWal(server, { segments: 2, fill: 'full' })
  const end = endOfSwitched(parseLsn(await server.switchWal()), MiB)
  await world.becomes(name, 'has its WAL', ({ durableLsn }) => durableLsn !== undefined && parseLsn(durableLsn) >= end)
}

test('two clusters of one file', { timeout: 240_000 }, async () => {
  await using orders = await startPostgres({ major: 17, segmentSizeMb: 1 })
  await using users = await startPostgres({ major: 16, segmentSizeMb: 1, fresh: true })
  await using bucket = await startBucket()
  const world = await ServeWorld.open()
  const archive = await world.archive('orders')
  const ofOrders = (jobs: object) => ({
    server: { dbname: `${orders.conninfo()} password=\${ORDERS_PASSWORD}` },
    storage: { 'file-prefix': archive },
    ...jobs,
  })
  const ofUsers = (receive: object) => ({
    server: { dbname: users.conninfo() },
    storage: {
      's3-prefix': `s3://${bucket.bucket}`,
      'storage-prefix': 'users',
      'aws-endpoint': bucket.endpoint,
      's3-force-path-style': true,
    },
    environment: { AWS_ACCESS_KEY_ID: bucket.accessKeyId, AWS_SECRET_ACCESS_KEY: bucket.secretAccessKey },
    receive,
  })
  const busy = {
    backup: { full: '* * * * * *' },
    retention: { schedule: '* * * * * *', 'keep-full': 1 },
  }
  const defaults = { compression: { 'compression-method': 'lz4' } }
  await world.write({ defaults, clusters: { orders: ofOrders(busy), users: ofUsers({}) } })
  await using walrx = world.start({ ORDERS_PASSWORD: password })
  for (const name of ['orders', 'users']) await world.becomes(name, 'streams', ({ status }) => status === 'ready')
  const sender = await walsender(orders)
  assert.ok(sender !== undefined)
  assert.equal((await fetch(`http://127.0.0.1:${world.port}/readyz`)).status, 200)

  // Jobs run by their schedules, one of a cluster at a time.
  await world.becomes('orders', 'has a backup', ({ jobs }) => typeof jobs['backup']?.last_success === 'string')
  await world.becomes('orders', 'has been swept', ({ jobs }) => typeof jobs['retention']?.last_success === 'string')
  const metrics = await world.metrics()
  assert.match(metrics, /^walrx_job_runs_total\{job="backup",outcome="succeeded",cluster="orders"\} [1-9]/m)
  assert.match(metrics, /^walrx_job_last_success_timestamp_seconds\{job="backup",cluster="orders"\} 1\.?\d+/m)
  assert.match(metrics, /^walrx_cluster_ready\{cluster="users"\} 1$/m)
  assert.ok(walrx.lines.every(({ msg, cluster }) => msg !== 'job started' || cluster === 'orders'))

  // The trouble of one cluster.
  await users.stop('immediate')
  await world.becomes('users', 'is not ready', ({ status }) => status === 'not ready')
  await archived(world, 'orders', orders)
  assert.equal((await world.cluster('orders')).status, 'ready')
  assert.equal(await walsender(orders), sender)

  // A mistake changes nothing.
  await appendFile(world.path, ' oh')
  walrx.child.kill('SIGHUP')
  await walrx.logged(({ msg }) => new RegExp(`^${world.path}:\\d+:\\d+: `).test(msg))
  await walrx.logged('the configuration has mistakes: the old one stays in force')

  // Other settings for one, schedules alone for the other.
  await users.start()
  await world.becomes('users', 'streams again', ({ status }) => status === 'ready')
  const before = await walsender(users)
  await world.write({
    defaults,
    clusters: {
      orders: ofOrders({ backup: { full: 'off' } }),
      users: ofUsers({ 'tail-interval': '2s', memory: '16MB' }),
    },
  })
  walrx.child.kill('SIGHUP')
  await walrx.logged('the configuration is applied')
  await world.becomes('users', 'streams with other settings', ({ status }) => status === 'ready')
  assert.notEqual(await walsender(users), before)
  assert.equal((await world.cluster('users')).memory_bytes, 16 * MiB)
  assert.deepEqual(Object.keys((await world.cluster('orders')).jobs), [])

  // One goes; the memory that it had goes to the other, in whose stream nothing happens.
  const pool = (await world.cluster('orders')).poolCapacity ?? 0
  await world.write({ defaults, memory: '64MB', clusters: { orders: ofOrders({}) } })
  const applied = walrx.lines.length
  walrx.child.kill('SIGHUP')
  await walrx.logged('the configuration is applied', applied)
  await until('the slot of users to be free', async () => (await walsender(users)) === undefined)
  assert.deepEqual(Object.keys((await world.shown()).clusters), ['orders'])
  assert.ok(((await world.cluster('orders')).poolCapacity ?? 0) < pool)
  await archived(world, 'orders', orders)
  assert.equal(await walsender(orders), sender)
  assert.doesNotMatch(await world.metrics(), /cluster="users"/)

  const children = await descendants(walrx.child.pid as number)
  const { status, stderr } = await walrx.stop()
  assert.equal(status, 0, stderr.slice(-2000))
  for (const pid of children) assert.equal(await isRunning(pid), false)
  assert.doesNotMatch(`${stderr}${JSON.stringify(await world.kept('orders'))}`, new RegExp(password))
})
