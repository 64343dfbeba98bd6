import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { describe, test } from 'node:test'
import fc from 'fast-check'
import type { ReadMethod, WriteMethod } from '../../src/compression/codec.ts'
import {
  codecOfExtension,
  extensions,
  methodOfExtension,
  openReadCodec,
  openWriteCodec,
} from '../../src/compression/codecs.ts'
import { hasCode } from '../../src/primitives/errors.ts'
import {
  chunksOf,
  decodeStream,
  encodeCopy,
  encodeStream,
  randomBytesOf,
  walLikeBytes,
} from '../harness/made/codec-streams.ts'

const writeMethods: readonly WriteMethod[] = ['zstd', 'lz4', 'brotli', 'lzma', 'none']
const codecsUrl = new URL('../../src/compression/codecs.ts', import.meta.url).href
const mebi = 1024 * 1024
const kinds = {
  zero: (n: number) => Buffer.alloc(n),
  random: (n: number) => randomBytesOf(n, n),
  wal: (n: number) => walLikeBytes(n, n),
}

async function assertRoundTrip(method: WriteMethod, data: Buffer, ...chunkLengths: number[]): Promise<void> {
  const codec = openWriteCodec(method)
  const inPlace = await encodeCopy(codec, data)
  const streamed = await encodeStream(codec, chunksOf(data, ...chunkLengths))
  for (const encoded of [inPlace, streamed]) {
    const decoded = await decodeStream(openReadCodec(method), chunksOf(encoded, ...chunkLengths))
    // Buffers of this size are compared by hand: a failing deepEqual would print megabytes.
    assert.ok(decoded.equals(data), `${method}: ${data.length} bytes came back as ${decoded.length} others`)
  }
}

for (const method of writeMethods) {
  describe(method, () => {
    for (const size of [0, 1, 100, 8191, 8192, 8193, mebi - 1, mebi, mebi + 1, 2 * mebi]) {
      test(`${size} bytes come back whole, in place and as a stream`, async () => {
        for (const make of Object.values(kinds)) await assertRoundTrip(method, make(size), 64 * 1024)
      })
    }

    test('segments of 16 and 64 MiB come back whole', async () => {
      const mixed = Buffer.concat([walLikeBytes(1, 34 * mebi), randomBytesOf(2, 20 * mebi), Buffer.alloc(10 * mebi)])
      const all = [Buffer.alloc(16 * mebi), randomBytesOf(3, 16 * mebi), mixed]
      // lzma takes seconds for what does not compress.
      for (const data of method === 'lzma' ? [Buffer.alloc(64 * mebi), walLikeBytes(1, 16 * mebi)] : all) {
        const encoded = await encodeCopy(openWriteCodec(method), data)
        assert.ok((await decodeStream(openReadCodec(method), [encoded])).equals(data))
      }
    })

    test('any bytes in any chunks come back whole', async () => {
      const piece = fc.oneof(
        fc.uint8Array({ maxLength: 300 }),
        fc
          .record({ byte: fc.nat(255), times: fc.nat(5000) })
          .map(({ byte, times }) => new Uint8Array(times).fill(byte)),
      )
      const bytes = fc.array(piece, { maxLength: 20 }).map((pieces) => Buffer.concat(pieces))
      const lengths = fc.array(fc.integer({ min: 1, max: 4000 }), { minLength: 1, maxLength: 5 })
      await fc.assert(
        fc.asyncProperty(bytes, lengths, (data, chunkLengths) => assertRoundTrip(method, data, ...chunkLengths)),
        { numRuns: 40 },
      )
    })

    test('segments compressed side by side do not mix', async () => {
      const codec = openWriteCodec(method)
      const all = [1, 2, 3, 4, 5].map((seed) => walLikeBytes(seed, 3 * mebi))
      const encoded = await Promise.all(all.map((data) => encodeCopy(codec, data)))
      for (const [n, data] of all.entries()) {
        assert.ok((await decodeStream(codec, [encoded[n] ?? Buffer.alloc(0)])).equals(data))
      }
    })

    test('a segment in the middle of a larger buffer leaves its neighbours alone', async () => {
      const data = randomBytesOf(7, 3 * mebi)
      const whole = Buffer.alloc(5 * mebi, 0x5a)
      data.copy(whole, mebi)
      const view = whole.subarray(mebi, 4 * mebi + 100_000)
      await openWriteCodec(method).encodeInPlace(view, data.length)
      assert.ok(whole.subarray(0, mebi).every((byte) => byte === 0x5a))
      assert.ok(whole.subarray(4 * mebi + 100_000).every((byte) => byte === 0x5a))
    })
  })
}

test('methods and extensions belong together', () => {
  for (const [method, extension] of Object.entries(extensions)) {
    assert.equal(methodOfExtension(extension), method)
    assert.equal(codecOfExtension(extension, 'x').method, method)
    assert.equal(openReadCodec(method as ReadMethod).extension, extension)
  }
})

test('an extension that cannot be read is named together with the object', () => {
  for (const extension of ['lzo', 'xz', 'snappy', '__proto__', 'constructor']) {
    assert.throws(
      () => codecOfExtension(extension, 'wal_005/000000010000000000000001'),
      (error) =>
        hasCode(error, 'WALRX_CODEC_UNSUPPORTED') &&
        error.message.includes('wal_005/000000010000000000000001') &&
        error.message.includes(`.${extension}`),
    )
  }
})

test('WAL-G level names and numbers choose the level, and what a codec lacks is refused', async () => {
  const data = walLikeBytes(3, mebi)
  const size = async (level: Parameters<typeof openWriteCodec>[1]) =>
    (await encodeCopy(openWriteCodec('zstd', level), data)).length
  assert.equal(await size({ level: 'better' }), await size({ level: 7 }))
  assert.equal(await size({ level: 'best' }), await size({ level: 11 }))
  assert.equal(await size({ level: 'default' }), await size({ level: 3 }))
  assert.equal(await size({ level: 'fastest' }), await size({}))
  assert.notEqual(await size({ level: 7 }), await size({ level: 1 }))
  const wrong: [WriteMethod, unknown][] = [
    ['zstd', 23],
    ['zstd', 0],
    ['zstd', 1.5],
    ['zstd', 'toString'],
    ['brotli', 12],
    ['brotli', 'fastest'],
    ['lz4', 1],
    ['lzma', 1],
    ['none', 1],
  ]
  for (const [method, level] of wrong) {
    assert.throws(
      () => openWriteCodec(method, { level: level as number }),
      (error) => hasCode(error, 'WALRX_USAGE') && error.message.includes(String(level)),
      `${method} ${String(level)}`,
    )
  }
})

test('opening every codec loads no native module', () => {
  const script = `
    import { extensions, openReadCodec, openWriteCodec } from ${JSON.stringify(codecsUrl)}
    for (const method of Object.keys(extensions)) openReadCodec(method).decoder()
    for (const method of ['zstd', 'lz4', 'brotli', 'lzma', 'none']) openWriteCodec(method).encoder()
    console.log(JSON.stringify(process.report.getReport().sharedObjects.filter((path) => path.endsWith('.node'))))
  `
  const output = execFileSync(process.execPath, ['--input-type=module', '-e', script], { encoding: 'utf8' })
  assert.deepEqual(JSON.parse(output), [])
})
