import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { clockFinding } from '../../../src/check/clock-finding.ts'
import { connectionFindings } from '../../../src/check/server/connection-findings.ts'
import { parseShownBytes, type ServerFacts } from '../../../src/check/server/server-facts.ts'
import { settingFindings } from '../../../src/check/server/setting-findings.ts'
import { slotFindings } from '../../../src/check/server/slot-findings.ts'
import { parseSyncNames, syncFinding, withName } from '../../../src/check/server/sync-finding.ts'
import type { CheckWish } from '../../../src/check/check-wish.ts'
import { loginError } from '../../../src/postgres/protocol/server-error.ts'
import { parseLsn } from '../../../src/postgres/lsn.ts'
import type { SlotHealth } from '../../../src/postgres/connect/sql-connection.ts'
import { complaints, factsWith, levelOf, noFacts, type Spoilt, wishWith } from './made-facts.ts'

const nowMs = Date.parse('2026-03-01T12:00:00Z')
const all = (facts: ServerFacts, wish: CheckWish) => [
  ...connectionFindings(facts, wish, nowMs),
  ...settingFindings(facts, wish),
  syncFinding(facts.settings, wish),
  ...slotFindings(facts, wish),
]

test('a server that is as it should be raises no complaint', () => {
  assert.deepEqual(complaints(all(factsWith(), wishWith())), [])
})

test('a server that does not answer is one error, and everything else is skipped with a reason', () => {
  const findings = all(noFacts(), wishWith())
  assert.deepEqual(complaints(findings), ['server.connection error'])
  for (const { level, text } of findings) if (level === 'skipped') assert.notEqual(text, '')
})

const GiB = 1024 ** 3
const health: SlotHealth = {
  kind: 'physical',
  isActive: false,
  activePid: undefined,
  restartLsn: parseLsn('0/0'),
  walStatus: 'reserved',
  safeWalBytes: undefined,
  inactiveSince: undefined,
  invalidationReason: undefined,
  serverEnd: parseLsn('0/0'),
  idleTimeoutSeconds: undefined,
}

const one: readonly [string, Spoilt, Partial<CheckWish>, string][] = [
  ['wal_level', { settings: { wal_level: 'minimal' } }, {}, 'server.wal_level error'],
  ['no walsenders', { settings: { max_wal_senders: '0' } }, {}, 'server.max_wal_senders error'],
  ['one free walsender', { sql: { walsenders: 10 } }, {}, 'server.max_wal_senders warning'],
  ['all walsenders taken', { sql: { walsenders: 11 } }, {}, 'server.max_wal_senders error'],
  ['a time-out of 0', { settings: { wal_sender_timeout: '0' } }, {}, 'server.wal_sender_timeout warning'],
  ['a short time-out', { settings: { wal_sender_timeout: '900ms' } }, {}, 'server.wal_sender_timeout warning'],
  ['a statement_timeout', { settings: { statement_timeout: '5s' } }, {}, 'server.timeouts warning'],
  ['no summaries', { settings: { summarize_wal: 'off' } }, { deltaMaxSteps: 3 }, 'server.summarize_wal warning'],
  [
    'required deltas',
    { settings: { summarize_wal: 'off' } },
    { requireIncremental: true },
    'server.summarize_wal error',
  ],
  [
    'short summaries',
    { settings: { wal_summary_keep_time: '1h' } },
    { deltaMaxSteps: 3 },
    'server.summarize_wal warning',
  ],
  ['torn pages', { settings: { full_page_writes: 'off' } }, {}, 'server.full_page_writes warning'],
  ['no fsync', { settings: { fsync: 'off' } }, {}, 'server.fsync warning'],
  ['no checksums', { settings: { data_checksums: 'off' } }, {}, 'server.data_checksums note'],
  ['WAL kept for nobody', { settings: { archive_mode: 'on', archive_command: '' } }, {}, 'server.archive_mode warning'],
  [
    'two archivers',
    { settings: { archive_mode: 'on', archive_command: 'cp %p /a/%f' } },
    {},
    'server.archive_mode note',
  ],
  ['commits wait', { settings: { synchronous_standby_names: 'ANY 1 (s1, "WALRX")' } }, {}, 'server.synchronous error'],
  ['no commit waits', {}, { isSynchronous: true }, 'server.synchronous warning'],
  [
    'commits wait for ever',
    { settings: { synchronous_standby_names: '*', synchronous_commit: 'remote_apply' } },
    { isSynchronous: true },
    'server.synchronous error',
  ],
  ['a standby', { session: { inRecovery: true } }, {}, 'server.standby error'],
  ['no TLS', { session: { isEncrypted: false } }, {}, 'server.tls note'],
  ['a password that ends', { sql: { validUntilMs: nowMs + 3600_000 } }, {}, 'server.role warning'],
  ['no pg_monitor', { sql: { seesEverything: false } }, {}, 'server.privileges note'],
  ['no free slot', { sql: { slots: 10 } }, {}, 'slot.free error'],
  ['a logical slot', { sql: { slot: { ...health, kind: 'logical' } } }, {}, 'slot.state error'],
  ['a lost slot', { sql: { slot: { ...health, walStatus: 'lost', restartLsn: undefined } } }, {}, 'slot.state error'],
  ['an idle slot', { sql: { slot: { ...health, invalidationReason: 'idle_timeout' } } }, {}, 'slot.state error'],
  ['an unreserved slot', { sql: { slot: { ...health, walStatus: 'unreserved' } } }, {}, 'slot.state error'],
  ['a late slot', { sql: { slot: { ...health, serverEnd: parseLsn('5/0') } } }, {}, 'slot.lag warning'],
  [
    'a slot over its limit',
    { sql: { slot: { ...health, serverEnd: parseLsn('0/1000') } } },
    { maxSlotLagBytes: 1024 },
    'slot.lag warning',
  ],
  ['no room in the slot', { settings: { max_slot_wal_keep_size: '16MB' } }, {}, 'slot.limit error'],
  ['little room in the slot', { settings: { max_slot_wal_keep_size: '512MB' } }, {}, 'slot.limit warning'],
  ['a slot without a limit', { settings: { max_slot_wal_keep_size: '-1' } }, {}, 'slot.limit note'],
  ['a slot that times out', { settings: { idle_replication_slot_timeout: '1h' } }, {}, 'slot.idle_timeout warning'],
  ['no WAL is kept', {}, { slot: undefined }, 'slot.wal_keep_size warning'],
]

describe('one thing that is wrong is one finding, with a step that mends it', () => {
  for (const [what, spoilt, options, expected] of one) {
    test(what, () => {
      const findings = all(factsWith(spoilt), wishWith(options))
      assert.deepEqual(complaints(findings), [expected])
      for (const { id, level, steps } of findings) {
        if (level !== 'ok' && level !== 'skipped') assert.notDeepEqual(steps, [], id)
        if (level === 'ok') assert.deepEqual(steps, [], id)
      }
    })
  }
})

test('the walsender of a receiver that runs is not asked for again', () => {
  const slotUser = { pid: 1, applicationName: 'walrx', role: 'walrx', address: '10.0.0.1' }
  const facts = factsWith({ settings: { max_wal_senders: '2' }, sql: { walsenders: 2, slot: health, slotUser } })
  assert.deepEqual(complaints(all(facts, wishWith())), [])
})

test('a disk that is smaller than the limit of the slot is warned of, and half of it is advised', () => {
  const disk = { path: '/pgdata', freeBytes: 10 * GiB, totalBytes: 100 * GiB, device: 1 }
  const findings = slotFindings(factsWith({}, { disk }), wishWith())
  const limit = findings.find(({ id }) => id === 'slot.limit')
  assert.equal(limit?.level, 'warning')
  assert.equal(limit?.steps[0]?.text, "ALTER SYSTEM SET max_slot_wal_keep_size = '5GB';")
  assert.equal(
    levelOf(
      slotFindings(
        factsWith({ settings: { max_slot_wal_keep_size: '-1' } }),
        wishWith({ dropsSlot: true, maxSlotLagBytes: GiB }),
      ),
      'slot.limit',
    ),
    'ok',
  )
})

test('synchronous_standby_names is read as the server reads it', () => {
  assert.equal(parseSyncNames(''), undefined)
  assert.deepEqual(parseSyncNames('a, B'), { method: 'FIRST', count: 1, names: ['a', 'b'] })
  assert.deepEqual(parseSyncNames('2 (a, "B c")'), { method: 'FIRST', count: 2, names: ['a', 'B c'] })
  assert.deepEqual(parseSyncNames('any 1 (a,"x""y",*)'), { method: 'ANY', count: 1, names: ['a', 'x"y', '*'] })
  for (const before of ['', 's1', 'FIRST 2 (s1, s2)', 'ANY 1 (s1)']) {
    assert.ok(parseSyncNames(withName(before, 'My app'))?.names.includes('My app'), before)
  }
  assert.equal(withName('', 'walrx'), 'walrx')
  assert.equal(withName('s1, "s 2"', 'walrx'), 'FIRST 2 (walrx, s1, "s 2")')
  assert.equal(withName('first 2 (s1, s2, s3)', 'walrx'), 'FIRST 3 (walrx, s1, s2, s3)')
  assert.equal(withName('ANY 1 (s1)', 'walrx'), 'ANY 1 (s1, walrx)')
})

test('a list with which a commit need not wait for walrx is noted', () => {
  const level = (names: string) =>
    syncFinding(new Map([['synchronous_standby_names', names]]), wishWith({ isSynchronous: true })).level
  for (const names of ['a, walrx', 'FIRST 1 (a, walrx)', 'ANY 1 (walrx, a)', 'ANY 1 (*)']) {
    assert.equal(level(names), 'note', names)
  }
  for (const names of ['walrx', 'FIRST 2 (a, walrx)', 'walrx, a', 'ANY 2 (walrx, a)', '*']) {
    assert.equal(level(names), 'ok', names)
  }
})

test('sizes are read as SHOW writes them', () => {
  assert.deepEqual(['-1', '0', '1MB', '2GB', '8kB', 'none', undefined].map(parseShownBytes), [
    ...[-1, 0, 1024 ** 2, 2 * GiB, 8192, undefined, undefined],
  ])
})

test('clocks that differ by more than the reading may be wrong are warned of', () => {
  const finding = (aheadMs: number, errorMs: number) =>
    clockFinding('server.clock', 'the server', { aheadMs, errorMs }, '')
  assert.equal(finding(-4_000, 500).level, 'ok')
  assert.equal(finding(9_000, 5_000).level, 'ok')
  assert.match(finding(9_000, 10).text, /^the clock of the server is 9\.0 s ahead of this machine's/)
  assert.match(finding(-60_000, 10).text, /60\.0 s slower than/)
  assert.equal(clockFinding('server.clock', 'the server', undefined, 'why').level, 'skipped')
})

test('the line for pg_hba.conf can be pasted, whatever the role is called', () => {
  const user = `o'Brien "x\\`
  const attempt = { host: 'db1:5432', user, database: 'replication', clientAddress: '10.0.0.9', encrypted: true }
  const error = loginError({ C: '28000', M: 'no entry' }, { ...attempt, passwordHint: '' })
  const wish = wishWith()
  const facts = factsWith({}, { session: { error } })
  const [step] = connectionFindings(facts, { ...wish, conninfo: { ...wish.conninfo, user } }, nowMs)
    .flatMap(({ steps }) => steps)
    .filter(({ run }) => run === 'server')
  // The name in double quotes for the file, then as one word of a shell, with sed's own backslash.
  assert.match(
    step?.text ?? '',
    /^sed -i '1i hostssl replication "o'\\''Brien ""x\\\\" 10\.0\.0\.9\/32 scram-sha-256' /,
  )
})

test('where deltas are required of a server without them, the flag that is named lifts that', () => {
  const { settings, ...facts } = factsWith()
  const known = new Map([...settings].filter(([name]) => name !== 'summarize_wal'))
  const texts = (more: Partial<CheckWish>) =>
    settingFindings({ ...facts, settings: known }, wishWith(more))
      .filter(({ id }) => id === 'server.summarize_wal')
      .flatMap(({ steps, text }) => [/: ([^:]+)$/.exec(text)?.[1], ...steps.map((step) => step.text)])
  assert.deepEqual(texts({ requireIncremental: true }), ['every backup fails', '--no-require-incremental'])
  assert.deepEqual(texts({ deltaMaxSteps: 3 }), ['every backup is a full one', '--delta-max-steps=0'])
})
