import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { setImmediate as turnOver } from 'node:timers/promises'
import { crc32c } from '@node-rs/crc32'
import fc from 'fast-check'
import type { WriteCodec } from '../../../src/compression/codec.ts'
import { openWriteCodec } from '../../../src/compression/codecs.ts'
import { ObjectSum } from '../../../src/walg/stored/object-sum.ts'
import { ObjectWriter, storeObject } from '../../../src/walg/stored/object-upload.ts'
import type { Keyring } from '../../../src/crypto/keyring.ts'
import { collect, sourceOf } from '../../harness/made/secretstreams.ts'
import { Random } from '../../harness/random.ts'
import { testKeyring } from '../../harness/store/test-keys.ts'
import { forever, settle, WatchedStorage, withNothingUnhandled } from '../../backup/parts/watched-storage.ts'

/** Every way from the content to the storage: whether the content is copied, freed or encrypted, and what may be reused. */
const ways = [
  ...(['zstd', 'lz4', 'brotli', 'none'] as const).map((method) => ({
    method,
    isEncrypted: false,
    releasesChunks: false,
  })),
  { method: 'zstd', isEncrypted: false, releasesChunks: true },
  { method: 'none', isEncrypted: false, releasesChunks: true },
  { method: 'none', isEncrypted: true, releasesChunks: false },
  { method: 'none', isEncrypted: true, releasesChunks: true },
  { method: 'zstd', isEncrypted: true, releasesChunks: true },
] as const
const timeout = 30_000
const folder = 'basebackups_005/base_000000010000000000000002/'
const manifest = 'backup_manifest'

/** Made once: most of these tests draw a great deal of it. */
const someNoise = makeNoise(1 << 21)

function makeNoise(length: number): Buffer {
  const random = new Random(1)
  const bytes = Buffer.alloc(length)
  for (let at = 0; at < length; at += 4) bytes.writeInt32LE(random.int(-0x80000000, 0x7fffffff), at)
  return bytes
}

/** Bytes that do not compress: what goes in comes out, for every codec. Each seed takes them from another place. */
function noise(length: number, seed = 1): Buffer {
  const at = (seed * 99_991) % (someNoise.length >> 1)
  assert.ok(at + length <= someNoise.length)
  return someNoise.subarray(at, at + length)
}

async function decodeObject(
  codec: WriteCodec,
  keyring: Keyring | undefined,
  stored: Buffer | undefined,
): Promise<Buffer> {
  assert.ok(stored)
  const decoder = codec.decoder()
  decoder.end(keyring ? await collect((await keyring.keys()).writing.decrypt(sourceOf([stored]))) : stored)
  const pieces: Buffer[] = []
  for await (const piece of decoder) pieces.push(Buffer.from(piece as Uint8Array))
  return Buffer.concat(pieces)
}

/** Writes pieces from memory that is spoilt as soon as it is given back; counts who has it. */
class Pieces {
  /** Pieces that were written and not given back, and the most there ever were. */
  held = 0
  heldMax = 0
  readonly #released = new Set<number>()
  #count = 0

  async write(writer: ObjectWriter, content: Buffer): Promise<void> {
    const memory = Buffer.from(content)
    const number = this.#count++
    this.heldMax = Math.max(this.heldMax, ++this.held)
    await writer.write(memory, () => {
      assert.equal(this.#released.has(number), false, `piece ${number} was given back twice`)
      this.#released.add(number)
      this.held--
      memory.fill(0xee)
    })
  }
}

describe('a sum', () => {
  test('is that of all the bytes, however they are cut', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), fc.array(fc.nat(200)), (bytes, cuts) => {
        const sum = new ObjectSum()
        const borders = [0, ...cuts.filter((cut) => cut <= bytes.length).sort((a, b) => a - b), bytes.length]
        borders.slice(1).forEach((end, index) => sum.add(bytes.subarray(borders[index], end)))
        assert.deepEqual([sum.size, sum.crc32c], [bytes.length, crc32c(Buffer.from(bytes))])
      }),
    )
  })
})

for (const { isEncrypted, method, releasesChunks } of ways) {
  const what = `${method}${isEncrypted ? ', encrypted,' : ''}${releasesChunks ? ' in a storage that releases chunks' : ''}`
  const keyring = isEncrypted ? testKeyring('one') : undefined
  const openStorage = () => new WatchedStorage({ ...(keyring && { keyring }), releasesChunks })
  const decode = (codec: WriteCodec, stored: Buffer | undefined) => decodeObject(codec, keyring, stored)
  describe(`an object under ${what}`, { timeout }, () => {
    test('holds its content, reports what is stored, and holds two pieces at most', async () => {
      const codec = openWriteCodec(method)
      const lengths = fc.array(fc.oneof(fc.integer({ min: 1, max: 300_000 }), fc.constantFrom(1, 65_536)), {
        maxLength: 8,
      })
      await fc.assert(
        fc.asyncProperty(lengths, fc.boolean(), async (sizes, isSlow) => {
          const storage = openStorage()
          if (isSlow) storage.onPiece = () => new Promise((resolve) => void setImmediate(resolve))
          const writer = new ObjectWriter(storage, codec, folder, 'tar_partitions/b/c', new AbortController().signal)
          const pieces = new Pieces()
          const contents = sizes.map((length, index) => noise(length, index))
          for (const content of contents) await pieces.write(writer, content)
          const stored = await writer.finish()
          const object = storage.peek(`${folder}tar_partitions/b/c`) ?? Buffer.alloc(0)
          assert.deepEqual(stored, { name: 'tar_partitions/b/c', size: object.length, crc32c: crc32c(object) })
          assert.equal(writer.storedBytes, object.length)
          assert.ok((await decode(codec, object)).equals(Buffer.concat(contents)))
          assert.equal(pieces.held, 0)
          assert.ok(pieces.heldMax <= 2, `${pieces.heldMax} pieces`)
        }),
        { numRuns: isEncrypted || releasesChunks ? 6 : 12 },
      )
    })

    test('is taken no faster than the storage takes it', async () => {
      const codec = openWriteCodec(method)
      const storage = openStorage()
      const gate = Promise.withResolvers<undefined>()
      storage.onPiece = () => gate.promise.then(() => {})
      const writer = new ObjectWriter(storage, codec, folder, manifest, new AbortController().signal)
      const pieces = new Pieces()
      const content = noise(1024 * 1024)
      let written = 0
      const writing = (async () => {
        for (; written < 12; written++) await pieces.write(writer, content)
      })()
      await settle()
      assert.ok(written < 12, 'everything was taken although nothing was stored')
      assert.ok(pieces.held <= 2)
      gate.resolve(undefined)
      await writing
      assert.equal(
        (await decode(codec, (await writer.finish(), storage.peek(folder + manifest)))).length,
        12 * content.length,
      )
    })

    for (const [when, arm] of [
      ['before it has begun', (storage: WatchedStorage) => (storage.before = fail)],
      ['in its first piece', (storage: WatchedStorage) => (storage.onPiece = fail)],
      ['in a later one', (storage: WatchedStorage) => (storage.onPiece = ({ bytes }) => bytes > 500_000 && fail())],
      ['by a lost answer', (storage: WatchedStorage) => (storage.after = fail)],
    ] as const) {
      test(`fails with its storage ${when}, and gives every piece back`, async () => {
        const codec = openWriteCodec(method)
        await withNothingUnhandled(async () => {
          const storage = openStorage()
          arm(storage as never)
          const writer = new ObjectWriter(storage, codec, folder, manifest, new AbortController().signal)
          const pieces = new Pieces()
          await assert.rejects(async () => {
            for (let count = 0; count < 12; count++) await pieces.write(writer, noise(300_000, count))
            await writer.finish()
          }, broken)
          await assert.rejects(pieces.write(writer, noise(10)), broken)
          await assert.rejects(writer.finish(), broken)
          await writer.drop(new Error('dropped'))
          assert.equal(pieces.held, 0)
          assert.equal(storage.openPuts, 0)
        })
      })
    }

    // A full disk, or a put that is denied: the storage stops reading, clears up what it wrote, and only then says why.
    test('fails with its storage that clears up before it says why', async () => {
      const codec = openWriteCodec(method)
      await withNothingUnhandled(async () => {
        const storage = openStorage()
        storage.put = async (_key, body) => {
          for await (const piece of body as AsyncIterable<Uint8Array>) if (piece.length > 0) break
          for (let turn = 0; turn < 20; turn++) await turnOver()
          fail()
        }
        const writer = new ObjectWriter(storage, codec, folder, manifest, new AbortController().signal)
        const pieces = new Pieces()
        await assert.rejects(async () => {
          for (let count = 0; count < 12; count++) await pieces.write(writer, noise(300_000, count))
          await writer.finish()
        }, broken)
        await assert.rejects(pieces.write(writer, noise(10)), broken)
        await writer.drop(new Error('dropped'))
        assert.equal(pieces.held, 0)
      })
    })

    test('is dropped in any state without a trace, but stays when it is stored', async () => {
      const codec = openWriteCodec(method)
      await withNothingUnhandled(async () => {
        for (const count of [0, 1, 3, 10]) {
          const storage = openStorage()
          const writer = new ObjectWriter(storage, codec, folder, manifest, new AbortController().signal)
          const pieces = new Pieces()
          for (let index = 0; index < count; index++) await pieces.write(writer, noise(200_000, index))
          await writer.drop(new Error('dropped'))
          await writer.drop(new Error('dropped again'))
          assert.deepEqual([pieces.held, storage.openPuts, storage.objects.size], [0, 0, 0])
          await assert.rejects(pieces.write(writer, noise(10)), { message: 'dropped' })
          await assert.rejects(writer.finish())
        }
        const storage = openStorage()
        const writer = new ObjectWriter(storage, codec, folder, manifest, new AbortController().signal)
        await writer.write(noise(1000), () => {})
        await writer.finish()
        await writer.drop(new Error('dropped'))
        assert.ok((await decode(codec, storage.peek(folder + manifest))).equals(noise(1000)))
      })
    })

    test('is dropped while a piece waits for the storage', async () => {
      const codec = openWriteCodec(method)
      await withNothingUnhandled(async () => {
        const storage = openStorage()
        const gate = Promise.withResolvers<undefined>()
        storage.onPiece = () => gate.promise.then(() => {})
        const writer = new ObjectWriter(storage, codec, folder, manifest, new AbortController().signal)
        const pieces = new Pieces()
        const writing = (async () => {
          for (let count = 0; count < 20; count++) await pieces.write(writer, noise(500_000, count))
        })()
        const refused = assert.rejects(writing, { message: 'dropped' })
        await settle()
        const dropping = writer.drop(new Error('dropped'))
        gate.resolve(undefined)
        await Promise.all([dropping, refused])
        assert.deepEqual([pieces.held, storage.openPuts, storage.objects.size], [0, 0, 0])
      })
    })

    test('ends with the signal, also while the storage is silent', async () => {
      const codec = openWriteCodec(method)
      await withNothingUnhandled(async () => {
        const storage = openStorage()
        storage.onPiece = ({ signal }) => forever(signal)
        const stop = new AbortController()
        const writer = new ObjectWriter(storage, codec, folder, manifest, stop.signal)
        const pieces = new Pieces()
        const writing = (async () => {
          for (let count = 0; count < 20; count++) await pieces.write(writer, noise(500_000, count))
        })()
        const refused = assert.rejects(writing, { message: 'stopped by hand' })
        await settle()
        stop.abort(new Error('stopped by hand'))
        await refused
        await assert.rejects(writer.finish(), { message: 'stopped by hand' })
        assert.deepEqual([pieces.held, storage.openPuts, storage.objects.size], [0, 0, 0])
      })
    })

    test('that is small is stored at one go', async () => {
      const codec = openWriteCodec(method)
      const storage = openStorage()
      for (const content of [Buffer.alloc(0), noise(1), noise(100_000)]) {
        const stored = await storeObject(storage, codec, folder, manifest, content, new AbortController().signal)
        const object = storage.peek(folder + manifest) ?? Buffer.alloc(0)
        assert.deepEqual(stored, { name: manifest, size: object.length, crc32c: crc32c(object) })
        assert.ok((await decode(codec, object)).equals(content))
      }
      storage.before = fail
      await assert.rejects(
        storeObject(storage, codec, folder, manifest, noise(9), new AbortController().signal),
        broken,
      )
    })
  })
}

function fail(): never {
  throw new Error('broken')
}

function broken(error: unknown): boolean {
  return error instanceof Error && error.message === 'broken'
}
