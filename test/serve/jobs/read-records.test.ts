import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { newRecord } from '../../../src/serve/jobs/job-record.ts'
import { parseRecords } from '../../../src/serve/jobs/read-records.ts'

const whole = {
  schedules: { full: '@daily (UTC)' },
  handledMs: { full: 5 },
  pending: { mode: 'full', dueMs: 1, attempts: 2, notBeforeMs: 3 },
  running: { mode: 'asked', dueMs: 1, startedMs: 2, attempts: 0, pid: 4711, processStart: '99' },
  last: { mode: 'delta', startedMs: 1, endedMs: 2, outcome: 'failed', status: 3, error: 'it broke' },
  lastSuccessMs: 7,
}
const fileOf = (jobs: unknown) => JSON.stringify({ version: 1, jobs })

test('what was written is read', () => {
  assert.deepEqual(parseRecords(fileOf({ backup: whole })), { backup: whole })
  const empty = parseRecords(fileOf({ scrub: newRecord, unknown: 7 }))
  assert.deepEqual(JSON.parse(JSON.stringify(empty)), { scrub: newRecord })
})

test('a state with any field of another shape is none', () => {
  const texts = [
    '{"version":1,"jobs":{"retention":{"pending":{"mode":"schedule"}}}}',
    fileOf({ backup: { ...whole, schedules: null } }),
    fileOf({ backup: null }),
    fileOf([]).replace('[]', 'null'),
    '[]',
    'null',
    '{"version":2,"jobs":{}}',
    fileOf({ backup: { ...whole, lastSuccessMs: 1e300 } }),
    fileOf({ backup: { ...whole, running: { ...whole.running, pid: -1 } } }),
  ]
  for (const text of texts) assert.equal(parseRecords(text), undefined, text)
})

test('whatever is in the place of a field, it is read as it should be, or not at all', () => {
  const paths = Object.entries(whole).flatMap(([key, value]) =>
    typeof value === 'object' ? [[key], ...Object.keys(value).map((inner) => [key, inner])] : [[key]],
  )
  fc.assert(
    fc.property(fc.constantFrom(...paths), fc.jsonValue(), ([key, inner], value) => {
      const record = structuredClone(whole) as Record<string, unknown>
      if (inner === undefined) record[key as string] = value
      else (record[key as string] as Record<string, unknown>)[inner] = value
      const backup = parseRecords(fileOf({ backup: record }))?.backup
      if (!backup) return
      for (const at of [backup.pending?.dueMs, backup.last?.endedMs, backup.lastSuccessMs])
        if (at !== undefined) new Date(at).toISOString()
      for (const text of Object.values(backup.schedules)) assert.equal(typeof text, 'string')
    }),
  )
})
