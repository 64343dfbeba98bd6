import assert from 'node:assert/strict'
import { test } from 'node:test'
import { constants, createZstdCompress, zstdCompressSync } from 'node:zlib'
import { openReadCodec, openWriteCodec } from '../../../src/compression/codecs.ts'
import { compressInPlace, outputChunkBytes, pieceBytes } from '../../../src/compression/in-place.ts'
import { hasCode } from '../../../src/primitives/errors.ts'
import {
  chunksOf,
  decodeStream,
  encodeCopy,
  encodeStream,
  randomBytesOf,
  runTool,
  walLikeBytes,
  zstdFrames,
} from '../../harness/made/codec-streams.ts'

const zstd = openReadCodec('zstd')
const mebi = 1024 * 1024
const skippable = (content: string, magic = 0x184d2a50) => {
  const frame = Buffer.alloc(8 + content.length)
  frame.writeUInt32LE(magic, 0)
  frame.writeUInt32LE(content.length, 4)
  frame.write(content, 8)
  return frame
}

/**
 * Random bytes with a zstd frame that is exactly `frameBytes` long, with a content size in it (four bytes) or without.
 */
function dataOfFrameLength(frameBytes: number, contentSizeBytes: 0 | 4): Buffer {
  // Stored blocks: 3 bytes for each 128 KiB, and magic, descriptor, window and checksum.
  for (let length = frameBytes - 200; length < frameBytes; length++) {
    const blocks = Math.ceil(length / (128 * 1024))
    if (length + 3 * blocks + 4 + 1 + 1 + contentSizeBytes + 4 === frameBytes) return randomBytesOf(length, length)
  }
  throw new Error(`no data has a frame of ${frameBytes} bytes`)
}

test('Node appends an empty second frame where the first one fills its output buffer, which is why ours is cut', async () => {
  const data = dataOfFrameLength(2 * outputChunkBytes, 4)
  const options = {
    chunkSize: outputChunkBytes,
    pledgedSrcSize: data.length,
    params: {
      [constants.ZSTD_c_checksumFlag]: 1,
      [constants.ZSTD_c_compressionLevel]: 1,
      [constants.ZSTD_c_windowLog]: 18,
    },
  }
  const buffer = Buffer.alloc(data.length + mebi)
  data.copy(buffer)
  const length = await compressInPlace(createZstdCompress(options), buffer, data.length)
  // If this fails, Node has mended it: good, and the cutting may go.
  assert.equal(zstdFrames(buffer.subarray(0, length)).length, 2)
})

test('there is exactly one frame with a checksum, also where it exactly fills output buffers', async () => {
  const around = [1, 2, 8].flatMap((chunks) =>
    [-1, 0, 1].flatMap((delta) => {
      const frameBytes = chunks * outputChunkBytes + delta
      return [dataOfFrameLength(frameBytes, 0), dataOfFrameLength(frameBytes, 4)]
    }),
  )
  const others = [0, 1, pieceBytes, 2 * pieceBytes, 16 * mebi].map((size) => walLikeBytes(size, size))
  for (const data of [...around, ...others]) {
    for (const level of [1, 3]) {
      const codec = openWriteCodec('zstd', { level })
      for (const encoded of [await encodeCopy(codec, data), await encodeStream(codec, chunksOf(data, 100_000))]) {
        const frames = zstdFrames(encoded)
        assert.equal(frames.length, 1, `${data.length} bytes at level ${level}`)
        assert.equal(frames[0]?.hasChecksum, true)
        assert.ok((await decodeStream(zstd, [encoded])).equals(data))
      }
    }
  }
})

test('no level needs a window above 8 MiB', async () => {
  const data = walLikeBytes(5, 12 * mebi)
  for (const level of [1, 11, 19, 20, 22]) {
    const piece = level > 11 ? data.subarray(0, 200_000) : data
    const encoded = await encodeStream(openWriteCodec('zstd', { level }), [piece])
    assert.ok((zstdFrames(encoded)[0]?.windowLog ?? 99) <= 23, `level ${level}`)
  }
})

test('several frames and skippable ones decode to the whole, in chunks of any size', async () => {
  const parts = [walLikeBytes(1, 20_000), randomBytesOf(2, 3000), Buffer.alloc(0), Buffer.alloc(500_000)]
  const frames = parts.map((part) => zstdCompressSync(part))
  const object = Buffer.concat([
    skippable('first'),
    ...frames.slice(0, 2),
    skippable('', 0x184d2a5f),
    ...frames.slice(2),
    skippable('last'),
  ])
  for (const length of [1, 2, 3, 5, 7, 1000, 65_536, object.length]) {
    assert.ok((await decodeStream(zstd, chunksOf(object, length))).equals(Buffer.concat(parts)), `chunks of ${length}`)
  }
})

test('an object without a frame, with skippable ones only, or with a skippable one cut short is damaged', async () => {
  const cut = Buffer.concat([zstdCompressSync(Buffer.from('whole')), skippable('cut').subarray(0, 9)])
  for (const object of [Buffer.alloc(0), skippable('only'), Buffer.from('plain text is no frame'), cut]) {
    await assert.rejects(decodeStream(zstd, [object]), (error) => hasCode(error, 'WALRX_OBJECT_DAMAGED'))
  }
})

test('a frame that needs a window beyond 128 MiB is unsupported, not damaged', async () => {
  const params = { [constants.ZSTD_c_windowLog]: 28, [constants.ZSTD_c_contentSizeFlag]: 0 }
  const object = await new Promise<Buffer>((resolve, reject) => {
    const parts: Buffer[] = []
    const compressor = createZstdCompress({ params })
    compressor.on('data', (part: Buffer) => parts.push(part)).on('error', reject)
    compressor.on('end', () => resolve(Buffer.concat(parts)))
    compressor.write(walLikeBytes(1, 1000), () => compressor.end(walLikeBytes(2, 1000)))
  })
  assert.equal(zstdFrames(object)[0]?.windowLog, 28)
  await assert.rejects(decodeStream(zstd, [object]), (error) => hasCode(error, 'WALRX_CODEC_UNSUPPORTED'))
})

test('an endless run of one byte is decoded only as far as it is read', async () => {
  const gigabyte = await encodeStream(openWriteCodec('zstd'), repeat(Buffer.alloc(mebi), 512))
  const decoder = zstd.decoder()
  decoder.end(gigabyte)
  const before = process.memoryUsage().rss
  let size = 0
  for await (const chunk of decoder) {
    size += (chunk as Buffer).length
    if (size > 8 * mebi) break
  }
  assert.ok(size < 16 * mebi)
  assert.ok(process.memoryUsage().rss - before < 100 * mebi, 'the rest was decoded too')
})

test('the zstd command line reads what is written, and its frames are read', async (t) => {
  const data = Buffer.concat([walLikeBytes(9, 3 * mebi), randomBytesOf(1, mebi), Buffer.alloc(mebi)])
  const encoded = await encodeCopy(openWriteCodec('zstd'), data)
  const decoded = runTool('zstd', ['-dc'], encoded)
  if (!decoded) return t.skip('no zstd on PATH')
  assert.ok(decoded.equals(data))
  for (const args of [['-1', '--no-check'], ['-3'], ['-7', '--long=23'], ['-12'], ['-1', '-T2', '-B1048576']]) {
    const theirs = runTool('zstd', ['-c', ...args], data.subarray(0, 2 * mebi)) ?? Buffer.alloc(0)
    assert.ok((await decodeStream(zstd, chunksOf(theirs, 10_000))).equals(data.subarray(0, 2 * mebi)), args.join(' '))
  }
})

function* repeat(chunk: Buffer, times: number): Generator<Buffer> {
  for (let n = 0; n < times; n++) yield chunk
}
