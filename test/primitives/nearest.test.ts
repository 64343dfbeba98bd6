import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import fc from 'fast-check'
import { editDistance, nearest } from '../../src/primitives/nearest.ts'

describe('editDistance', () => {
  test('counts changes, insertions, removals and swaps', () => {
    assert.equal(editDistance('', 'abc'), 3)
    assert.equal(editDistance('kitten', 'sitting'), 3)
    assert.equal(editDistance('recieve', 'receive'), 1)
    assert.equal(editDistance('abc', 'abc'), 0)
  })

  test('is the same both ways, and zero only for equal words', () => {
    fc.assert(
      fc.property(fc.string({ maxLength: 12 }), fc.string({ maxLength: 12 }), (a, b) => {
        assert.equal(editDistance(a, b), editDistance(b, a))
        assert.equal(editDistance(a, b) === 0, a === b)
        assert.ok(editDistance(a, b) <= Math.max(a.length, b.length))
      }),
    )
  })
})

describe('nearest', () => {
  test('finds the word that was meant', () => {
    assert.equal(nearest('wal-recieve', ['wal-receive', 'wal-fetch', 'wal-show']), 'wal-receive')
    assert.equal(nearest('WALG_S3_PREFX', ['WALG_S3_PREFIX', 'WALG_GS_PREFIX']), 'WALG_S3_PREFIX')
  })

  test('suggests nothing for a word that is like none', () => {
    assert.equal(nearest('backup', ['wal-receive', 'wal-fetch']), undefined)
    assert.equal(nearest('x', []), undefined)
  })
})
