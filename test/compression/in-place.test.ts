import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createZstdCompress } from 'node:zlib'
import fc from 'fast-check'
import { compressInPlace, outputChunkBytes, PrefixWriter } from '../../src/compression/in-place.ts'
import { hasCode } from '../../src/primitives/errors.ts'
import { randomBytesOf, walLikeBytes } from '../harness/made/codec-streams.ts'

test('output never touches input that has not been consumed, is given back once it is placed, and comes out whole', () => {
  const step = fc.record({
    consume: fc.nat(60),
    isInput: fc.boolean(),
    outputs: fc.array(fc.nat(50), { maxLength: 4 }),
  })
  fc.assert(
    fc.property(fc.array(step, { maxLength: 30 }), fc.nat(300), (plan, slack) => {
      const inputLength = plan.reduce((sum, { consume }) => sum + consume, 0)
      const buffer = Buffer.alloc(inputLength + slack)
      for (let at = 0; at < buffer.length; at++) buffer[at] = 100 + ((at * 7) % 150)
      const input = Buffer.from(buffer)
      const writer = new PrefixWriter(buffer)
      const expected: number[] = []
      let consumed = 0
      let waiting = 0
      const isInputIntact = () => buffer.subarray(consumed, inputLength).equals(input.subarray(consumed, inputLength))
      for (const { consume, isInput, outputs } of plan) {
        for (const length of outputs) {
          const output = Buffer.alloc(length, expected.length % 100)
          expected.push(...output)
          waiting++
          writer.write(output, () => {
            waiting--
            output.fill(0xfe) // it may be used for something else from here on
          })
          assert.ok(isInputIntact())
        }
        if (isInput) {
          expected.push(...input.subarray(consumed, consumed + consume))
          writer.writeInput(consumed, consumed + consume)
        } else {
          writer.consume(consumed + consume)
        }
        consumed += consume
        assert.ok(isInputIntact())
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
      assert.equal(waiting, 0)
    }),
    { numRuns: 2000 },
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

test('the blocks being compressed are never overwritten, at any ratio', async () => {
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
    const length = await compressInPlace(createZstdCompress({ chunkSize: outputChunkBytes }), buffer, data.length)
    const { zstdDecompressSync } = await import('node:zlib')
    assert.ok(zstdDecompressSync(buffer.subarray(0, length)).equals(data), `seed ${seed}`)
  }
})

test('output buffers are freed without a collection, also where nothing compresses', async () => {
  const data = [randomBytesOf(1, 4 * 1024 * 1024), walLikeBytes(2, 4 * 1024 * 1024)]
  const buffer = Buffer.alloc(5 * 1024 * 1024)
  const before = process.memoryUsage().arrayBuffers
  let most = 0
  for (let n = 0; n < 60; n++) {
    const segment = data[n % 2] ?? buffer
    segment.copy(buffer)
    await compressInPlace(createZstdCompress({ chunkSize: outputChunkBytes }), buffer, segment.length)
    most = Math.max(most, process.memoryUsage().arrayBuffers - before)
  }
  assert.ok(most < 8 * 1024 * 1024, `${most} bytes were left for the collector`)
})
