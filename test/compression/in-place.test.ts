import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createZstdCompress } from 'node:zlib'
import fc from 'fast-check'
import { compressInPlace, PrefixWriter } from '../../src/compression/in-place.ts'
import { hasCode } from '../../src/primitives/errors.ts'
import { randomBytesOf } from '../harness/codec-streams.ts'

test('output never touches input that has not been consumed, and comes out whole', () => {
  const steps = fc.array(fc.record({ consume: fc.nat(60), outputs: fc.array(fc.nat(50), { maxLength: 4 }) }), {
    maxLength: 30,
  })
  fc.assert(
    fc.property(steps, fc.nat(300), (plan, slack) => {
      const inputLength = plan.reduce((sum, step) => sum + step.consume, 0)
      const buffer = Buffer.alloc(inputLength + slack, 0xff)
      const writer = new PrefixWriter(buffer)
      const expected: number[] = []
      let consumed = 0
      for (const { consume, outputs } of plan) {
        for (const length of outputs) {
          const output = Buffer.alloc(length, expected.length % 250)
          expected.push(...output)
          writer.write(output)
          output.fill(0xfe) // the caller may reuse it at once
          assert.ok(buffer.subarray(consumed).every((byte) => byte === 0xff))
        }
        consumed += consume
        writer.consume(consumed)
        assert.ok(buffer.subarray(consumed).every((byte) => byte === 0xff))
      }
      if (expected.length > buffer.length) {
        assert.throws(
          () => writer.finish(),
          (error) => hasCode(error, 'WALRX_INTERNAL'),
        )
        return
      }
      assert.equal(writer.finish(), expected.length)
      assert.deepEqual([...buffer.subarray(0, expected.length)], expected)
    }),
    { numRuns: 500 },
  )
})

test('a buffer without room for what does not compress is an error, not an overrun', async () => {
  const data = randomBytesOf(3, 5 * 1024 * 1024)
  await assert.rejects(compressInPlace(createZstdCompress(), data, data.length), (error) =>
    hasCode(error, 'WALRX_INTERNAL'),
  )
})

test('an error of the compressor comes out, and the compressor is closed', async () => {
  const compressor = createZstdCompress({ pledgedSrcSize: 10 })
  const buffer = Buffer.alloc(1000)
  await assert.rejects(compressInPlace(compressor, buffer, 500), /Src size/)
  assert.equal(compressor.destroyed, true)
})

test('the pieces being compressed are never overwritten, whatever the ratio', async () => {
  // Alternating blocks that compress not at all and to nothing make the output run ahead and fall back.
  for (const seed of [1, 2, 3, 4]) {
    const data = Buffer.alloc(9 * 1024 * 1024 + seed)
    for (let at = 0, n = 0; at < data.length; n++) {
      const length = 100_000 * ((n * seed) % 23) + 1
      if (n % 2 === 0) randomBytesOf(n, Math.min(length, data.length - at)).copy(data, at)
      at += length
    }
    const buffer = Buffer.alloc(data.length + 1024 * 1024)
    data.copy(buffer)
    const length = await compressInPlace(createZstdCompress(), buffer, data.length)
    const { zstdDecompressSync } = await import('node:zlib')
    assert.ok(zstdDecompressSync(buffer.subarray(0, length)).equals(data), `seed ${seed}`)
  }
})
