import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { compareStreams } from '../../../src/walg/stored/compare-streams.ts'
import { chunksOf } from '../../harness/made/codec-streams.ts'

async function* asyncChunks(bytes: Uint8Array, lengths: readonly number[]): AsyncGenerator<Uint8Array, undefined> {
  for (const chunk of chunksOf(bytes, ...lengths)) {
    await Promise.resolve()
    yield chunk
  }
}

test('two streams compare by their bytes, however they are cut into chunks', async () => {
  const bytes = fc.array(fc.constantFrom(0, 1), { maxLength: 40 }).map((array) => Uint8Array.from(array))
  const lengths = fc.array(fc.nat(7), { minLength: 1, maxLength: 4 }).map((array) => [...array, 3])
  await fc.assert(
    fc.asyncProperty(bytes, bytes, lengths, lengths, async (left, right, leftCuts, rightCuts) => {
      const result = await compareStreams(asyncChunks(left, leftCuts), asyncChunks(right, rightCuts))
      const isEqual = Buffer.compare(left, right) === 0
      let offset = 0
      while (offset < Math.min(left.length, right.length) && left[offset] === right[offset]) offset++
      assert.deepEqual(result, { equal: isEqual, offset, leftBytes: left.length, rightBytes: right.length })
    }),
  )
})

test('when one stream breaks, its error comes out and the other is freed', async () => {
  let isFreed = false
  async function* endless() {
    try {
      for (;;) yield Buffer.alloc(10)
    } finally {
      isFreed = true
    }
  }
  async function* breaking() {
    yield Buffer.alloc(25)
    await Promise.resolve()
    throw new Error('broken')
  }
  await assert.rejects(compareStreams(endless(), breaking()), /broken/)
  assert.equal(isFreed, true)
})
