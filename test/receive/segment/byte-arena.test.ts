import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import fc from 'fast-check'
import { ByteArena } from '../../../src/receive/segment/byte-arena.ts'

/** Tiny ranges too: a gap of one byte is a gap. */
const anyLength = fc.oneof(fc.integer({ min: 0, max: 2 }), fc.integer({ min: 0, max: 80 }))

describe('ByteArena', () => {
  test('whatever is lent stays as it was stored, and never more than there is', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 0, max: 200 }),
        fc.array(fc.tuple(anyLength, fc.boolean(), fc.nat()), { maxLength: 80 }),
        (size, steps) => {
          const arena = new ByteArena(size)
          const lent: { range: Buffer; copy: Buffer }[] = []
          let fill = 0
          for (const [length, shouldRelease, which] of steps) {
            if (shouldRelease && lent.length > 0) {
              const [given] = lent.splice(which % lent.length, 1)
              if (given) arena.release(given.range)
            } else {
              const bytes = Buffer.alloc(length, ++fill & 0xff)
              const range = arena.store(bytes)
              if (range) lent.push({ range, copy: bytes })
            }
            for (const { range, copy } of lent) assert.ok(range.equals(copy), 'another range wrote into this one')
            const used = lent.reduce((sum, { range }) => sum + range.length, 0)
            assert.equal(arena.used, used)
            assert.ok(used <= size)
          }
          for (const { range } of lent) arena.release(range)
          assert.equal(arena.used, 0)
          if (size > 0) assert.ok(arena.store(Buffer.alloc(size)), 'what came back is one range again')
        },
      ),
    )
  })

  test('uses the first gap that is long enough, and none that is not', () => {
    const arena = new ByteArena(30)
    const [a, b, c] = [1, 2, 3].map((fill) => arena.store(Buffer.alloc(10, fill)))
    assert.ok(a && b && c)
    assert.equal(arena.store(Buffer.alloc(1)), undefined, 'full')
    arena.release(b)
    assert.equal(arena.store(Buffer.alloc(11)), undefined)
    assert.ok(arena.store(Buffer.alloc(10, 9)))
    assert.deepEqual([a[0], c[9]], [1, 3])
  })

  test('joins only what touches: a single lent byte keeps its neighbours apart', () => {
    const arena = new ByteArena(3)
    const [a, b, c] = [1, 2, 3].map((fill) => arena.store(Buffer.alloc(1, fill)))
    assert.ok(a && b && c)
    arena.release(a)
    arena.release(c)
    assert.equal(arena.store(Buffer.alloc(2, 9)), undefined)
    assert.equal(b[0], 2)
    arena.release(b)
    assert.ok(arena.store(Buffer.alloc(3, 9)))
  })

  test('an arena of nothing lends nothing', () => {
    assert.equal(new ByteArena(0).store(Buffer.alloc(1)), undefined)
    assert.equal(new ByteArena(10).store(Buffer.alloc(0)), undefined)
  })

  test('a range that is not lent cannot be released, nor one twice', () => {
    const arena = new ByteArena(10)
    const range = arena.store(Buffer.from('abc'))
    assert.ok(range)
    arena.release(range)
    assert.throws(() => arena.release(range), /is not lent/)
    assert.throws(() => arena.release(Buffer.alloc(3)), /is not lent/)
  })
})
