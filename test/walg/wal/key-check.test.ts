/** A writer starts only with keys that fit the archive. */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { openWriteCodec } from '../../../src/compression/codecs.ts'
import type { WriteMethod } from '../../../src/compression/codec.ts'
import { Keyring } from '../../../src/crypto/keyring.ts'
import { type ErrorCode, hasCode, WalrxError } from '../../../src/primitives/errors.ts'
import { tailKey } from '../../../src/walg/names.ts'
import { StoredWriter } from '../../../src/walg/stored/stored-writer.ts'
import { checkKeys } from '../../../src/walg/wal/key-check.ts'
import { crypterOf, madeKey } from '../../harness/made/openpgp-keys.ts'
import { makeSegment } from '../../harness/made/made-wal.ts'
import { MemoryStorage } from '../../harness/store/memory-storage.ts'
import { testKey, testKeyring } from '../../harness/store/test-keys.ts'

const nameOf = (number: number) => `00000001000000000000000${number}`

/** An archive to which several writers have written. */
class Archive {
  readonly #objects = new MemoryStorage().objects

  /** What a writer with this key, or none, sees. */
  open(keyring?: Keyring): MemoryStorage {
    return new MemoryStorage({ objects: this.#objects, ...(keyring && { keyring }) })
  }

  async segment(number: number, keyring?: Keyring, method: WriteMethod = 'zstd', cut?: number): Promise<string> {
    const storage = this.open(keyring)
    const writer = new StoredWriter(storage, openWriteCodec(method))
    const key = `wal_005/${nameOf(number)}${writer.extension === '' ? '' : `.${writer.extension}`}`
    storage.seed(key, (await writer.encodeCopy(makeSegment(nameOf(number)))).subarray(0, cut))
    return key
  }
}

const isNamed =
  (code: ErrorCode, ...texts: readonly string[]) =>
  (error: unknown) => {
    assert.ok(hasCode(error, code), String(error))
    assert.equal(error.exitStatus, 2)
    assert.doesNotMatch(error.message, /\n/)
    for (const text of texts)
      assert.ok(`${error.message}; ${error.hint}`.includes(text), `${error.message}; ${error.hint}`)
    return true
  }

const one = () => testKeyring('one')

for (const method of ['zstd', 'lz4', 'brotli', 'none'] as const) {
  describe(`an archive of ${method}`, () => {
    test('is written to with the key of its newest segment, or any if it is empty', async () => {
      const archive = new Archive()
      await checkKeys(archive.open())
      await checkKeys(archive.open(one()))
      await archive.segment(1, one(), method)
      await checkKeys(archive.open(one()))
      await checkKeys(archive.open(testKeyring('two', { reading: ['one'] })), { reader: 'wal-receive' })
    })

    test('that is encrypted is refused without a key, and with another', async () => {
      const archive = new Archive()
      await archive.segment(1, undefined, method)
      const key = await archive.segment(2, one(), method)
      await assert.rejects(checkKeys(archive.open()), isNamed('WALRX_KEY_MISSING', key, 'no key is set'))
      // The segment before is one that it may read, and shows nothing.
      for (const acceptsUnencrypted of [true, false]) {
        await assert.rejects(
          checkKeys(archive.open(testKeyring('two', { acceptsUnencrypted }))),
          isNamed('WALRX_KEY_WRONG', key, 'another key than two (libsodium)'),
        )
      }
    })

    test('that is not encrypted is refused with a key, unless that is accepted', async () => {
      const archive = new Archive()
      await archive.segment(1, one(), method)
      const key = await archive.segment(2, undefined, method)
      const refusal = isNamed('WALRX_KEY_WRONG', key, 'is not encrypted', 'WALRX_ACCEPT_UNENCRYPTED=true')
      await assert.rejects(checkKeys(archive.open(one())), refusal)
      await checkKeys(archive.open(testKeyring('one', { acceptsUnencrypted: true })))
      await checkKeys(archive.open())
    })

    test('with a torn newest segment is judged by the one before', async () => {
      for (const cut of [0, 30, 64, 2000, 20_000]) {
        const archive = new Archive()
        await archive.segment(1, one(), method)
        await archive.segment(2, one(), method, cut)
        await checkKeys(archive.open(one()))
        await assert.rejects(checkKeys(archive.open(testKeyring('two'))), isNamed('WALRX_KEY_WRONG'), String(cut))
        if (cut === 0) await assert.rejects(checkKeys(archive.open()), isNamed('WALRX_KEY_MISSING', nameOf(1)))
      }
    })
  })
}

test('a newest segment whose OpenPGP session key is changed stops no start', async () => {
  const { secret } = await madeKey()
  const ring = await crypterOf(secret)
  const keyring = new Keyring({ load: () => Promise.resolve({ writing: ring, reading: [] }) })
  const archive = new Archive()
  await archive.segment(1, keyring)
  const storage = archive.open(keyring)
  const newest = await archive.segment(2, keyring)
  const stored = Buffer.from(storage.objects.get(newest)?.bytes ?? [])
  stored[60] = stored.readUInt8(60) ^ 1
  storage.seed(newest, stored)
  await checkKeys(storage, { reader: 'wal-receive' })
})

test('where there is no segment, chunks of a tail and the newest backup decide', async () => {
  const archive = new Archive()
  const storage = archive.open(one())
  const writer = new StoredWriter(storage, openWriteCodec('zstd'))
  const part = 'basebackups_005/base_000000010000000000000004/tar_partitions/pg_control.tar.zst'
  storage.seed('basebackups_005/base_000000010000000000000004_backup_stop_sentinel.json', '{}')
  storage.seed(part, await writer.encodeCopy(Buffer.alloc(10_240)))
  await assert.rejects(checkKeys(archive.open()), isNamed('WALRX_KEY_MISSING', part))
  await assert.rejects(checkKeys(archive.open(testKeyring('two'))), isNamed('WALRX_KEY_WRONG', part))
  await checkKeys(storage)
  const chunk = tailKey(nameOf(5), { from: 0, to: 9000 }, 'zst')
  storage.seed(chunk, await writer.encodeCopy(makeSegment(nameOf(5)).subarray(0, 9000)))
  await assert.rejects(checkKeys(archive.open()), isNamed('WALRX_KEY_MISSING', chunk))
})

test('costs one request for an object, and of a long archive lists what came after the newest backup', async () => {
  const archive = new Archive()
  const storage = new MemoryStorage({ objects: archive.open().objects, keyring: one(), pageKeys: 3, chunkBytes: 4096 })
  for (const number of [1, 2, 3, 4, 5, 6, 7, 8, 9]) await archive.segment(number, one())
  storage.seed('basebackups_005/base_000000010000000000000008_backup_stop_sentinel.json', '{}')
  storage.calls.length = 0
  await checkKeys(storage)
  assert.equal(storage.log.filter((line) => line.startsWith('get')).length, 1)
  assert.equal(storage.log.filter((line) => line.startsWith('list wal_005/')).length, 3, storage.log.join(', '))
  assert.equal(storage.openBodies, 0)
})

test('a key that only encrypts will do for a backup, and not for a receiver', async () => {
  const crypter = await testKey('one')
  const publicKey = {
    method: crypter.method,
    label: 'WALG_PGP_KEY_PATH=/etc/key',
    headBytes: crypter.headBytes,
    canDecrypt: false,
    recognise: (head: Buffer) => crypter.recognise(head),
    encrypt: (content: AsyncIterable<Uint8Array>) => crypter.encrypt(content),
    encryptInPlace: (buffer: Buffer, length: number) => crypter.encryptInPlace(buffer, length),
    decrypt: () => assert.fail('it has no private key'),
  }
  const archive = new Archive()
  const keyring = new Keyring({ load: () => Promise.resolve({ writing: publicKey, reading: [] }) })
  await checkKeys(archive.open(keyring))
  await assert.rejects(
    checkKeys(archive.open(keyring), { reader: 'wal-receive' }),
    isNamed('WALRX_KEY_MISSING', 'WALG_PGP_KEY_PATH=/etc/key', 'no private key', 'wal-receive'),
  )
  // Of its own objects it knows that they are its own, and cannot read them.
  await archive.segment(1, one())
  await checkKeys(archive.open(keyring))
})

test('keys that cannot be used stop the start of an empty archive too', async () => {
  const failure = new WalrxError('WALRX_KEY_UNAVAILABLE', 'the key command failed')
  const storage = new Archive().open(new Keyring({ load: () => Promise.reject(failure) }))
  await assert.rejects(checkKeys(storage), (error) => error === failure)
})
