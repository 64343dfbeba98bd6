/** lzma: what other programs make of what is written, and streams that end early. */
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { once } from 'node:events'
import { readFile } from 'node:fs/promises'
import { test } from 'node:test'
import { promisify } from 'node:util'
import { lzmaCodec } from '../../src/compression/lzma.ts'
import { hasCode } from '../../src/primitives/errors.ts'
import {
  chunksOf,
  decodeStream,
  encodeCopy,
  randomBytesOf,
  runTool,
  walLikeBytes,
} from '../harness/made/codec-streams.ts'

const mebi = 1024 * 1024
const golden = (name: string) => readFile(new URL(`../golden/codecs/${name}`, import.meta.url))

test('the xz command line reads what is written, and its streams are read', async (t) => {
  const data = Buffer.concat([walLikeBytes(1, mebi), randomBytesOf(2, 50_000), Buffer.alloc(mebi)])
  const encoded = await encodeCopy(lzmaCodec, data)
  // No size in the header, as WAL-G and WAL-RUS write.
  assert.equal(encoded.toString('hex', 5, 13), 'ff'.repeat(8))
  const decoded = runTool('xz', ['--format=lzma', '-dc'], encoded)
  if (!decoded) return t.skip('no xz on PATH')
  assert.ok(decoded.equals(data))
  for (const options of [
    'lc=0,lp=0,pb=0',
    'lc=0,lp=4,pb=4,dict=4KiB',
    'lc=4,lp=0,pb=2,dict=64MiB',
    'preset=9,dict=1536KiB',
  ]) {
    const theirs = runTool('xz', ['--format=lzma', `--lzma1=${options}`, '-c'], data) ?? Buffer.alloc(0)
    assert.equal(lzmaCodec.begins?.(theirs.subarray(0, 1024)), true, options)
    assert.ok((await decodeStream(lzmaCodec, chunksOf(theirs, 50_000))).equals(data), options)
  }
})

test('bytes that mispredict as much as they can fit into the slack', async () => {
  // Each bit is the less likely one, nine times in ten, of a coder of literals as lzma has it.
  const data = Buffer.alloc(mebi)
  const random = randomBytesOf(3, 8 * mebi)
  const likelihoods = Array.from({ length: 8 }, () => new Uint16Array(256).fill(1024))
  for (let at = 0, previous = 0; at < data.length; at++) {
    const likelihood = likelihoods[previous >> 5] ?? new Uint16Array(256)
    let symbol = 1
    while (symbol < 256) {
      const ofZero = likelihood[symbol] ?? 0
      const bit = Number(ofZero > 1024) ^ Number((random[at * 8 + (symbol & 7)] ?? 0) < 26)
      likelihood[symbol] = bit === 0 ? ofZero + ((2048 - ofZero) >> 5) : ofZero - (ofZero >> 5)
      symbol = (symbol << 1) | bit
    }
    previous = symbol & 255
    data[at] = previous
  }
  const encoded = await encodeCopy(lzmaCodec, data)
  assert.ok(encoded.length > data.length * 1.01, `${encoded.length} bytes`)
  assert.ok((await decodeStream(lzmaCodec, [encoded])).equals(data))
})

test('a dictionary above 128 MiB and wrong properties are refused before anything is allocated', async () => {
  const object = await golden('alone.lzma')
  const large = Buffer.from(object)
  large.writeUInt32LE(0xffffffff, 1)
  await assert.rejects(decodeStream(lzmaCodec, [large]), (error) => hasCode(error, 'WALRX_CODEC_UNSUPPORTED'))
  const wrong = Buffer.from(object)
  wrong.writeUInt8(225, 0)
  await assert.rejects(decodeStream(lzmaCodec, [wrong]), (error) => hasCode(error, 'WALRX_OBJECT_DAMAGED'))
})

test('a run of zeros is decoded only as far as it is read', async () => {
  const object = await encodeCopy(lzmaCodec, Buffer.alloc(100 * mebi))
  const before = process.memoryUsage().rss
  let size = 0
  for await (const { bytes, free } of lzmaCodec.decodePieces?.(chunksAsync(object)) ?? []) {
    size += bytes.length
    free()
    if (size > 4 * mebi) break
  }
  assert.ok(process.memoryUsage().rss - before < 50 * mebi, 'the rest was decoded too')
})

test('a decoder that is destroyed while its source waits leaves nothing running', async () => {
  const script = `
    import { lzmaCodec } from ${JSON.stringify(new URL('../../src/compression/lzma.ts', import.meta.url).href)}
    const buffer = Buffer.alloc(3_000_000)
    for (let at = 0; at < 2_000_000; at += 40_000) crypto.getRandomValues(buffer.subarray(at, at + 40_000))
    const length = await lzmaCodec.encodeInPlace(buffer, 2_000_000)
    const decoder = lzmaCodec.decoder()
    decoder.on('error', () => console.log('destroyed'))
    decoder.write(buffer.subarray(0, length - 10))
    decoder.once('data', () => setImmediate(() => decoder.destroy(new Error('enough'))))
  `
  const { stdout } = await promisify(execFile)(process.execPath, ['--input-type=module', '-e', script], {
    timeout: 30_000,
  })
  assert.equal(stdout, 'destroyed\n')
})

test('the error of a source comes out unchanged', async () => {
  const decoder = lzmaCodec.decoder()
  decoder.write((await golden('alone.lzma')).subarray(0, 1000))
  decoder.destroy(new Error('the store is out'))
  const [error] = (await once(decoder, 'error')) as [Error]
  assert.equal(error.message, 'the store is out')
})

async function* chunksAsync(bytes: Buffer): AsyncGenerator<Uint8Array> {
  await Promise.resolve()
  yield* chunksOf(bytes, 64 * 1024)
}
