import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { MetricsPage } from '../../src/observe/metrics-page.ts'
import type { FleetSnapshot } from '../../src/serve/fleet.ts'
import { fleetReadiness } from '../../src/serve/fleet-status.ts'
import { newRecord } from '../../src/serve/jobs/job-record.ts'
import { StatusServer } from '../../src/status/server.ts'

const secrets = ['pass-word of orders', 'AKIA-secret-of-orders']

function snapshotWith(text: string, ready: boolean): FleetSnapshot {
  const last = { mode: 'full', startedMs: 1, endedMs: 2, outcome: 'failed', status: 3, error: text } as const
  const details = { state: 'waiting', lastError: text, nested: [{ text }] }
  const service = { state: 'waiting', ready, reason: text, code: 'WALRX_USAGE', hint: text, details } as const
  const job = {
    job: 'backup',
    state: 'idle',
    schedules: ['@daily (UTC)'],
    nextMs: 3,
    record: { ...newRecord, last },
  } as const
  return {
    memoryBytes: 1,
    jobsMax: 2,
    jobsRunning: 0,
    clusters: [{ name: 'orders', memoryBytes: 1, service, jobs: [job] }],
  }
}

test('no secret is in any answer, whatever is asked, and whatever errors say', async () => {
  let text = ''
  await using status = await StatusServer.open({
    host: '127.0.0.1',
    port: 0,
    readiness: () =>
      fleetReadiness(snapshotWith(text, false), { path: 'walrx.yaml', loadedMs: 1, mistakes: 0 }, () => secrets),
    metrics: () => new MetricsPage('1').read(),
  })
  const paths = fc.oneof(
    fc.constantFrom('/readyz', '/healthz', '/metrics', '/'),
    fc.webPath(),
    fc.webQueryParameters().map((query) => `/readyz?${query}`),
  )
  const message = fc.tuple(
    fc.string(),
    fc.constantFrom(...secrets, 'host=x password=geheim9', 'postgresql://u:geheim9@h/'),
    fc.string(),
  )
  await fc.assert(
    fc.asyncProperty(paths, message, fc.constantFrom('GET', 'HEAD', 'POST', 'DELETE'), async (path, parts, method) => {
      text = parts.join(' ')
      const answer = await fetch(`${status.url}${path}`, { method })
      const body = await answer.text()
      for (const secret of [...secrets, 'geheim9']) assert.ok(!body.includes(secret), body)
    }),
    { numRuns: 60 },
  )
})

test('ready is what all clusters are', () => {
  const loaded = { path: 'walrx.yaml', loadedMs: 0, mistakes: 2 }
  assert.equal(fleetReadiness(snapshotWith('x', true), loaded, () => []).ready, true)
  const late = fleetReadiness(snapshotWith('the server is down', false), loaded, () => [])
  assert.deepEqual([late.ready, late.reason], [false, 'orders: the server is down'])
  const shown = JSON.parse(JSON.stringify(late.details)) as {
    configuration: object
    clusters: Record<string, { jobs: Record<string, object> }>
  }
  assert.deepEqual(shown.configuration, { path: 'walrx.yaml', loaded_at: '1970-01-01T00:00:00.000Z', mistakes: 2 })
  assert.deepEqual(shown.clusters['orders']?.jobs['backup'], {
    state: 'idle',
    schedules: ['@daily (UTC)'],
    next: '1970-01-01T00:00:00.003Z',
    running_since: null,
    due: null,
    failed_attempts: 0,
    next_attempt: null,
    last_success: null,
    last: {
      outcome: 'failed',
      started: '1970-01-01T00:00:00.001Z',
      ended: '1970-01-01T00:00:00.002Z',
      status: 3,
      error: 'the server is down',
    },
  })
})
