import assert from 'node:assert/strict'
import { test } from 'node:test'
import { MetricsPage } from '../../src/observe/metrics-page.ts'
import { systemClock } from '../../src/primitives/clock.ts'
import { openStatusPage } from '../../src/service/status-page.ts'
import { concernsOf, readReceivers } from '../../src/status/receiver-status.ts'
import type { Readiness } from '../../src/status/server.ts'
import { freePort } from '../harness/ports.ts'

const signal = new AbortController().signal
const details = { state: 'streaming', host: 'db1:5432', timeline: 2, durableLsn: '0/5A000000' }

async function read(states: Readonly<Record<string, Readiness>>, prepare = (_: MetricsPage) => {}) {
  const metrics = new MetricsPage('0')
  prepare(metrics)
  const services = Object.entries(states).map(([cluster, state]) => ({ cluster, readiness: () => state }))
  await using page = await openStatusPage({ host: '127.0.0.1', port: 0 }, services, metrics)
  return await readReceivers({ host: '0.0.0.0', port: page.port }, systemClock, signal)
}

test('the receiver of a page, with its numbers, and nothing that is wrong', async () => {
  const receivers = await read({ db1: { ready: true, details } }, (metrics) => {
    const own = metrics.addCluster('db1')
    own.slotLag.set(4096)
    own.slotSafeWal.set(Infinity)
    own.slotWalStatus.set(1, { status: 'reserved' })
  })
  assert.equal(receivers.length, 1)
  const [one] = receivers
  assert.ok(one)
  assert.deepEqual(
    [one.cluster, one.isReady, one.state, one.host, one.timeline, one.durableLsn],
    ['db1', true, 'streaming', 'db1:5432', 2, '0/5A000000'],
  )
  assert.deepEqual([one.slotLagBytes, one.slotSafeBytes, one.slotWalStatus], [4096, Infinity, 'reserved'])
  assert.equal(one.receivedBytesPerSecond, 0)
  assert.deepEqual(concernsOf(one), [])
})

test('each of several receivers is judged by itself', async () => {
  const late = { ready: false, reason: 'the server is starting', details: { state: 'connecting' } }
  const [first, second] = await read({ db1: { ready: true, details }, 'd"b': late }, (metrics) => {
    metrics.addCluster('db1')
    const own = metrics.addCluster('d"b')
    own.slotWalStatus.set(1, { status: 'lost' })
    own.slotOverBudget.set(1)
  })
  assert.deepEqual([first?.cluster, second?.cluster], ['d"b', 'db1'])
  assert.deepEqual(second && concernsOf(second), [])
  assert.deepEqual(first && concernsOf(first).map(({ level }) => level), ['critical', 'critical', 'critical'])
  assert.match((first && concernsOf(first)[0]?.text) ?? '', /the server is starting/)
})

test('nobody at the address is an error that says so', async () => {
  const port = await freePort()
  await assert.rejects(readReceivers({ host: '127.0.0.1', port }, systemClock, signal), {
    code: 'WALRX_CONNECT_FAILED',
    message: `no receiver answers at 127.0.0.1:${port}: ECONNREFUSED`,
  })
})
