import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { extensions } from '../../../src/compression/codecs.ts'
import { hasCode } from '../../../src/primitives/errors.ts'
import { openObject, readWhole } from '../../../src/walg/stored/stored-reader.ts'
import { randomBytesOf } from '../../harness/made/codec-streams.ts'
import { crypterOf, encryptedInPlace, madeKey } from '../../harness/made/openpgp-keys.ts'
import { Random } from '../../harness/random.ts'
import { MemoryStorage } from '../../harness/store/memory-storage.ts'
import { testKey } from '../../harness/store/test-keys.ts'

const storage = new MemoryStorage()
const segment = 'wal_005/000000010000000000000002'

/** What each way of reading an object says of it. */
async function errorsOf(object: Uint8Array, extension: string): Promise<unknown[]> {
  const key = extension === '' ? segment : `${segment}.${extension}`
  storage.seed(key, object)
  const failure = (reading: Promise<unknown>) =>
    reading.then(
      () => undefined,
      (error: unknown) => error,
    )
  const inPieces = async () => {
    const { pieces } = await openObject(storage, { key, extension })
    for await (const { free } of pieces?.() ?? []) free()
  }
  return [await failure(openObject(storage, { key, extension }).then(readWhole)), await failure(inPieces())]
}

describe('an encrypted object that is read without a key is said to be one, whatever its codec makes of it', async () => {
  const { open } = await madeKey()
  const crypters = { OpenPGP: await crypterOf(open), libsodium: await testKey('key') }
  for (const [method, extension] of Object.entries(extensions)) {
    test(method, async (t) => {
      const seed = Number(process.env['SEED'] ?? Date.now() % 100_000)
      t.diagnostic(`seed ${seed}`)
      const random = new Random(seed)
      for (const [name, crypter] of Object.entries(crypters)) {
        for (let round = 0; round < 20; round++) {
          const content = randomBytesOf(random.int(0, 1e9), random.int(2000, 40_000))
          for (const error of await errorsOf(await encryptedInPlace(crypter, content), extension)) {
            assert.ok(hasCode(error, 'WALRX_KEY_MISSING'), `${name}, seed ${seed}, round ${round}: ${String(error)}`)
            assert.match(error.message, /is encrypted.* and no key is set$/)
          }
        }
      }
    })
  }
})

test('what is not encrypted keeps the words of its codec', async () => {
  // A dictionary of 256 MiB in the header of an lzma stream, and a dictionary that an lz4 frame names.
  const lzma = Buffer.concat([Buffer.from([0x5d, 0, 0, 0, 0x10]), Buffer.alloc(8, 0xff), Buffer.alloc(100)])
  const lz4 = Buffer.from('04224d1861400700000000' + '00'.repeat(40), 'hex')
  for (const [object, extension] of [
    [lzma, 'lzma'],
    [lz4, 'lz4'],
  ] as const) {
    for (const error of await errorsOf(object, extension)) {
      assert.ok(hasCode(error, 'WALRX_CODEC_UNSUPPORTED') || hasCode(error, 'WALRX_OBJECT_DAMAGED'), String(error))
      assert.doesNotMatch(error.message, /encrypted/)
    }
  }
})
