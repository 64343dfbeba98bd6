/** What can be known of an object by its first bytes, without the key: over real objects of every codec, and over random ones. */
import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { describe, test } from 'node:test'
import { gzipSync } from 'node:zlib'
import type { Codec } from '../../../src/compression/codec.ts'
import { codecOfExtension, openWriteCodec } from '../../../src/compression/codecs.ts'
import { beginningBytes, type BeginningTest, Keyring } from '../../../src/crypto/keyring.ts'
import { HeadedSource } from '../../../src/primitives/headed-source.ts'
import { judgeBeginning } from '../../../src/walg/stored/beginning.ts'
import { contentBytesMax } from '../../../src/walg/stored/plain-content.ts'
import { tailKey } from '../../../src/walg/names.ts'
import { encodeCopy } from '../../harness/made/codec-streams.ts'
import { makeHistory, makeSegment } from '../../harness/made/made-wal.ts'
import { testKey } from '../../harness/store/test-keys.ts'

const segment = '000000010000000000000002'
const wal = makeSegment(segment)
const backup = 'basebackups_005/base_000000010000000000000002'

/** A tar with one file. */
const tar = Buffer.alloc(10_240)
tar.write('base/1/1259')
tar.write('0000644', 100)
tar.write('00000020000', 124)
tar.write('ustar', 257)

/** Objects by their keys. */
const contents: readonly (readonly [key: string, content: Buffer])[] = [
  [`wal_005/${segment}`, wal],
  [`wal_005/${segment}`, makeSegment(segment, { pages: 1 })],
  [`wal_005/${segment}.partial`, wal],
  ['wal_005/00000003.history', Buffer.from(makeHistory(3))],
  [`wal_005/${segment}.00000028.backup`, Buffer.from('START WAL LOCATION: 0/2000028 (file …)\n'.repeat(4))],
  [tailKey(segment, { from: 0, to: 300 }, ''), wal.subarray(0, 300)],
  [tailKey(segment, { from: 8000, to: 9000 }, ''), wal.subarray(8000, 9000)],
  [tailKey(segment, { from: 100_000, to: 200_000 }, ''), wal.subarray(100_000, 200_000)],
  [`${backup}/tar_partitions/part_001.tar`, tar],
  [`${backup}/backup_manifest`, Buffer.from('{ "PostgreSQL-Backup-Manifest-Version": 2,\n"Files": []}')],
]

/** The codecs, and objects of them. */
const methods: readonly (readonly [extension: string, encode: (content: Buffer) => Promise<Buffer>])[] = [
  ...(['zstd', 'lz4', 'brotli', 'none'] as const).map((method) => {
    const codec = openWriteCodec(method)
    return [codec.extension, (content: Buffer) => encodeCopy(codec, content)] as const
  }),
  ['gz', (content) => Promise.resolve(gzipSync(content))],
]

const judge = async (stored: Buffer, key: string, codec: Codec) =>
  (await judgeBeginning(stored.subarray(0, beginningBytes), key, codec, stored.length <= beginningBytes)).kind

function randomBytesOf(seed: number, length: number): Buffer {
  const pieces: Buffer[] = []
  for (let at = 0; at * 64 < length; at++) pieces.push(createHash('sha512').update(`${seed} ${at}`).digest())
  return Buffer.concat(pieces).subarray(0, length)
}

test('the judge gets all that it needs, whatever the key needs', async () => {
  assert.ok(beginningBytes >= contentBytesMax + 64)
  const other = await testKey('other')
  // As of AWS KMS.
  const crypter = {
    ...({ method: 'AWS KMS', label: 'key', headBytes: 200, canDecrypt: true } as const),
    recognise: () => Promise.resolve('other method' as const),
    encrypt: (content: AsyncIterable<Uint8Array>) => other.encrypt(content),
    encryptInPlace: (buffer: Buffer, length: number) => other.encryptInPlace(buffer, length),
    decrypt: (stored: AsyncIterable<Uint8Array>) => other.decrypt(stored),
  }
  const load = () => Promise.resolve({ writing: crypter, reading: [] })
  const keyring = new Keyring({ load, acceptsUnencrypted: true })
  for (const [extension, encode] of methods) {
    const codec = codecOfExtension(extension, 'test')
    for (const [key, content] of contents) {
      const stored = await encode(content)
      const source = async function* () {
        for (let at = 0; at < stored.length; at += 1000) yield await Promise.resolve(stored.subarray(at, at + 1000))
      }
      const test: BeginningTest = (head, isWhole) => judgeBeginning(head, key, codec, isWhole)
      const look = await keyring.lookAt(new HeadedSource(source()), test)
      assert.equal(look.kind, 'plain', `${key} ${extension}`)
    }
  }
})

for (const [extension, encode] of methods) {
  describe(`an object with the extension "${extension}"`, () => {
    const codec = codecOfExtension(extension, 'test')
    const named = (key: string) => (extension === '' ? key : `${key}.${extension}`)

    test('is known for one that is not encrypted', async () => {
      for (const [key, content] of contents) {
        assert.equal(await judge(await encode(content), named(key), codec), 'plain', key)
      }
    })

    test('is known for an encrypted one, or a random one, whatever it holds', async () => {
      const crypter = await testKey('one')
      for (const [key, content] of contents) {
        for (let turn = 0; turn < 5; turn++) {
          const encrypted: Uint8Array[] = []
          const encoded = await encode(content)
          const source = (async function* () {
            yield await Promise.resolve(encoded)
          })()
          for await (const piece of crypter.encrypt(source)) encrypted.push(piece)
          assert.equal(await judge(Buffer.concat(encrypted), named(key), codec), 'random', key)
        }
      }
    })

    test('is damaged where it is empty, zeros, text, or has one wrong byte in its mark', async () => {
      const [key] = contents[0] as (typeof contents)[0]
      for (const damaged of [Buffer.alloc(0), Buffer.alloc(20), Buffer.alloc(50_000), Buffer.from('no frame')]) {
        assert.equal(await judge(damaged, named(key), codec), 'damaged')
      }
      if (!codec.begins) return
      const encoded = await encode(randomBytesOf(1, 50_000))
      assert.equal(await judge(encoded, named(key), codec), 'plain')
      for (let at = 0; at < 4; at++) {
        for (let bit = 0; bit < 8; bit++) {
          const flipped = Buffer.from(encoded)
          flipped[at] = (flipped[at] ?? 0) ^ (1 << bit)
          // Gzip's mark has three bytes.
          const expected: string = codec.begins(flipped) ? 'plain' : 'damaged'
          assert.equal(await judge(flipped, named(key), codec), expected, `byte ${at}, bit ${bit}`)
        }
      }
    })
  })
}

test('of thousands of random objects hardly any is taken for one that is not encrypted', async (t) => {
  const count = 1000
  for (const [extension] of methods) {
    const codec = codecOfExtension(extension, 'test')
    let taken = 0
    for (let seed = 0; seed < count; seed++) {
      const [key] = contents[seed % contents.length] as (typeof contents)[0]
      const name = extension === '' ? key : `${key}.${extension}`
      const kind = await judge(randomBytesOf(seed, beginningBytes), name, codec)
      if (kind !== 'random') taken++
    }
    t.diagnostic(`"${extension}": ${taken} of ${count}`)
    assert.ok(taken <= 1, `"${extension}": ${taken} of ${count}`)
  }
})

describe('a method with a mark is named', () => {
  const codec = codecOfExtension('zst', 'test')
  const marks = async (head: Buffer) => {
    const beginning = await judgeBeginning(head, `wal_005/${segment}.zst`, codec, false)
    assert.equal(beginning.kind, 'marked')
    return beginning.kind === 'marked' ? beginning.says : ''
  }

  test('OpenPGP with its keys', async () => {
    const keyId = Buffer.from('0123456789abcdef', 'hex')
    // New format, tag 1, 268 bytes: version 3, key, RSA, a number of 2048 bits.
    const number = Buffer.concat([Buffer.from([0x08, 0x00, 0x80]), randomBytesOf(1, 255)])
    const packet = Buffer.concat([Buffer.from([0xc1, 0xc0, 0x4c, 3]), keyId, Buffer.from([1]), number])
    const data = Buffer.concat([Buffer.from([0xd2, 0xed]), randomBytesOf(2, 8000)])
    assert.equal(await marks(Buffer.concat([packet, data])), 'is encrypted to OpenPGP key 0123456789ABCDEF')
    assert.equal(
      await marks(Buffer.concat([packet, packet, data])),
      'is encrypted to OpenPGP keys 0123456789ABCDEF, 0123456789ABCDEF',
    )
    // Old format, tag 3, version 4.
    const symmetric = Buffer.concat([Buffer.from([0x8c, 0x0d, 4, 9, 3, 8]), randomBytesOf(3, 9)])
    assert.equal(await marks(Buffer.concat([symmetric, data])), 'is encrypted with an OpenPGP passphrase')
  })

  test("Yandex Cloud's KMS by both of its marks", async () => {
    for (const mark of ['envelope-yc-kms', 'yckms']) {
      const head = Buffer.concat([Buffer.from(mark), Buffer.from([1]), randomBytesOf(4, 5000)])
      assert.equal(await marks(head), `is encrypted with a key of Yandex Cloud KMS (${mark})`)
    }
  })
})
