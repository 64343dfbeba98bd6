/** What decodes on its own thread does what the libuv pool does, damage included; and where it cannot, the pool does it. */
import assert from 'node:assert/strict'
import { syncBuiltinESMExports } from 'node:module'
import { afterEach, describe, test } from 'node:test'
import zlib from 'node:zlib'
import { openReadCodec, openWriteCodec } from '../../src/compression/codecs.ts'
import { canDecodeInSync } from '../../src/compression/zlib-sync.ts'
import { hasCode } from '../../src/primitives/errors.ts'
import { isFullRun } from '../harness/extent.ts'
import { chunksOf, encodeStream, randomBytesOf, walLikeBytes } from '../harness/made/codec-streams.ts'
import { sourceOf } from '../harness/made/secretstreams.ts'
import { Random } from '../harness/random.ts'

const codec = openReadCodec('zstd')
const trials = isFullRun ? 400 : 40

interface Outcome {
  readonly bytes: Buffer
  readonly error: unknown
}

/** @param held pieces that are freed only after so many more have come */
async function decode(object: Buffer, lengths: number[], inSync: boolean, held = 0): Promise<Outcome> {
  const chunks: Buffer[] = []
  const frees: (() => void)[] = []
  try {
    for await (const { bytes, free } of codec.decodePieces!(sourceOf(chunksOf(object, ...lengths)), { inSync })) {
      chunks.push(Buffer.from(bytes))
      frees.push(() => {
        bytes.fill(0xee)
        free()
      })
      if (frees.length > held) frees.shift()!()
    }
    return { bytes: Buffer.concat(chunks), error: undefined }
  } catch (error) {
    return { bytes: Buffer.concat(chunks), error }
  } finally {
    for (const free of frees) free()
  }
}

const skippable = (length: number) => {
  const head = Buffer.alloc(8)
  head.writeUInt32LE(0x184d2a53, 0)
  head.writeUInt32LE(length, 4)
  return Buffer.concat([head, randomBytesOf(9, length)])
}

const frame = (content: Buffer) => encodeStream(openWriteCodec('zstd'), chunksOf(content, 100_000))

/** More than a piece, and exactly as many bytes as pieces have: the decoder then ends with a full output. */
const contents = [0, 1, 5000, 512 * 1024, 1024 * 1024, 1_100_000].map((length) => walLikeBytes(length, length))

describe('zstd in sync', () => {
  test('decodes what the pool decodes: any size, any chunks, however long pieces are held', async () => {
    for (const content of contents) {
      const object = await frame(content)
      for (const lengths of [[object.length], [1, 3000], [65_536]]) {
        for (const held of [0, 3]) {
          const { bytes, error } = await decode(object, lengths, true, held)
          assert.ok(error === undefined && bytes.equals(content), `${content.length} in chunks of ${lengths.join()}`)
        }
      }
    }
  })

  test('decodes several frames, and passes over those that are skippable', async () => {
    const object = Buffer.concat([
      skippable(3000),
      await frame(contents[2]!),
      skippable(0),
      await frame(contents[5]!),
      await frame(Buffer.alloc(0)),
      await frame(contents[1]!),
      skippable(9),
    ])
    const { bytes, error } = await decode(object, [7000], true)
    assert.equal(error, undefined)
    assert.ok(bytes.equals(Buffer.concat([contents[2]!, contents[5]!, contents[1]!])))
  })

  test('refuses what the pool refuses, with the same words, and gives out no other bytes before', async () => {
    const seed = 11
    const random = new Random(seed)
    const [small, large] = [await frame(contents[2]!), await frame(contents[5]!)]
    const content = Buffer.concat([contents[2]!, contents[5]!])
    const object = Buffer.concat([small, large])
    let refused = 0
    for (let n = 0; n < trials; n++) {
      const changed = Buffer.from(object)
      const at = random.int(0, object.length - 1)
      const how = random.pick(['flip', 'cut', 'append'] as const)
      changed[at] = changed[at]! ^ (how === 'flip' ? 1 << random.int(0, 7) : 0)
      const made =
        how === 'cut'
          ? changed.subarray(0, at)
          : how === 'append'
            ? Buffer.concat([changed, randomBytesOf(n, 1 + (n % 9))])
            : changed
      const lengths = [random.pick([1000, 4096, 1 << 20])]
      const what = `${how} at ${at}, chunks of ${lengths.join()} (seed ${seed})`
      const [own, pool] = [await decode(made, lengths, true), await decode(made, lengths, false)]
      assert.equal((own.error as Error | undefined)?.message, (pool.error as Error | undefined)?.message, what)
      if (own.error === undefined) {
        assert.ok(own.bytes.equals(pool.bytes), what)
        continue
      }
      assert.ok(hasCode(own.error, 'WALRX_OBJECT_DAMAGED') || hasCode(own.error, 'WALRX_CODEC_UNSUPPORTED'), what)
      if (how !== 'flip') assert.ok(content.subarray(0, own.bytes.length).equals(own.bytes), what)
      refused++
    }
    assert.ok(refused > trials / 2, `${refused} refused`)
  })

  test('passes on what the source throws, and frees the decoder of a reader that stops', async () => {
    const object = await frame(contents[5]!)
    const failure = new Error('made up')
    async function* failing() {
      yield object.subarray(0, 20)
      yield await Promise.reject<Buffer>(failure)
    }
    await assert.rejects(async () => {
      for await (const { free } of codec.decodePieces!(failing(), { inSync: true })) free()
    }, failure)
    let pieces = 0
    for await (const { bytes, free } of codec.decodePieces!(sourceOf([object]), { inSync: true })) {
      assert.ok(contents[5]!.subarray(0, bytes.length).equals(bytes))
      free()
      pieces++
      break
    }
    assert.equal(pieces, 1)
  })
})

describe('where Node has not what that needs', () => {
  const open = zlib.createZstdDecompress
  afterEach(() => {
    setDecompressor(open)
  })

  test('the pool decodes', async () => {
    let made = 0
    setDecompressor((options) => {
      const engine = open(options)
      Object.assign((engine as unknown as { _handle: object })._handle, { writeSync: undefined })
      assert.ok(!canDecodeInSync(engine))
      made++
      return engine
    })
    for (const content of contents) {
      const { bytes, error } = await decode(await frame(content), [5000], true, 1)
      assert.ok(error === undefined && bytes.equals(content), `${content.length}: ${String(error)}`)
    }
    assert.ok(made > 0)
  })

  test('is seen', () => {
    const engine = open()
    assert.ok(canDecodeInSync(engine), 'this Node has it')
    engine.destroy()
    assert.ok(!canDecodeInSync(Object.assign(Object.create(null), { _handle: null })))
    assert.ok(!canDecodeInSync(Object.create(null)))
    const handle = { writeSync: () => {} }
    assert.ok(!canDecodeInSync(Object.assign(Object.create(null), { _handle: handle, _writeState: undefined })))
  })
})

/** For who imports it by name, too. */
function setDecompressor(value: typeof zlib.createZstdDecompress): void {
  Object.defineProperty(zlib, 'createZstdDecompress', { configurable: true, enumerable: true, value })
  syncBuiltinESMExports()
}
