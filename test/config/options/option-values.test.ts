import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import fc from 'fast-check'
import {
  formatBytes,
  formatDurationMs,
  parseBoolean,
  parseBytes,
  parseDurationMs,
  parseOptionText,
} from '../../../src/config/options/option-values.ts'

describe('sizes', () => {
  test('are powers of 1024, in any common spelling', () => {
    for (const text of ['64MB', '64mb', '64MiB', '64M', '64 MB', '65536kB', '67108864', '67108864B', '0.0625GB']) {
      assert.equal(parseBytes(text), 67108864, text)
    }
  })

  test('that are none are refused', () => {
    for (const text of ['', 'MB', '-1MB', '64XB', '64MBs', '1e9', '0x40', '0.3B', '99999999TB', 'NaN']) {
      assert.equal(parseBytes(text), undefined, text)
    }
  })

  test('are read back as they were written', () => {
    fc.assert(fc.property(fc.nat({ max: 2 ** 46 }), (bytes) => assert.equal(parseBytes(formatBytes(bytes)), bytes)))
  })
})

describe('durations', () => {
  test('are numbers with units, also several', () => {
    const pairs = {
      '15s': 15_000,
      '500ms': 500,
      '1m': 60_000,
      '1min': 60_000,
      '1m30s': 90_000,
      '1.5h': 5_400_000,
      '0': 0,
    }
    for (const [text, ms] of Object.entries(pairs)) assert.equal(parseDurationMs(text), ms, text)
  })

  test('without a unit are refused, because nobody knows which was meant', () => {
    for (const text of ['15', '', 's', '-1s', '1 s', '15s ago', '1y'])
      assert.equal(parseDurationMs(text), undefined, text)
  })

  test('are read back as they were written', () => {
    fc.assert(fc.property(fc.nat({ max: 2 ** 40 }), (ms) => assert.equal(parseDurationMs(formatDurationMs(ms)), ms)))
  })
})

test('booleans are what Go and PostgreSQL take for them', () => {
  for (const text of ['true', 'T', '1', 'yes', 'on', 'TRUE']) assert.equal(parseBoolean(text), true, text)
  for (const text of ['false', 'f', '0', 'no', 'OFF']) assert.equal(parseBoolean(text), false, text)
  for (const text of ['', '2', 'truthy', 'y e s']) assert.equal(parseBoolean(text), undefined, text)
})

describe('parseOptionText', () => {
  const problem = (type: Parameters<typeof parseOptionText>[0], text: string) => {
    const parsed = parseOptionText(type, text)
    assert.ok('problem' in parsed, `${text} was accepted`)
    return parsed.problem
  }

  test('names the range that a number must be in', () => {
    assert.equal(problem({ kind: 'integer', min: 1, max: 1000 }, '0'), 'must be a whole number from 1 to 1000')
    assert.equal(problem({ kind: 'integer', min: 1, max: 1000 }, '1.5'), 'must be a whole number from 1 to 1000')
    assert.equal(
      problem({ kind: 'bytes', min: 2 * 1024 ** 2, max: 1024 ** 3 }, '1MB'),
      'must be a size like 64MB from 2MB to 1GB',
    )
    assert.equal(
      problem({ kind: 'duration', minMs: 0, maxMs: 60_000 }, '15'),
      'must be a duration like 15s from 0 to 1m',
    )
    assert.deepEqual(parseOptionText({ kind: 'integer', min: 1, max: 1000 }, ' 1000 '), { value: 1000 })
  })

  test('takes choices in any case and by their synonyms', () => {
    const type = { kind: 'choice', values: ['info', 'debug'], synonyms: { DEVEL: 'debug' } } as const
    assert.deepEqual(parseOptionText(type, 'INFO'), { value: 'info' })
    assert.deepEqual(parseOptionText(type, 'devel'), { value: 'debug' })
    assert.equal(problem(type, 'verbose'), 'must be one of info, debug')
  })

  test('reads positions as PostgreSQL writes them', () => {
    assert.deepEqual(parseOptionText({ kind: 'lsn' }, '16/B374D848'), { value: 0x16b374d848n })
    assert.equal(problem({ kind: 'lsn' }, '16B374D848'), 'must be an LSN like 16/B374D848')
  })
})
