import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { test } from 'node:test'
import { encryptSlack } from '../../../src/crypto/crypter.ts'
import { recipientBytesMax } from '../../../src/crypto/openpgp/message-head.ts'
import { encryptMessage, encryptMessageInPlace } from '../../../src/crypto/openpgp/message-writer.ts'
import { sessionCiphers } from '../../../src/crypto/openpgp/session-cipher.ts'
import { bytesOf, sourceOf } from '../../harness/made/openpgp-keys.ts'

/** A session key for as many recipients as an object may have. */
function mostSealed(): Parameters<typeof encryptMessage>[1] {
  const cipher = sessionCiphers.aes256
  assert.ok(cipher)
  return { cipher, key: randomBytes(cipher.keyBytes), packets: Buffer.alloc(recipientBytesMax) }
}

test('an object to as many recipients as there may be fits into its buffer', async () => {
  for (const length of [0, 1, 8191, 8192, 131_072, 131_073, 500_000]) {
    const buffer = Buffer.alloc(length + encryptSlack(length))
    const bytes = await encryptMessageInPlace(buffer, length, mostSealed())
    assert.ok(bytes <= buffer.length, `${bytes} bytes in ${buffer.length}`)
    assert.ok(bytes > length + recipientBytesMax)
  }
})

test('memory stays flat, and the event loop runs, while a stream of half a gigabyte is encrypted', async () => {
  const chunk = randomBytes(1 << 20)
  const chunkCount = 512
  const used = () => process.memoryUsage().arrayBuffers
  let turns = 0
  let immediate = setImmediate(function turn() {
    turns++
    immediate = setImmediate(turn)
  })
  async function* content(): AsyncGenerator<Uint8Array, undefined> {
    for (let n = 0; n < chunkCount; n++) {
      await Promise.resolve()
      yield chunk
    }
  }
  const before = used()
  let peak = 0
  let bytes = 0
  for await (const part of encryptMessage(content(), mostSealed())) {
    bytes += part.length
    peak = Math.max(peak, used())
  }
  clearImmediate(immediate)
  assert.ok(bytes > chunkCount * chunk.length)
  assert.ok(peak - before < 96 << 20, `${(peak - before) >> 20} MiB`)
  assert.ok(turns >= chunkCount * 4, `${turns} turns of the event loop`)
  assert.equal(
    (await bytesOf(encryptMessage(sourceOf(Buffer.alloc(0)), mostSealed()))).length > recipientBytesMax,
    true,
  )
})
