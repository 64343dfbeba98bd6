import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { XxHash32, xxHash32 } from '../../../src/compression/lz4/xxhash32.ts'

test('the published checksums come out', () => {
  // From the test vectors of the xxHash specification and its Go and Python ports.
  const vectors: [string, number][] = [
    ['', 0x02cc5d05],
    ['a', 0x550d7456],
    ['as', 0x9d5a0464],
    ['asd', 0x3d83552b],
    ['asdf', 0x5e702c32],
    ['abc', 0x32d153ff],
    ['Call me Ishmael. Some years ago--never mind how long precisely-', 0x6f320359],
    ['Nobody inspects the spammish repetition', 0xe2293b2f],
  ]
  for (const [text, checksum] of vectors) assert.equal(xxHash32(Buffer.from(text)), checksum, text)
})

test('number, alignment and length of the chunks do not change the checksum', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), fc.array(fc.nat(40)), fc.nat(7), (bytes, cuts, shift) => {
      const shifted = new Uint8Array(bytes.length + shift).subarray(shift)
      shifted.set(bytes)
      const running = new XxHash32()
      let at = 0
      for (const cut of cuts) {
        running.update(shifted.subarray(at, at + cut))
        at = Math.min(shifted.length, at + cut)
      }
      running.update(shifted.subarray(at))
      assert.equal(running.digest(), xxHash32(Buffer.from(bytes)))
    }),
  )
})
