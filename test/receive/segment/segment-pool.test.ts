import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import fc from 'fast-check'
import { encodeSlack } from '../../../src/walg/stored/stored-form.ts'
import { SegmentPool } from '../../../src/receive/segment/segment-pool.ts'

describe('SegmentPool', () => {
  test('lends a buffer to one only, and never more than its capacity', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 5 }), fc.array(fc.boolean(), { maxLength: 60 }), (capacity, steps) => {
        const pool = new SegmentPool(1024, capacity)
        const lent: Buffer[] = []
        const everSeen = new Set<Buffer>()
        for (const shouldTake of steps) {
          if (shouldTake) {
            const buffer = pool.take()
            assert.equal(buffer === undefined, lent.length === capacity)
            if (!buffer) continue
            assert.ok(!lent.includes(buffer), 'lent twice')
            lent.push(buffer)
            everSeen.add(buffer)
          } else {
            const buffer = lent.shift()
            if (buffer) pool.give(buffer)
          }
          assert.equal(pool.free, capacity - lent.length)
        }
        assert.ok(everSeen.size <= capacity, 'buffers are made once')
      }),
    )
  })

  test('a buffer has room for a segment and what a codec may add', () => {
    assert.equal(new SegmentPool(65_536, 1).take()?.length, 65_536 + encodeSlack(65_536))
  })

  test('a buffer that is not lent cannot be given back, nor one twice', () => {
    const pool = new SegmentPool(1024, 2)
    const buffer = pool.take()
    assert.ok(buffer)
    pool.give(buffer)
    assert.throws(() => pool.give(buffer), /is not lent/)
    assert.throws(() => pool.give(Buffer.alloc(1024)), /is not lent/)
  })

  test('the listener is called once the buffer can be taken', () => {
    const pool = new SegmentPool(1024, 1)
    const buffer = pool.take()
    assert.ok(buffer)
    const free: number[] = []
    pool.onFree(() => free.push(pool.free))
    pool.give(buffer)
    assert.deepEqual(free, [1])
  })
})
