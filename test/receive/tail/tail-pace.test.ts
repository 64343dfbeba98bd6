/** How far apart the puts of a tail are. */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { spacingOfPuts } from '../../../src/receive/tail/tail-pace.ts'

const synchronous = { isSynchronous: true, intervalMs: 1000, bytesMax: 65536 }

describe('puts begin', () => {
  test('by interval, whatever one takes', () => {
    for (const putMs of [0, 3, 5000]) assert.equal(spacingOfPuts({ ...synchronous, isSynchronous: false }, putMs), 1000)
  })

  test('at once while nothing is known of the store', () => {
    assert.equal(spacingOfPuts(synchronous, 0), 0)
  })

  test('half of one apart with a quick store, so that two are under way', () => {
    assert.equal(spacingOfPuts(synchronous, 3), 1.5)
    assert.equal(spacingOfPuts(synchronous, 16), 8)
  })

  test('8 ms apart, then a quarter of one, the slower the store is', () => {
    assert.equal(spacingOfPuts(synchronous, 20), 8)
    assert.equal(spacingOfPuts(synchronous, 32), 8)
    assert.equal(spacingOfPuts(synchronous, 100), 25)
  })
})
