import assert from 'node:assert/strict'
import { test } from 'node:test'
import { openReadCodec, openWriteCodec } from '../../../src/compression/codecs.ts'
import { xxHash32 } from '../../../src/compression/lz4/xxhash32.ts'
import { hasCode } from '../../../src/primitives/errors.ts'
import {
  chunksOf,
  decodeStream,
  encodeCopy,
  encodeStream,
  randomBytesOf,
  runTool,
  walLikeBytes,
} from '../../harness/made/codec-streams.ts'

const lz4 = openReadCodec('lz4')
const mebi = 1024 * 1024

/** The parts of an lz4 frame, read independently of `src`. */
function parseFrame(bytes: Buffer) {
  const flags = bytes.readUInt8(4)
  const blocks: { size: number; isStored: boolean }[] = []
  let at = 7 + (flags & 8 ? 8 : 0) + (flags & 1 ? 4 : 0)
  for (;;) {
    const size = bytes.readUInt32LE(at)
    at += 4
    if (size === 0) break
    blocks.push({ size: size & 0x7fffffff, isStored: size >>> 31 === 1 })
    at += (size & 0x7fffffff) + (flags & 16 ? 4 : 0)
  }
  const checksum = flags & 4 ? bytes.readUInt32LE(at) : undefined
  return {
    magic: bytes.readUInt32LE(0),
    flags,
    blockCode: bytes.readUInt8(5) >> 4,
    blocks,
    checksum,
    end: at + (flags & 4),
  }
}

/** A frame around stored blocks, with a right header checksum. */
function storedFrame(options: {
  flags?: number
  descriptor?: number
  fields?: Buffer
  blocks?: Buffer[]
  tail?: Buffer
}): Buffer {
  const descriptor = Buffer.concat([
    Buffer.from([options.flags ?? 0x60, options.descriptor ?? 0x40]),
    options.fields ?? Buffer.alloc(0),
  ])
  const parts: Buffer[] = [
    Buffer.from('04224d18', 'hex'),
    descriptor,
    Buffer.from([(xxHash32(descriptor) >>> 8) & 0xff]),
  ]
  for (const block of options.blocks ?? []) {
    const header = Buffer.alloc(4)
    header.writeUInt32LE((block.length | 0x80000000) >>> 0)
    parts.push(header, block)
  }
  return Buffer.concat([...parts, Buffer.alloc(4), options.tail ?? Buffer.alloc(0)])
}

const u64 = (value: number) => {
  const bytes = Buffer.alloc(8)
  bytes.writeBigUInt64LE(BigInt(value))
  return bytes
}

test('what is written is one frame of independent blocks with a content checksum and no block checksums', async () => {
  for (const data of [Buffer.alloc(0), Buffer.from('x'), walLikeBytes(1, 3 * mebi + 17), randomBytesOf(2, 2 * mebi)]) {
    const codec = openWriteCodec('lz4')
    for (const encoded of [await encodeCopy(codec, data), await encodeStream(codec, chunksOf(data, 70_000))]) {
      const frame = parseFrame(encoded)
      assert.equal(frame.magic, 0x184d2204)
      assert.equal(frame.flags, 0x64)
      assert.equal(frame.end, encoded.length)
      assert.equal(frame.checksum, xxHash32(data))
      assert.equal(frame.blocks.length, Math.ceil(data.length / (256 * 1024)))
      assert.equal(frame.blockCode, data.length < 65_536 ? 4 : 5)
    }
  }
})

test('blocks that do not compress are stored', async () => {
  const encoded = await encodeCopy(
    openWriteCodec('lz4'),
    Buffer.concat([randomBytesOf(3, mebi), walLikeBytes(4, mebi)]),
  )
  assert.deepEqual(
    parseFrame(encoded).blocks.map((block) => block.isStored),
    [true, true, true, true, false, false, false, false],
  )
})

const skippable = Buffer.concat([Buffer.from('5f2a4d1803000000', 'hex'), Buffer.from('abc')])
const isDamaged = (error: unknown) => hasCode(error, 'WALRX_OBJECT_DAMAGED')

/** A frame of the legacy format with these blocks, of up to 8 MiB each. */
async function legacyFrame(...blocks: Buffer[]): Promise<Buffer> {
  const { compress } = await import('lz4-napi')
  const parts: Buffer[] = [Buffer.from('02214c18', 'hex')]
  for (const content of blocks) {
    const block = (await compress(content)).subarray(4)
    const size = Buffer.alloc(4)
    size.writeUInt32LE(block.length)
    parts.push(size, block)
  }
  return Buffer.concat(parts)
}

test('any number of frames decode to the whole, skippable ones between them, in chunks of any size', async () => {
  const frame = storedFrame({ blocks: [Buffer.from('content')] })
  const other = await encodeCopy(openWriteCodec('lz4'), walLikeBytes(1, 300_000))
  const object = Buffer.concat([skippable, skippable, frame, skippable, other, frame, skippable])
  const expected = Buffer.concat([Buffer.from('content'), walLikeBytes(1, 300_000), Buffer.from('content')])
  for (const length of [1, 3, 4, 7, 1000, object.length]) {
    assert.ok((await decodeStream(lz4, chunksOf(object, length))).equals(expected), `chunks of ${length}`)
  }
})

test('skippable frames alone, a cut one, and what is no frame after the end are damage', async () => {
  const frame = storedFrame({ blocks: [Buffer.from('content')] })
  const wrong: Record<string, Buffer[]> = {
    'skippable frames only': [skippable, skippable],
    'a skippable frame cut short': [frame, skippable.subarray(0, -1)],
    'a second frame cut short': [frame, frame.subarray(0, -1)],
    'fewer bytes than a magic number': [frame, Buffer.from('abc')],
    'no magic number': [frame, Buffer.from('abcd')],
  }
  for (const [what, object] of Object.entries(wrong)) await assert.rejects(decodeStream(lz4, object), isDamaged, what)
})

test('the legacy format decodes, before and after other frames, in chunks of any size', async () => {
  const [first, second] = [walLikeBytes(1, 8 * mebi), walLikeBytes(2, 70_000)]
  const legacy = await legacyFrame(first, second)
  assert.ok((await decodeStream(lz4, chunksOf(legacy, 100_000))).equals(Buffer.concat([first, second])))
  const frame = storedFrame({ blocks: [Buffer.from('content')] })
  const small = await legacyFrame(second)
  const object = Buffer.concat([small, frame, skippable, small, small, skippable])
  const expected = Buffer.concat([second, Buffer.from('content'), second, second])
  for (const length of [1, 5, 4096, object.length]) {
    assert.ok((await decodeStream(lz4, chunksOf(object, length))).equals(expected), `chunks of ${length}`)
  }
  assert.equal((await decodeStream(lz4, [legacy.subarray(0, 4)])).length, 0)
})

test('a legacy frame cut within a block, or with a block of a wrong length, is damage', async () => {
  const legacy = await legacyFrame(walLikeBytes(1, 20_000), walLikeBytes(2, 30_000))
  const ofFirst = 4 + 4 + legacy.readUInt32LE(4)
  // Nothing marks the end of this format: one that is cut between two blocks is whole.
  const near = [0, 4, ofFirst, ofFirst + 4, legacy.length].flatMap((at) => [-2, -1, 0, 1, 2].map((by) => at + by))
  const cuts = near.filter((cut) => cut >= 0 && cut < legacy.length && cut !== 4 && cut !== ofFirst)
  for (const cut of [...cuts, ofFirst >> 1, (ofFirst + legacy.length) >> 1]) {
    await assert.rejects(decodeStream(lz4, [legacy.subarray(0, cut)]), isDamaged, `cut at ${cut}`)
  }
  for (const length of [0, 0x7fffffff, 0xffffffff]) {
    const wrong = Buffer.from(legacy)
    wrong.writeUInt32LE(length, 4)
    await assert.rejects(decodeStream(lz4, [wrong]), isDamaged, `a block of ${length}`)
  }
})

test('content size, block size and descriptor are held against the content', async () => {
  const content = Buffer.from('content')
  assert.equal(
    (await decodeStream(lz4, [storedFrame({ flags: 0x68, fields: u64(7), blocks: [content] })])).toString(),
    'content',
  )
  const wrong = {
    'too few bytes': storedFrame({ flags: 0x68, fields: u64(8), blocks: [content] }),
    'too many bytes': storedFrame({ flags: 0x68, fields: u64(6), blocks: [content] }),
    'a block larger than allowed': storedFrame({ blocks: [Buffer.alloc(65_537)] }),
    'an unknown version': storedFrame({ flags: 0xa0, blocks: [content] }),
    'a reserved flag': storedFrame({ flags: 0x62, blocks: [content] }),
    'a block size that does not exist': storedFrame({ descriptor: 0x30, blocks: [content] }),
    'a reserved descriptor bit': storedFrame({ descriptor: 0x41, blocks: [content] }),
    'a wrong content checksum': storedFrame({ flags: 0x64, blocks: [content], tail: Buffer.alloc(4) }),
  }
  for (const [what, object] of Object.entries(wrong)) {
    await assert.rejects(decodeStream(lz4, [object]), (error) => hasCode(error, 'WALRX_OBJECT_DAMAGED'), what)
  }
})

test('a block checksum is of the stored bytes and is held against them', async () => {
  const block = Buffer.from('content')
  const checked = (checksum: number) => {
    const bytes = Buffer.alloc(4)
    bytes.writeUInt32LE(checksum)
    const frame = storedFrame({ flags: 0x70, blocks: [block] })
    return Buffer.concat([frame.subarray(0, -4), bytes, Buffer.alloc(4)])
  }
  assert.equal((await decodeStream(lz4, [checked(xxHash32(block))])).toString(), 'content')
  await assert.rejects(decodeStream(lz4, [checked(1)]), (error) => hasCode(error, 'WALRX_OBJECT_DAMAGED'))
})

test('a dictionary is unsupported, not damage', async () => {
  const object = storedFrame({ flags: 0x61, fields: Buffer.alloc(4) })
  await assert.rejects(
    decodeStream(lz4, [object]),
    (error) => hasCode(error, 'WALRX_CODEC_UNSUPPORTED') && error.message.includes('dictionary 0'),
  )
})

test('the lz4 command line reads what is written, and its frames are read', async (t) => {
  const data = Buffer.concat([walLikeBytes(9, 5 * mebi), randomBytesOf(1, mebi), Buffer.alloc(3 * mebi)])
  const decoded = runTool('lz4', ['-dc'], await encodeCopy(openWriteCodec('lz4'), data))
  if (!decoded) return t.skip('no lz4 on PATH')
  assert.ok(decoded.equals(data))
  for (const args of [
    ['-1'],
    ['-9', '-BD', '-B4'],
    ['-BD', '-B5', '--no-frame-crc'],
    ['-BX', '-B6'],
    ['-BD', '-BX', '-B7'],
    ['-B4', '--content-size'],
    ['-BD', '-B6', '--content-size', '--no-frame-crc'],
    ['-l'],
    ['-l', '-9'],
  ]) {
    const theirs = runTool('lz4', ['-c', ...args], data) ?? Buffer.alloc(0)
    assert.ok((await decodeStream(lz4, chunksOf(theirs, 64 * 1024))).equals(data), args.join(' '))
  }
})
