/** Pieces that their reader frees are the same bytes as the stream's, whenever they are freed. */
import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { setImmediate as turn } from 'node:timers/promises'
import { describe, test } from 'node:test'
import { brotliCodec } from '../../src/compression/brotli.ts'
import { lzmaCodec } from '../../src/compression/lzma.ts'
import { zstdCodec } from '../../src/compression/zstd/zstd.ts'
import { hasCode } from '../../src/primitives/errors.ts'
import {
  chunksOf,
  decodeStream,
  encodeStream,
  runTool,
  walLikeBytes,
  zstdFrames,
} from '../harness/made/codec-streams.ts'

const seed = Number(process.env['WALRX_TEST_SEED'] ?? Date.now() % 1_000_000)

async function* pieces(bytes: Buffer, length: number): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += length) {
    await turn()
    yield bytes.subarray(at, at + length)
  }
}

for (const codec of [zstdCodec(), brotliCodec(), lzmaCodec]) {
  describe(`pieces of ${codec.method} (seed ${seed})`, () => {
    const original = walLikeBytes(seed, 20 * 1024 * 1024)

    test('are the content, freed at once, late, or never', async () => {
      const encoded = await encodeStream(codec, chunksOf(original, 1_000_000))
      for (const late of [0, 1, 3, Infinity]) {
        const hash = createHash('sha256')
        const waiting: (() => void)[] = []
        for await (const { bytes, free } of codec.decodePieces!(pieces(encoded, 100_000))) {
          await turn()
          hash.update(bytes)
          waiting.push(free)
          if (waiting.length > late) waiting.shift()?.()
        }
        assert.equal(hash.digest('hex'), createHash('sha256').update(original).digest('hex'))
      }
    })

    const { encodePieces } = codec
    const skip = encodePieces ? false : 'is encoded as a stream only'

    test('are one frame when they are encoded, of chunks that are used again', { skip }, async () => {
      const memory = Buffer.alloc(100_000)
      async function* reused(): AsyncGenerator<Uint8Array> {
        for await (const chunk of pieces(original, memory.length)) {
          memory.set(chunk)
          yield memory.subarray(0, chunk.length)
          memory.fill(0)
        }
      }
      const encoded: Buffer[] = []
      const freed: Uint8Array[] = []
      for await (const { bytes, free } of encodePieces!(reused())) {
        encoded.push(Buffer.from(bytes))
        free()
        freed.push(bytes)
      }
      assert.ok(
        freed.every(({ length }) => length === 0),
        'memory that is not needed any more was kept',
      )
      assert.ok((await decodeStream(codec, encoded)).equals(original))
      const frame = Buffer.concat(encoded)
      if (codec.method === 'zstd') assert.equal(zstdFrames(frame).length, 1)
      const byTool = runTool(codec.method, ['-dc'], frame)
      if (byTool) assert.ok(byTool.equals(original))
    })

    test('that are encoded hand on what their source throws', { skip }, async () => {
      async function* source(): AsyncGenerator<Uint8Array> {
        await turn()
        throw new Error('the server is out')
      }
      const read = async () => {
        for await (const { free } of encodePieces!(source())) free()
      }
      await assert.rejects(read(), /the server is out/)
    })

    test('end with an error where the object is cut or something follows', async () => {
      const encoded = await encodeStream(codec, [original.subarray(0, 3_000_000)])
      for (const wrong of [
        encoded.subarray(0, -1),
        encoded.subarray(0, 10),
        // lzma's reader takes some bytes ahead, and does not say which ones it needed.
        Buffer.concat([encoded, codec === lzmaCodec ? Buffer.alloc(1024 * 1024) : Buffer.from('x')]),
      ]) {
        const read = async () => {
          for await (const { free } of codec.decodePieces!(pieces(wrong, 10_000))) free()
        }
        await assert.rejects(read(), (error) => hasCode(error, 'WALRX_OBJECT_DAMAGED'))
      }
    })

    test('hand on what their source throws', async () => {
      async function* source(): AsyncGenerator<Uint8Array> {
        await turn()
        throw new Error('the store is out')
      }
      const read = async () => {
        for await (const { free } of codec.decodePieces!(source())) free()
      }
      await assert.rejects(read(), /the store is out/)
    })
  })
}
