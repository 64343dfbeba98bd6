import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import fc from 'fast-check'
import type { JobPlan } from '../../../src/serve/configuration/cluster-plan.ts'
import type { TriggerName } from '../../../src/serve/configuration/shape.ts'
import { lookAtSchedules, nextRun } from '../../../src/serve/jobs/due-runs.ts'
import { type JobRecord, newRecord } from '../../../src/serve/jobs/job-record.ts'
import { afterFailure, callFor, mayPass, withDue } from '../../../src/serve/jobs/job-rules.ts'
import { jitterAt, Schedule } from '../../../src/serve/schedule/schedule.ts'

const hourMs = 3600_000
const dayMs = 24 * hourMs
const midnight = Date.parse('2026-05-01T00:00:00Z')

function planOf(triggers: Partial<Record<TriggerName, string>>, jitterMs = 0): JobPlan {
  return {
    name: 'backup',
    call: { command: 'backup-push', environment: {}, flags: new Map(), words: [] },
    triggers: (Object.entries(triggers) as [TriggerName, string][]).map(([name, text]) => ({
      name,
      text,
      schedule: new Schedule([text], 'UTC'),
    })),
    timeZone: 'UTC',
    jitterMs,
    timeoutMs: dayMs,
  }
}

function look(plan: JobPlan, record: JobRecord, nowMs: number) {
  const { due, record: next } = lookAtSchedules(plan, record, nowMs, 'one/backup')
  return { due: due.map(({ name }) => name), record: next }
}

describe('what is due', () => {
  const daily = planOf({ schedule: '0 2 * * *' })

  test('a job that was never seen begins with its next time', () => {
    const { due, record } = look(daily, newRecord, midnight + 5 * hourMs)
    assert.deepEqual(due, [])
    assert.equal(nextRun(daily, record, midnight + 5 * hourMs, 'x')?.atMs, midnight + dayMs + 2 * hourMs)
  })

  test('times that were missed count once, however many they are', () => {
    const { record } = look(daily, newRecord, midnight)
    const after = look(daily, record, midnight + 400 * dayMs)
    assert.deepEqual(after.due, ['schedule'])
    assert.deepEqual(look(daily, after.record, midnight + 400 * dayMs + hourMs).due, [])
    assert.deepEqual(look(daily, after.record, midnight + 400 * dayMs + 3 * hourMs).due, ['schedule'])
    const often = planOf({ schedule: '* * * * * *' })
    const year = look(often, look(often, newRecord, midnight).record, midnight + 365 * dayMs)
    assert.deepEqual(year.due, ['schedule'])
  })

  test('another schedule counts from when it is first seen', () => {
    const { record } = look(daily, newRecord, midnight)
    assert.deepEqual(look(planOf({ schedule: '0 1 * * *' }), record, midnight + dayMs).due, [])
  })

  test('a clock that was put back brings nothing twice, and stops nothing for ever', () => {
    const { record } = look(daily, newRecord, midnight + 10 * dayMs)
    const back = look(daily, record, midnight)
    assert.deepEqual(back.due, [])
    assert.deepEqual(look(daily, back.record, midnight + 3 * hourMs).due, ['schedule'])
  })

  test('a full backup makes up for a delta that is due as well', () => {
    const both = planOf({ full: '0 2 * * *', delta: '0 */6 * * *' })
    const { due } = look(both, look(both, newRecord, midnight).record, midnight + dayMs)
    assert.deepEqual(due, ['full', 'delta'])
    const runs = due.map((name) => ({ name, dueMs: 5 }))
    assert.equal(
      runs.reduce<ReturnType<typeof withDue> | undefined>((one, other) => withDue(one, other, 9), undefined)?.mode,
      'full',
    )
    assert.equal(
      runs
        .toReversed()
        .reduce<ReturnType<typeof withDue> | undefined>((one, other) => withDue(one, other, 9), undefined)?.mode,
      'full',
    )
  })

  test('with jitter, each time comes exactly once, at its moment, whenever one looks', () => {
    const plan = planOf({ schedule: '0 * * * *' }, 20 * 60_000)
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 1, max: 50 * 60_000 }), { maxLength: 100 }), (steps) => {
        let { record } = look(plan, newRecord, midnight)
        let nowMs = midnight
        let count = 0
        for (const step of steps) {
          nowMs += step
          const after = look(plan, record, nowMs)
          record = after.record
          count += after.due.length
        }
        let expected = 0
        for (let due = midnight + hourMs; due <= nowMs; due += hourMs) {
          if (due + jitterAt('one/backup', due, plan.jitterMs) <= nowMs) expected++
        }
        assert.equal(count, expected)
      }),
    )
  })
})

describe('what becomes of a run', () => {
  const run = { mode: 'delta', dueMs: 1, attempts: 0, notBeforeMs: 0 } as const

  test('server, store and machine may come back; what is wrong stays wrong', () => {
    for (const status of [3, 4, 7, 8, 9, 137, 143, undefined]) assert.ok(mayPass(status), String(status))
    assert.ok(mayPass(2, 'WALRX_KEY_UNAVAILABLE'))
    assert.ok(!mayPass(2, 'WALRX_USAGE'))
    for (const status of [0, 1, 2, 5, 6, 74, 126]) assert.ok(!mayPass(status), String(status))
  })

  test('the waits double from a minute to an hour', () => {
    let next: ReturnType<typeof afterFailure> = run
    const waits = Array.from({ length: 9 }, () => (next = afterFailure(next, 0, () => 1)).notBeforeMs / 60_000)
    assert.deepEqual(waits, [1, 2, 4, 8, 16, 32, 60, 60, 60])
    assert.equal(afterFailure(run, 0, () => 0).notBeforeMs, 30_000)
  })

  test('the trigger of a backup decides what it may be', () => {
    const { call } = planOf({})
    assert.deepEqual([...callFor(call, 'full').flags], [['full', 'true']])
    assert.equal(callFor(call, 'delta').environment['WALG_DELTA_MAX_STEPS'], '64')
    const own = { ...call, environment: { WALG_DELTA_MAX_STEPS: '6' } }
    assert.equal(callFor(own, 'delta').environment['WALG_DELTA_MAX_STEPS'], '6')
    assert.equal(callFor(call, 'schedule'), call)
  })
})
