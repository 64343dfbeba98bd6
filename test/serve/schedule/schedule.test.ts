import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import fc from 'fast-check'
import { jitterAt, Schedule, scheduleProblem, timeZoneProblem } from '../../../src/serve/schedule/schedule.ts'

/** The times after one, up to another. */
function timesBetween(schedule: Schedule, from: string, to: string): string[] {
  const times: string[] = []
  for (let at = schedule.next(Date.parse(from)); at !== undefined && at <= Date.parse(to); at = schedule.next(at)) {
    times.push(new Date(at).toISOString().slice(0, 16))
  }
  return times
}

describe('a schedule where the clocks change', () => {
  test('a time that does not exist comes once, right after the gap', () => {
    const times = timesBetween(new Schedule(['30 2 * * *'], 'Europe/Zurich'), '2026-03-28T00:00Z', '2026-03-30T23:00Z')
    assert.deepEqual(times, ['2026-03-28T01:30', '2026-03-29T01:00', '2026-03-30T00:30'])
  })

  test('a time that comes twice counts once', () => {
    const times = timesBetween(new Schedule(['30 2 * * *'], 'Europe/Zurich'), '2026-10-24T00:00Z', '2026-10-26T23:00Z')
    assert.deepEqual(times, ['2026-10-24T00:30', '2026-10-25T00:30', '2026-10-26T01:30'])
  })

  test('every day of a year has one run, in every zone', () => {
    for (const zone of ['Europe/Zurich', 'America/St_Johns', 'Australia/Lord_Howe', 'America/Santiago', 'UTC']) {
      for (const pattern of ['30 0 * * *', '30 2 * * *']) {
        const times = timesBetween(new Schedule([pattern], zone), '2026-01-01T12:00Z', '2026-12-31T12:00Z')
        assert.ok(Math.abs(times.length - 364) <= 1, `${zone} ${pattern}: ${times.length}`)
      }
    }
  })

  test('an interval goes on through both', () => {
    const times = timesBetween(
      new Schedule(['*/30 * * * *'], 'Europe/Zurich'),
      '2026-10-24T22:00Z',
      '2026-10-25T04:00Z',
    )
    assert.equal(times.length, 12)
  })
})

test('several patterns are due whenever one is', () => {
  const schedule = new Schedule(['0 2 * * *', '0 14 * * *', '0 2 * * sun'], 'UTC')
  const times = timesBetween(schedule, '2026-05-02T00:00Z', '2026-05-03T23:00Z')
  assert.deepEqual(times, ['2026-05-02T02:00', '2026-05-02T14:00', '2026-05-03T02:00', '2026-05-03T14:00'])
})

test('what is no schedule, and what is', () => {
  for (const good of ['* * * * *', '@daily', '0 0 2 * * *', '0 2 L * *', ' 0 2 * * mon-fri ', '0 0 29 2 *']) {
    assert.equal(scheduleProblem(good), undefined, good)
  }
  for (const bad of [
    '',
    '*',
    '* * *',
    '60 * * * *',
    '* * 0 * *',
    'daily',
    '@reboot',
    '0 0 30 2 *',
    '0 2 * * * * 2020',
    '2020-01-01',
  ]) {
    assert.match(scheduleProblem(bad) ?? '', /^(must be|is a schedule)/, bad)
  }
  fc.assert(fc.property(fc.string(), (text) => typeof (scheduleProblem(text) ?? '') === 'string'))
  assert.equal(timeZoneProblem('Europe/Zurich'), undefined)
  assert.match(timeZoneProblem('Europe/Zurch') ?? '', /^must be/)
})

test('jitter is below its bound, the same every time, and spread', () => {
  fc.assert(
    fc.property(fc.string(), fc.nat(), fc.integer({ min: 1, max: 86_400_000 }), (what, due, bound) => {
      const jitter = jitterAt(what, due, bound)
      assert.ok(jitter >= 0 && jitter < bound && Number.isInteger(jitter))
      assert.equal(jitterAt(what, due, bound), jitter)
    }),
  )
  const buckets = new Array<number>(10).fill(0)
  for (let index = 0; index < 1000; index++) buckets[Math.floor(jitterAt(`c${index}/backup`, 1e12, 1000) / 100)]!++
  assert.ok(Math.min(...buckets) > 50, buckets.join(' '))
  assert.equal(jitterAt('x', 1, 0), 0)
})
