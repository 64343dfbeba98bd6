import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import fc from 'fast-check'
import { encodeSlack } from '../../src/walg/stored/stored-form.ts'
import { defaultMemoryBytes, planMemory } from '../../src/receive/memory-budget.ts'

const MiB = 1024 * 1024
const anySegmentSize = fc.integer({ min: 20, max: 30 }).map((power) => 2 ** power)

describe('the memory budget', () => {
  test('is never exceeded, and leaves at least two buffers', () => {
    fc.assert(
      fc.property(anySegmentSize, fc.double({ min: 2, max: 100, noNaN: true }), (segmentSize, segments) => {
        const memoryBytes = Math.floor(segments * segmentSize)
        const { buffers, compactedBytesMax } = planMemory(memoryBytes, segmentSize, 0)
        assert.ok(Number.isInteger(buffers) && buffers >= 2)
        assert.ok(compactedBytesMax >= 0)
        assert.ok(buffers * segmentSize + compactedBytesMax <= memoryBytes)
        const all = buffers * (segmentSize + encodeSlack(segmentSize)) + compactedBytesMax + 10 * MiB
        assert.ok(compactedBytesMax === 0 || all === memoryBytes, 'slack and encoders are counted')
      }),
    )
  })

  test('of exactly two segments has two buffers and no room for copies, at every segment size', () => {
    for (let segmentSize = MiB; segmentSize <= 1024 * MiB; segmentSize *= 2) {
      assert.deepEqual(planMemory(2 * segmentSize, segmentSize, 0), { buffers: 2, compactedBytesMax: 0 })
    }
  })

  test('by default is 64 MB, or four segments where they are large', () => {
    assert.equal(defaultMemoryBytes(16 * MiB), 64 * MiB)
    assert.equal(defaultMemoryBytes(MiB), 64 * MiB)
    assert.equal(defaultMemoryBytes(64 * MiB), 256 * MiB)
    assert.deepEqual(planMemory(64 * MiB, 16 * MiB, 0), {
      buffers: 3,
      compactedBytesMax: 6 * MiB - 3 * encodeSlack(16 * MiB),
    })
  })

  test('below two segments is refused, naming both numbers and what to give', () => {
    assert.throws(() => planMemory(32 * MiB - 1, 16 * MiB, 0), {
      code: 'WALRX_USAGE',
      message: /33554431.*16777216/,
      hint: /33554432.*67108864/,
    })
  })
})
