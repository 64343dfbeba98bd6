import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { formatBackupTime, parseBackupTime } from '../../../src/walg/backup/backup-time.ts'

test('a time has as many digits as it needs, six at most, the last one rounded up', () => {
  assert.equal(formatBackupTime(Date.UTC(2025, 5, 1, 10, 0, 4)), '2025-06-01T10:00:04Z')
  assert.equal(formatBackupTime(Date.UTC(2025, 5, 1, 10, 0, 4, 500)), '2025-06-01T10:00:04.5Z')
  assert.equal(formatBackupTime(Date.UTC(2025, 5, 1, 10, 0, 4, 7)), '2025-06-01T10:00:04.007Z')
  assert.equal(formatBackupTime(Date.UTC(2025, 5, 1, 10) + 123.4565), '2025-06-01T10:00:00.123457Z')
  assert.equal(formatBackupTime(Date.UTC(2025, 11, 31, 23, 59, 59, 999) + 0.9999), '2026-01-01T00:00:00Z')
})

test('what is written is read back exactly', () => {
  fc.assert(
    fc.property(fc.integer({ min: 0, max: 4_102_444_800_000 }), (epochMs) => {
      assert.equal(parseBackupTime(formatBackupTime(epochMs)), BigInt(epochMs) * 1_000_000n)
    }),
  )
})

test('nanoseconds and zones are understood', () => {
  const noon = BigInt(Date.UTC(2026, 10, 20, 12)) * 1_000_000n
  assert.equal(parseBackupTime('2026-11-20T12:00:00.135515020Z'), noon + 135_515_020n)
  assert.equal(parseBackupTime('2026-11-20T14:30:00+02:30'), noon)
  assert.equal(parseBackupTime('2026-11-20T07:00:00.5-05:00'), noon + 500_000_000n)
  assert.equal(parseBackupTime('0001-01-01T00:00:00Z'), -62_135_596_800_000_000_000n)
})

test('what is no time is none', () => {
  for (const text of ['', 'now', '2026-11-20', '2026-11-20T12:00:00', '2026-13-20T12:00:00Z', '2026-11-20 12:00:00Z'])
    assert.equal(parseBackupTime(text), undefined, text)
})
