/** The envelope and its data keys, with a KMS in memory. */
import assert from 'node:assert/strict'
import { createSecretKey, type KeyObject, randomBytes } from 'node:crypto'
import { describe, test } from 'node:test'
import { encryptSlack } from '../../../src/crypto/crypter.ts'
import { DataKeys, type DataKeyLimits, dataKeyLimits } from '../../../src/crypto/kms/data-keys.ts'
import { KmsCrypter } from '../../../src/crypto/kms/kms-crypter.ts'
import { Keyring } from '../../../src/crypto/keyring.ts'
import { WalrxError } from '../../../src/primitives/errors.ts'
import { HeadedSource } from '../../../src/primitives/headed-source.ts'
import { chunksOf, randomBytesOf } from '../../harness/made/codec-streams.ts'
import { isCode } from '../../storage/assertions.ts'

const label = 'WALG_CSE_KMS_ID=alias/backups'

/** Keeps the keys that it has wrapped. */
class MemoryKms {
  readonly calls: ('unwrap' | 'wrap')[] = []
  readonly keys = new Map<string, Buffer>()
  /** The bytes that it was given, which are to be zeroed after. */
  readonly given: Buffer[] = []
  wrappedBytes = 184
  isOut = false

  wrap(dataKey: Buffer): Promise<Buffer> {
    this.calls.push('wrap')
    if (this.isOut) return Promise.reject(new WalrxError('WALRX_KEY_UNAVAILABLE', 'out'))
    const wrapped = randomBytes(this.wrappedBytes)
    this.keys.set(wrapped.toString('latin1'), Buffer.from(dataKey))
    this.given.push(dataKey)
    return Promise.resolve(wrapped)
  }

  unwrap(wrapped: Buffer): Promise<KeyObject | undefined> {
    this.calls.push('unwrap')
    if (this.isOut) return Promise.reject(new WalrxError('WALRX_KEY_UNAVAILABLE', 'out'))
    const key = this.keys.get(wrapped.toString('latin1'))
    return Promise.resolve(key && createSecretKey(key))
  }
}

const crypterOn = (kms: MemoryKms, limits: Partial<DataKeyLimits> = {}) =>
  new KmsCrypter(new DataKeys(kms, label, { ...dataKeyLimits, ...limits }), label)

async function* source(...chunks: Uint8Array[]): AsyncGenerator<Uint8Array, undefined> {
  for (const chunk of chunks) yield await Promise.resolve(chunk)
}

async function collect(chunks: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const output: Uint8Array[] = []
  for await (const chunk of chunks) output.push(chunk)
  return Buffer.concat(output)
}

const decrypt = (crypter: KmsCrypter, stored: Buffer) =>
  collect(crypter.decrypt(source(...chunksOf(stored, 1000, 70_000))))

async function inPlace(crypter: KmsCrypter, content: Buffer): Promise<Buffer> {
  const buffer = Buffer.alloc(content.length + encryptSlack(content.length), 0xee)
  content.copy(buffer)
  return Buffer.from(buffer.subarray(0, await crypter.encryptInPlace(buffer, content.length)))
}

describe('an object', () => {
  test('is read by another process, whichever way it was written', async () => {
    const kms = new MemoryKms()
    const writer = crypterOn(kms)
    for (const bytes of [1, 8192, 65_536, 65_537, 1_000_000]) {
      const content = randomBytesOf(bytes, bytes)
      const streamed = await collect(writer.encrypt(source(...chunksOf(content, 30_000))))
      const placed = await inPlace(writer, content)
      assert.equal(streamed.length, placed.length)
      for (const stored of [streamed, placed]) {
        const reader = crypterOn(kms)
        assert.equal(await reader.recognise(stored.subarray(0, reader.headBytes)), 'opens')
        assert.deepEqual(await decrypt(reader, stored), content)
      }
    }
    assert.ok(
      kms.given.every((bytes) => bytes.every((byte) => byte === 0)),
      'a data key stays in memory',
    )
  })

  test('that cannot be of this method is not asked about', async () => {
    const kms = new MemoryKms()
    const crypter = crypterOn(kms)
    for (const head of [
      Buffer.alloc(0),
      Buffer.alloc(184, 1),
      Buffer.alloc(200),
      randomBytesOf(1, 200),
      Buffer.alloc(300, 0x20),
    ]) {
      assert.equal(await crypter.recognise(head), 'other method')
    }
    assert.deepEqual(kms.calls, [])
  })

  test('of another key is recognised as such, and is no defect where it is read', async () => {
    const stored = await inPlace(crypterOn(new MemoryKms()), Buffer.from('content'))
    const crypter = crypterOn(new MemoryKms())
    assert.equal(await crypter.recognise(stored.subarray(0, 200)), 'other key')
    await assert.rejects(decrypt(crypter, stored), (error) => isCode(error, 'WALRX_KEY_WRONG'))
  })

  test('that is cut before its content is damaged', async () => {
    const kms = new MemoryKms()
    const stored = await inPlace(crypterOn(kms), randomBytesOf(1, 70_000))
    for (const bytes of [0, 100, 184, 190, 200, 65_751, 65_752, stored.length - 1]) {
      const cut = stored.subarray(0, bytes)
      await assert.rejects(decrypt(crypterOn(kms), cut), (error) => isCode(error, 'WALRX_OBJECT_DAMAGED'), `${bytes}`)
    }
  })

  test('is found in a ring of keys', async () => {
    const kms = new MemoryKms()
    const [old, present] = [crypterOn(kms), crypterOn(kms)]
    const ring = new Keyring({ load: () => Promise.resolve({ writing: present, reading: [] }) })
    const stored = await inPlace(old, Buffer.from('content'))
    assert.equal(
      String(await collect(ring.decrypt(new HeadedSource(source(stored)), () => Promise.resolve({ kind: 'random' })))),
      'content',
    )
    stored[3]! ^= 1
    await assert.rejects(
      collect(ring.decrypt(new HeadedSource(source(stored)), () => Promise.resolve({ kind: 'random' }))),
      (error) => isCode(error, 'WALRX_KEY_WRONG'),
    )
  })
})

describe('KMS is asked', () => {
  test('once to write many objects, and not for reading them in the same process', async () => {
    const kms = new MemoryKms()
    const crypter = crypterOn(kms)
    const contents = Array.from({ length: 50 }, (_, index) => randomBytesOf(index, 1000))
    const stored = await Promise.all(contents.map((content) => inPlace(crypter, content)))
    for (const [index, object] of stored.entries()) assert.deepEqual(await decrypt(crypter, object), contents[index])
    assert.deepEqual(kms.calls, ['wrap'])
  })

  test('once for each wrapped key that is read, also at the same time, and again after a failure', async () => {
    const kms = new MemoryKms()
    const stored = await inPlace(crypterOn(kms), Buffer.from('content'))
    const reader = crypterOn(kms)
    kms.isOut = true
    await assert.rejects(reader.recognise(stored.subarray(0, 200)), (error) => isCode(error, 'WALRX_KEY_UNAVAILABLE'))
    kms.isOut = false
    kms.calls.length = 0
    await Promise.all(Array.from({ length: 20 }, () => decrypt(reader, stored)))
    await reader.recognise(stored.subarray(0, 200))
    assert.deepEqual(kms.calls, ['unwrap'])
  })

  test('again for a key that was not used for longest, where many are remembered', async () => {
    const kms = new MemoryKms()
    const stored: Buffer[] = []
    for (let index = 0; index < 4; index++) stored.push(await inPlace(crypterOn(kms), Buffer.from('content')))
    const reader = crypterOn(kms, { remembered: 3 })
    kms.calls.length = 0
    for (const index of [0, 1, 2, 0, 3, 0, 2]) await decrypt(reader, stored[index]!)
    assert.equal(kms.calls.length, 4)
    await decrypt(reader, stored[1]!)
    assert.equal(kms.calls.length, 5)
  })

  test('for another data key after so many objects; while it is out, the present one goes on for a while', async () => {
    const kms = new MemoryKms()
    const crypter = crypterOn(kms, { objects: 32, objectsMax: 40 })
    const write = () => inPlace(crypter, Buffer.from('content'))
    const wrappedKeys = new Set<string>()
    for (let index = 0; index < 33; index++) wrappedKeys.add((await write()).toString('latin1', 0, 184))
    assert.deepEqual([wrappedKeys.size, kms.calls.length], [2, 2])
    kms.isOut = true
    kms.calls.length = 0
    // 31 until it would be renewed, then 8 more; at every second one KMS is asked.
    for (let index = 0; index < 39; index++) wrappedKeys.add((await write()).toString('latin1', 0, 184))
    assert.deepEqual([wrappedKeys.size, kms.calls.length], [2, 4])
    await assert.rejects(write(), (error) => isCode(error, 'WALRX_KEY_UNAVAILABLE'))
    kms.isOut = false
    wrappedKeys.add((await write()).toString('latin1', 0, 184))
    assert.equal(wrappedKeys.size, 3)
  })
})

test('a key of KMS that makes another length is refused: WAL-G could not read the object', async () => {
  for (const bytes of [167, 183, 185, 240]) {
    const kms = new MemoryKms()
    kms.wrappedBytes = bytes
    await assert.rejects(inPlace(crypterOn(kms), Buffer.from('content')), (error: WalrxError) => {
      assert.match(error.message, new RegExp(`^WALG_CSE_KMS_ID=alias/backups makes ${bytes} bytes of a data key`))
      return isCode(error, 'WALRX_OPTION_UNSUPPORTED')
    })
  }
})
