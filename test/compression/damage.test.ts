import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { describe, test } from 'node:test'
import { gzipSync } from 'node:zlib'
import type { ReadMethod, WriteMethod } from '../../src/compression/codec.ts'
import { extensions, openReadCodec, openWriteCodec } from '../../src/compression/codecs.ts'
import { hasCode } from '../../src/primitives/errors.ts'
import { chunksOf, decodeStream, encodeCopy, randomBytesOf, walLikeBytes } from '../harness/made/codec-streams.ts'
import { Random } from '../harness/random.ts'

const golden = (name: string) => readFile(new URL(`../golden/codecs/${name}`, import.meta.url))

/** SHA-256 of what every file in golden/codecs decodes to, 303,000 bytes. */
const goldenSha256 = '69db7ae2f92a48fb21c51e7c5b590df22d2c8837f2a92e22b9c6bf8c926a8851'

const isDamaged = (error: unknown) => hasCode(error, 'WALRX_OBJECT_DAMAGED')
const isRefused = (error: unknown) => isDamaged(error) || hasCode(error, 'WALRX_CODEC_UNSUPPORTED')

/** Methods with a checksum of the content in their format. */
const checkedMethods: ReadonlySet<ReadMethod> = new Set(['zstd', 'lz4', 'gzip'])

async function objectOf(method: ReadMethod, data: Buffer): Promise<Buffer> {
  if (method === 'gzip') return gzipSync(data)
  return Buffer.from(await encodeCopy(openWriteCodec(method), data))
}

for (const [file, method, unmarked] of [
  ['frame.zst', 'zstd', []],
  ['linked-64k-block-checksums.lz4', 'lz4', []],
  ['linked-256k-no-checksums.lz4', 'lz4', []],
  // A frame of 100,000 bytes, a skippable one of eleven, and one more frame.
  ['three-frames.lz4', 'lz4', [11047, 11058]],
  // Nothing marks the end of the legacy format: its magic alone is an empty object.
  ['legacy.lz4', 'lz4', [4]],
  ['alone.lzma', 'lzma', []],
  ['sized.lzma', 'lzma', []],
  // Where the header says the size, the marker after the content is not needed.
  ['sized-with-marker.lzma', 'lzma', [21013, 21014, 21015, 21016, 21017, 21018]],
  ['two-members.gz', 'gzip', []],
] as const) {
  test(`${file}, written by another program, decodes in chunks of any size`, async () => {
    const object = await golden(file)
    for (const length of [5, 4096, object.length]) {
      const decoded = await decodeStream(openReadCodec(method), chunksOf(object, length))
      assert.equal(createHash('sha256').update(decoded).digest('hex'), goldenSha256)
    }
  })

  test(`${file} cut anywhere is damaged`, async () => {
    const object = await golden(file)
    const random = new Random(object.length)
    const cuts = [0, 1, 3, 4, 5, 8, 13, object.length - 1, object.length - 2, object.length - 4, object.length - 8]
    for (let n = 0; n < 25; n++) cuts.push(random.int(0, object.length - 1))
    for (const cut of cuts.filter((at) => !(unmarked as readonly number[]).includes(at))) {
      await assert.rejects(
        decodeStream(openReadCodec(method), chunksOf(object.subarray(0, cut), 5000)),
        isDamaged,
        `at ${cut}`,
      )
    }
  })
}

for (const method of ['zstd', 'lz4', 'brotli', 'lzma', 'gzip'] as const) {
  describe(method, () => {
    test('a small object cut at any byte is damaged, however it arrives', async () => {
      for (const data of [
        Buffer.alloc(0),
        Buffer.from('1\t0/3000000\tno recovery target specified\n'),
        walLikeBytes(1, 3000),
      ]) {
        const object = await objectOf(method, data)
        for (let cut = 0; cut < object.length; cut++) {
          const length = cut % 2 === 0 ? 7 : object.length
          const decoding = decodeStream(openReadCodec(method), chunksOf(object.subarray(0, cut), length))
          await assert.rejects(decoding, isDamaged, `${data.length} bytes cut at ${cut} of ${object.length}`)
        }
      }
    })

    test('a segment cut near its borders is damaged', async () => {
      const object = await objectOf(method, walLikeBytes(2, 3 * 1024 * 1024))
      for (const cut of [1, 65_535, 65_536, 65_537, object.length >> 1, object.length - 5, object.length - 1]) {
        await assert.rejects(decodeStream(openReadCodec(method), chunksOf(object.subarray(0, cut), 65_536)), isDamaged)
      }
    })

    const isExact = method !== 'lzma'
    test(`any ${isExact ? 'byte' : 'megabyte'} after the end is damage, however it arrives`, async () => {
      for (const data of [Buffer.alloc(0), Buffer.from('tiny'), walLikeBytes(3, 700_000)]) {
        const object = await objectOf(method, data)
        const short = isExact ? [Buffer.alloc(1), Buffer.alloc(100), Buffer.from('x'), randomBytesOf(1, 300_000)] : []
        for (const tail of [...short, randomBytesOf(2, 1024 * 1024)]) {
          const whole = Buffer.concat([object, tail])
          for (const lengths of [[whole.length], [object.length, tail.length], [object.length + 1, 1000], [1000]]) {
            const decoding = decodeStream(openReadCodec(method), chunksOf(whole, ...lengths))
            await assert.rejects(decoding, isDamaged, `${object.length}+${tail.length} in chunks of ${lengths.join()}`)
          }
        }
      }
    })

    test('a flipped bit is never taken for other content where the format has a checksum', async () => {
      const random = new Random(20_251_121)
      for (const data of [walLikeBytes(4, 2000), Buffer.concat([walLikeBytes(5, 300_000), randomBytesOf(6, 50_000)])]) {
        const object = await objectOf(method, data)
        for (let n = 0; n < 100; n++) {
          const bit = random.int(0, object.length * 8 - 1)
          const flipped = Buffer.from(object)
          flipped.writeUInt8(flipped.readUInt8(bit >> 3) ^ (1 << (bit & 7)), bit >> 3)
          try {
            const decoded = await decodeStream(openReadCodec(method), [flipped])
            if (checkedMethods.has(method)) assert.ok(decoded.equals(data), `bit ${bit} of ${object.length} bytes`)
          } catch (error) {
            if (!isRefused(error)) throw error
          }
        }
      }
    })

    test('noise is no object', async () => {
      for (let seed = 0; seed < 30; seed++) {
        await assert.rejects(decodeStream(openReadCodec(method), [randomBytesOf(seed, 5000)]), isRefused)
      }
    })
  })
}

test('lzma ends where its header says, and shows bytes after the end where they are more than its reader takes ahead', async () => {
  const content = await decodeStream(openReadCodec('lzma'), [await golden('alone.lzma')])
  for (const file of ['alone.lzma', 'sized.lzma', 'sized-with-marker.lzma']) {
    const object = await golden(file)
    const followed = [object, randomBytesOf(1, 1024 * 1024)]
    await assert.rejects(decodeStream(openReadCodec('lzma'), followed), isDamaged, file)
    assert.ok((await decodeStream(openReadCodec('lzma'), [object, Buffer.from('x')])).equals(content), file)
  }
  for (const size of [0n, 1n, 302_999n, 303_000n]) {
    const sized = Buffer.from(await golden('alone.lzma'))
    sized.writeBigUInt64LE(size, 5)
    // A size within a match is noticed.
    const decoded = await decodeStream(openReadCodec('lzma'), [sized]).catch((error: unknown) => {
      if (size === 303_000n || !isDamaged(error)) throw error
      return content.subarray(0, Number(size))
    })
    assert.ok(decoded.equals(content.subarray(0, Number(size))), `${size} bytes`)
  }
  const short = Buffer.from(await golden('sized.lzma'))
  for (const size of [303_001n, 2n ** 40n, 2n ** 63n, 2n ** 64n - 1n]) {
    short.writeBigUInt64LE(size, 5)
    await assert.rejects(decodeStream(openReadCodec('lzma'), [short]), isDamaged, `${size} bytes`)
  }
})

test('an object of another codec is damaged, for every pair', async () => {
  const methods = Object.keys(extensions).filter((method) => method !== 'none') as WriteMethod[]
  for (const written of methods) {
    const object = await objectOf(written, walLikeBytes(8, 100_000))
    for (const read of methods) {
      if (read !== written)
        await assert.rejects(decodeStream(openReadCodec(read), [object]), isRefused, `${written} as ${read}`)
    }
  }
})
