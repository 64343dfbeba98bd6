import assert from 'node:assert/strict'
import { test } from 'node:test'
import { silentLog } from '../../../src/observe/log.ts'
import type { Clock } from '../../../src/primitives/clock.ts'
import { runJobProcess } from '../../../src/serve/jobs/job-process.ts'

test('a time-out of months ends a job after months', async () => {
  const dayMs = 24 * 3600_000
  const waits: number[] = []
  // Every timer fires in the next turn, however long it is, but for the one that kills.
  const clock: Clock = {
    now: () => 0,
    setTimer: (ms, fire) => {
      waits.push(ms)
      const handle = ms === 45_000 ? undefined : setImmediate(fire)
      return { cancel: () => clearImmediate(handle) }
    },
  }
  const end = await runJobProcess({
    command: [process.execPath, '-e', 'setInterval(() => {}, 1000)'],
    environment: { PATH: process.env['PATH'] },
    nice: 0,
    timeoutMs: 90 * dayMs,
    clock,
    log: silentLog,
    secrets: [],
    onStarted: () => {},
    signal: new AbortController().signal,
  })
  const parts = waits.filter((ms) => ms !== 45_000)
  assert.equal(
    parts.reduce((sum, ms) => sum + ms, 0),
    90 * dayMs,
  )
  assert.ok(parts.length > 3 && parts.every((ms) => ms < 2 ** 31))
  assert.match(end.error ?? '', /did not end within/)
})
