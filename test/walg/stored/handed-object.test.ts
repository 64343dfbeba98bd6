/** An object that one thread opens and another decodes gives what its reader gives, errors included, and hands over no key. */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { openWriteCodec } from '../../../src/compression/codecs.ts'
import { type Keyring } from '../../../src/crypto/keyring.ts'
import { hasCode } from '../../../src/primitives/errors.ts'
import { handedPieces, openHanded } from '../../../src/walg/stored/handed-object.ts'
import { openObject } from '../../../src/walg/stored/stored-reader.ts'
import { StoredWriter } from '../../../src/walg/stored/stored-writer.ts'
import { randomBytesOf, walLikeBytes } from '../../harness/made/codec-streams.ts'
import { keyringOf, keyOf } from '../../harness/made/secretstreams.ts'
import { Random } from '../../harness/random.ts'
import { MemoryStorage } from '../../harness/store/memory-storage.ts'

const content = Buffer.concat([walLikeBytes(1, 700_000), randomBytesOf(2, 100_000)])

interface Outcome {
  readonly bytes: Buffer
  readonly error: unknown
}

/** @param pieces with memory that is overwritten when it is freed */
async function collect(pieces: AsyncIterable<{ bytes: Uint8Array; free(): void }>): Promise<Outcome> {
  const chunks: Buffer[] = []
  try {
    for await (const { bytes, free } of pieces) {
      chunks.push(Buffer.from(bytes))
      free()
    }
    return { bytes: Buffer.concat(chunks), error: undefined }
  } catch (error) {
    return { bytes: Buffer.concat(chunks), error }
  }
}

type Name = { readonly key: string; readonly extension: string }

/** As a lane does: plain data goes over, and chunks come back once they are used, and are overwritten. */
async function throughLane(storage: MemoryStorage, name: Name): Promise<Outcome> {
  let passed = 0
  try {
    const object = await openHanded(storage, name, { onStored: (chunk) => void (passed += chunk.length) })
    const handing = structuredClone(object.handing)
    const released = new Set<Uint8Array>()
    const copies = (async function* () {
      for await (const chunk of object.bytes) yield Uint8Array.from(chunk)
    })()
    const release = (chunk: Uint8Array) => {
      assert.ok(!released.has(chunk), 'a chunk is released once')
      released.add(chunk)
      chunk.fill(0xee)
    }
    const outcome = await collect(handedPieces(handing, copies, { inSync: true, release }))
    await object.close()
    if (outcome.error === undefined && handing.bytes !== 'decrypted')
      assert.equal(passed, storage.peek(name.key)?.length)
    return outcome
  } catch (error) {
    return { bytes: Buffer.alloc(0), error }
  }
}

async function throughReader(storage: MemoryStorage, name: Name): Promise<Outcome> {
  try {
    const { pieces } = await openObject(storage, name)
    assert.ok(pieces)
    return await collect(pieces())
  } catch (error) {
    return { bytes: Buffer.alloc(0), error }
  }
}

const methods = ['zstd', 'lz4', 'brotli', 'none'] as const

/** The object in a storage that may have other keys than it was written with. */
async function storeOf(
  method: (typeof methods)[number],
  writing?: Keyring,
  reading: Keyring | 'same' | 'none' = 'same',
  chunkBytes = 64 * 1024,
) {
  const codec = openWriteCodec(method)
  const { extension } = codec
  const key = `basebackups_005/base_000000010000000000000002/tar_partitions/part_001.tar${extension && `.${extension}`}`
  const writer = new StoredWriter(new MemoryStorage(writing ? { keyring: writing } : {}), codec)
  const keyring = reading === 'same' ? writing : reading === 'none' ? undefined : reading
  const storage = new MemoryStorage({ chunkBytes, ...(keyring && { keyring }) })
  storage.seed(key, await writer.encodeCopy(content))
  return { storage, name: { key, extension } }
}

describe('an object that is handed over', () => {
  for (const method of methods) {
    test(`by ${method} is what was stored, with a key, without one, and before there was one`, async () => {
      for (const [writing, reading] of [
        [undefined, 'none'],
        [keyringOf([1]), keyringOf([1])],
        [keyringOf([2]), keyringOf([1, 2])],
        [undefined, keyringOf([1], true)],
      ] as const) {
        for (const chunkBytes of [1000, 64 * 1024]) {
          const { name, storage } = await storeOf(method, writing, reading, chunkBytes)
          const { bytes, error } = await throughLane(storage, name)
          assert.ok(error === undefined && bytes.equals(content), `${chunkBytes}: ${String(error)}`)
          assert.equal(storage.openBodies, 0)
        }
      }
    })

    test(`by ${method} and that was changed or cut is refused as its reader refuses it`, async () => {
      const seed = 5
      const random = new Random(seed)
      for (const keyring of [undefined, keyringOf([1])]) {
        const { name, storage } = await storeOf(method, keyring)
        const object = storage.peek(name.key)!
        for (let n = 0; n < 12; n++) {
          const changed = Buffer.from(object)
          const at = random.int(0, object.length - 1)
          changed[at] = changed[at]! ^ (1 << random.int(0, 7))
          const made = n % 3 === 0 ? object.subarray(0, at) : changed
          storage.objects.set(name.key, { bytes: made, lastModifiedMs: 0 })
          const [lane, reader] = [await throughLane(storage, name), await throughReader(storage, name)]
          const what = `${keyring ? 'encrypted' : 'plain'}, ${n} at ${at} (seed ${seed})`
          assert.equal((lane.error as Error | undefined)?.message, (reader.error as Error | undefined)?.message, what)
          if (lane.error === undefined) assert.ok(lane.bytes.equals(reader.bytes), what)
          if (keyring)
            assert.ok(hasCode(lane.error, 'WALRX_OBJECT_DAMAGED') || hasCode(lane.error, 'WALRX_KEY_WRONG'), what)
          assert.equal(storage.openBodies, 0, what)
        }
      }
    })
  }

  test('is refused with the words of its reader where no key opens it', async () => {
    for (const reading of [keyringOf([3]), 'none'] as const) {
      const { name, storage } = await storeOf('zstd', keyringOf([1]), reading)
      const [lane, reader] = [await throughLane(storage, name), await throughReader(storage, name)]
      assert.ok(lane.error instanceof Error && reader.error instanceof Error)
      assert.equal(lane.error.message, reader.error.message)
      assert.equal(storage.openBodies, 0)
    }
  })

  test('hands over what opens it, and not the key, and nothing that opens another one', async () => {
    const keyring = keyringOf([1])
    const one = await storeOf('none', keyring)
    const other = await storeOf('none', keyring)
    const object = await openHanded(one.storage, one.name, { onStored: () => {} })
    const { opens } = object.handing
    assert.ok(opens)
    assert.ok(!Buffer.from(opens).includes(keyOf(1)))
    await object.close()
    const bytes = (async function* () {
      yield await Promise.resolve(Uint8Array.from(other.storage.peek(other.name.key)!))
    })()
    const { bytes: out, error } = await collect(
      handedPieces(object.handing, bytes, { inSync: true, release: () => {} }),
    )
    assert.ok(hasCode(error, 'WALRX_OBJECT_DAMAGED'))
    assert.equal(out.length, 0)
    assert.ok(
      opens.every((byte) => byte === 0),
      'it is zeroed',
    )
  })
})
