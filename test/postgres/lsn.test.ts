import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import fc from 'fast-check'
import {
  addBytes,
  bytesBetween,
  formatLsn,
  invalidLsn,
  type Lsn,
  maxLsn,
  minLsn,
  parseLsn,
  segmentNumber,
  segmentOffset,
  segmentStart,
  toLsn,
} from '../../src/postgres/lsn.ts'
import { hasCode } from '../../src/primitives/errors.ts'

const anyLsn = fc.bigInt({ min: 0n, max: 0xffffffffffffffffn }).map((value) => value as Lsn)
const anySegmentSize = fc.integer({ min: 20, max: 30 }).map((power) => 2 ** power)

describe('parseLsn and formatLsn', () => {
  test("write and read PostgreSQL's own form", () => {
    assert.equal(formatLsn(parseLsn('16/B374D848')), '16/B374D848')
    assert.equal(parseLsn('16/B374D848'), 0x16b374d848n)
    assert.equal(formatLsn(parseLsn('00000016/0374d848')), '16/374D848')
    assert.equal(formatLsn(parseLsn('ab/cdef')), 'AB/CDEF')
    assert.equal(formatLsn(invalidLsn), '0/0')
    assert.equal(parseLsn('FFFFFFFF/FFFFFFFF'), 0xffffffffffffffffn)
  })

  test('are each the inverse of the other for all 64 bits', () => {
    fc.assert(fc.property(anyLsn, (lsn) => assert.equal(parseLsn(formatLsn(lsn)), lsn)))
  })

  test('refuse everything that is no LSN', () => {
    for (const text of [
      '',
      '/',
      '0',
      '0/',
      '/0',
      '0x1/2',
      '1/2/3',
      '123456789/0',
      '0/123456789',
      ' 0/0',
      '0/0\n',
      'g/0',
      '-1/0',
    ]) {
      assert.throws(
        () => parseLsn(text),
        (error) => hasCode(error, 'WALRX_USAGE') && error.hint !== undefined,
        text,
      )
    }
  })

  test('random text is refused or is an LSN that prints as the same position', () => {
    fc.assert(
      fc.property(fc.stringMatching(/^[0-9a-fA-F/]{0,18}$/), (text) => {
        try {
          assert.equal(parseLsn(formatLsn(parseLsn(text))), parseLsn(text))
        } catch (error) {
          assert.ok(hasCode(error, 'WALRX_USAGE'))
        }
      }),
    )
  })
})

describe('arithmetic', () => {
  test('a position splits into segment start and offset, for every segment size', () => {
    fc.assert(
      fc.property(anyLsn, anySegmentSize, (lsn, size) => {
        const start = segmentStart(lsn, size)
        assert.equal(start % BigInt(size), 0n)
        assert.equal(addBytes(start, segmentOffset(lsn, size)), lsn)
        assert.equal(segmentNumber(lsn, size) * BigInt(size), start)
        assert.ok(segmentOffset(lsn, size) >= 0 && segmentOffset(lsn, size) < size)
      }),
    )
  })

  test('a position on a boundary begins the next segment', () => {
    const size = 16 * 1024 * 1024
    const boundary = parseLsn('0/2000000')
    assert.equal(segmentNumber(boundary, size), 2n)
    assert.equal(segmentNumber((boundary - 1n) as Lsn, size), 1n)
    assert.equal(segmentOffset(boundary, size), 0)
  })

  test('beyond 64 bits there is nothing', () => {
    assert.throws(() => toLsn(-1n), { code: 'WALRX_INTERNAL' })
    assert.throws(() => addBytes(toLsn(0xffffffffffffffffn), 1), { code: 'WALRX_INTERNAL' })
    assert.equal(addBytes(toLsn(0xfffffffffffffffen), 1n), 0xffffffffffffffffn)
  })

  test('distance, minimum and maximum agree about the order', () => {
    fc.assert(
      fc.property(anyLsn, fc.integer({ min: 0, max: 2 ** 40 }), (lsn, bytes) => {
        fc.pre(lsn + BigInt(bytes) <= 0xffffffffffffffffn)
        const later = addBytes(lsn, bytes)
        assert.equal(bytesBetween(lsn, later), bytes)
        assert.equal(bytesBetween(later, lsn), 0 - bytes)
        assert.equal(minLsn(lsn, later), lsn)
        assert.equal(maxLsn(lsn, later), later)
      }),
    )
  })
})
