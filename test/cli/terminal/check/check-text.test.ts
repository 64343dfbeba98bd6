import assert from 'node:assert/strict'
import { test } from 'node:test'
import {
  failure,
  type Finding,
  note,
  ok,
  onServer,
  setting,
  skipped,
  sql,
  warning,
  words,
} from '../../../../src/check/finding.ts'
import { checkStatus, monitoringStatus } from '../../../../src/check/verdict.ts'
import { checkToJson } from '../../../../src/cli/terminal/check/check-json.ts'
import { checkText } from '../../../../src/cli/terminal/check/check-text.ts'

const good = ok('server.version', 'db1:5432 is PostgreSQL 17.2')
const worth = note('server.tls', 'it is not encrypted', words('use TLS'))
const risky = warning('server.fsync', 'fsync is off, and must be on', sql("ALTER SYSTEM SET fsync = 'on';"))
const broken = failure('slot.free', 3, 'of 1, 1 is in use', onServer('pg_ctl restart -D /data'), setting('--slotless'))
const unknown = [skipped('slot.lag', 'nobody knows'), skipped('slot.use', 'nobody knows')]
const all: Finding[] = [good, worth, risky, broken, ...unknown]

test('findings stand under their groups, with what mends them, and what was skipped by its reason', () => {
  assert.equal(
    checkText(all, false),
    `Server
  ok       server.version: db1:5432 is PostgreSQL 17.2
  note     server.tls: it is not encrypted
             do: use TLS
  warning  server.fsync: fsync is off, and must be on
             SQL: ALTER SYSTEM SET fsync = 'on';

Slot
  error    slot.free: of 1, 1 is in use
             on the server: pg_ctl restart -D /data
             in the call: --slotless
  skipped  slot.lag, slot.use: nobody knows

1 error, 1 warning, 1 note, 1 ok, 2 skipped
`,
  )
  assert.match(checkText(all, true), /\x1b\[31merror {2}\x1b\[0m {2}slot\.free/)
})

test('the exit status is that of the first error, or a plugin’s', () => {
  const later = failure('storage.put', 4, 'denied')
  assert.deepEqual([[good, worth, risky], [broken, later], [later]].map(checkStatus), [0, 3, 4])
  assert.deepEqual(
    [
      [good, worth],
      [good, risky],
      [risky, broken],
    ].map(monitoringStatus),
    [0, 1, 2],
  )
})

test('the JSON has every finding, and the status', () => {
  assert.deepEqual(checkToJson([broken], 3), {
    exit_status: 3,
    counts: { ok: 0, note: 0, warning: 0, error: 1, skipped: 0 },
    findings: [
      {
        id: 'slot.free',
        group: 'Slot',
        level: 'error',
        text: 'of 1, 1 is in use',
        remedy: [
          { run: 'server', text: 'pg_ctl restart -D /data' },
          { run: 'setting', text: '--slotless' },
        ],
      },
    ],
  })
})
