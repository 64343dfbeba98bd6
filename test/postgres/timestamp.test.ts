import assert from 'node:assert/strict'
import { test } from 'node:test'
import { hasCode, type WalrxError } from '../../src/primitives/errors.ts'
import { formatRfc3339, formatTimestamp, parseTimestamp } from '../../src/postgres/timestamp.ts'

test('the epoch is PostgreSQL’s, and microseconds survive', () => {
  assert.equal(parseTimestamp('2000-01-01 00:00:00Z'), 0n)
  assert.equal(parseTimestamp('2026-03-01T11:00:00.123456Z') % 1_000_000n, 123456n)
  assert.equal(parseTimestamp('1999-12-31 23:59:59.999999+00'), -1n)
  for (const time of [0n, -1n, 1n, 825_678_900_123_456n, 825_678_900_120_000n]) {
    assert.equal(parseTimestamp(formatTimestamp(time)), time)
  }
  assert.equal(formatTimestamp(-1n), '1999-12-31 23:59:59.999999+00')
  assert.equal(formatRfc3339(-1n), '1999-12-31T23:59:59.999999Z')
  assert.equal(formatRfc3339(0n), '2000-01-01T00:00:00Z')
})

test('one time may be written in many ways', () => {
  const moment = parseTimestamp('2026-03-01 11:00:00Z')
  for (const text of [
    '2026-03-01 12:00:00+01',
    '2026-03-01T12:00:00+01:00',
    '2026-03-01 12:00+0100',
    '2026-03-01 11:00:00 UTC',
    '2026-03-01 11:00:00 gmt',
    '2026-03-01 05:30:00-05:30',
    ' 2026-03-01 11:00:00.0000000z ',
    '2026-03-01 10:59:59.9999995Z',
  ]) {
    assert.equal(parseTimestamp(text), moment, text)
  }
})

const refused = (text: string, hint: RegExp) => {
  assert.throws(
    () => parseTimestamp(text),
    (error) => hasCode(error, 'WALRX_USAGE') && hint.test((error as WalrxError).hint ?? ''),
    text,
  )
}

test('a time without a zone is refused, with the same time in one', () => {
  refused('2026-03-01 12:00:00', /2026-03-01 12:00:00Z is UTC/)
})

test('an invalid or ambiguous time is refused', () => {
  for (const text of [
    'now',
    'yesterday',
    '',
    '2026-03-01',
    '03/01/2026 12:00:00Z',
    '2026-03-01 12:00:00 CET',
    '2026-03-01 12:00:00 Europe/Berlin',
    '2026-03-01 12:00:00 UTC+2',
    '2026-02-30 12:00:00Z',
    '2026-13-01 12:00:00Z',
    '2026-03-01 25:00:00Z',
    '2026-03-01 12:60:00Z',
    '2026-03-01 12:00:00+16',
    '2026-03-01 12:00:00+01:60',
  ]) {
    refused(text, /write it like/)
  }
})
