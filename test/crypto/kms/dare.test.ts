import assert from 'node:assert/strict'
import { createHash, createSecretKey, type KeyObject, randomBytes } from 'node:crypto'
import { describe, test } from 'node:test'
import {
  beginsDare,
  dareBytes,
  type DareCipher,
  openDare,
  sealDare,
  sealDareInPlace,
} from '../../../src/crypto/kms/dare.ts'
import { ByteReader } from '../../../src/primitives/byte-reader.ts'
import { chunksOf, randomBytesOf } from '../../harness/made/codec-streams.ts'
import { Random } from '../../harness/random.ts'
import { isCode } from '../../storage/assertions.ts'

const key = createSecretKey(Buffer.from(Array.from({ length: 32 }, (_, index) => index)))
const nonce = Buffer.from(Array.from({ length: 12 }, (_, index) => 0xf0 + index))
const content = (bytes: number) =>
  Buffer.from(Array.from({ length: bytes }, (_, index) => (index * 7 + (index >> 8)) & 255))

async function* source(chunks: Iterable<Uint8Array>): AsyncGenerator<Uint8Array, undefined> {
  for (const chunk of chunks) yield await Promise.resolve(chunk)
}

async function seal(bytes: Buffer, options = {}, ...lengths: number[]): Promise<Buffer> {
  const output: Buffer[] = []
  for await (const chunk of sealDare(source(chunksOf(bytes, ...lengths)), key, options)) output.push(chunk)
  return Buffer.concat(output)
}

async function open(stored: Buffer, as: KeyObject = key, ...lengths: number[]): Promise<Buffer> {
  const output: Buffer[] = []
  const reader = new ByteReader(source(chunksOf(stored, ...lengths)), 'encrypted object')
  for await (const chunk of openDare(reader, as)) output.push(chunk)
  return Buffer.concat(output)
}

/**
 * What sio v0.5.1 makes of `content(bytes)`, written 50,000 bytes at a time, with the key and the nonce above: cipher, bytes, bytes
 * of the stream and its SHA-256. Made by a Go program that calls `sio.EncryptWriter(&out, sio.Config{Key: key, CipherSuites:
 * []byte{cipher}, Nonce: &nonce})`.
 */
const ofSio: readonly (readonly [cipher: DareCipher, bytes: number, stored: number, sha256: string])[] = [
  [0, 1, 33, '33d4cc58e811781c84f7df263159dbde0e8f61f15b19553d468632ef1f95fc4e'],
  [0, 20, 52, '2d3b38f0c18fffc7ccfc07899c7d04d5452d3e680f36e811192db9b38d8f0823'],
  [0, 65535, 65567, 'cf1ba2962089004bd3f9aa63ecdf730dda5d3796342c955784bd3cecf0d8f883'],
  [0, 65536, 65568, 'ac41924d732c3d7c9e06b8ffdd69b77fdc354f658bacfccd40e65971e8b4ec9d'],
  [0, 65537, 65601, '65b80c8e91398105d3cab32e000cf207ddcd7fbfa1a83efba4e4e26774679117'],
  [0, 131072, 131136, 'efc4cc8342544614c71d43ad85b0ad48502c44e4b9a54861ed7a405d1447836c'],
  [0, 200000, 200128, '44bc6e44feca1b23daabd8c0fc1ce77e0fed07ba74f4895b31996b535e681a56'],
  [1, 1, 33, '4ad292b8acb610689afda42396316bbd1dfe9888ade72033547ce7ba0f42ac3a'],
  [1, 20, 52, 'e225c180e6b326b34ef35d56cfe6fea6767c617d3a71e5f2ca2c32ae61a143cc'],
  [1, 65535, 65567, '368fde6fdb33a293ab5e2c6bdb688289cc9b1bedf3f2b90abba98e072374530d'],
  [1, 65536, 65568, '6b2ff5649835d23ae29d7ca9f7642f0e8e1b03aeb0c35ac13cf26b1fd66b8223'],
  [1, 65537, 65601, '546488d9929e474ce9add1051c62e1c8db9829010fa6fcf09d6249c4d2ad1ee6'],
  [1, 131072, 131136, '820c24be69920ad03486c6f4db277e090ebb4b543f1a55cfa606e09bd34fa4e0'],
  [1, 200000, 200128, '5ecd82e06b0c6e3c50ea8efda7d864cbba8e67b035731270c1a95114c123074e'],
]

/** Its streams of 20 bytes, whole. */
const small = [
  '20001300f0f1f2f3f4f5f6f7f8f9fafb69014d156019f845a7c8b1d7da1100df609627470535a8a895e922b163eb0cccf07ad5cd',
  '20011300f0f1f2f3f4f5f6f7f8f9fafbc04b30d39b8bf4e667c1ddb0d3765ab845fcda1744613f683a92f7898244a21bd70b128d',
]

describe('a stream', () => {
  for (const [cipher, bytes, stored, sha256] of ofSio) {
    test(`of ${bytes} bytes with cipher ${cipher} is the one that sio writes`, async () => {
      const sealed = await seal(content(bytes), { cipher, nonce }, 7001, 1)
      assert.equal(sealed.length, stored)
      assert.equal(createHash('sha256').update(sealed).digest('hex'), sha256)
      assert.deepEqual(await open(sealed, key, 70_001, 13), content(bytes))
    })
  }

  test('of sio is read', async () => {
    for (const hex of small) assert.deepEqual(await open(Buffer.from(hex, 'hex')), content(20))
  })

  test('is made in a buffer of its content', async () => {
    for (const bytes of [1, 65_535, 65_536, 65_537, 131_072, 3_000_000]) {
      const buffer = Buffer.concat([randomBytesOf(bytes, bytes), Buffer.alloc(184 + dareBytes(bytes) - bytes)])
      await sealDareInPlace(buffer, bytes, 184, key)
      assert.deepEqual(await open(buffer.subarray(184)), randomBytesOf(bytes, bytes), `${bytes} bytes`)
    }
  })

  test('has a nonce of its own', async () => {
    const nonces = new Set<string>()
    for (let index = 0; index < 100; index++) nonces.add((await seal(content(1))).subarray(4, 16).toString('hex'))
    assert.equal(nonces.size, 100)
  })

  test('of no content cannot be made, and none is read from nothing', async () => {
    await assert.rejects(seal(Buffer.alloc(0)), (error) => isCode(error, 'WALRX_INTERNAL'))
    await assert.rejects(sealDareInPlace(Buffer.alloc(300), 0, 184, key), (error) => isCode(error, 'WALRX_INTERNAL'))
    await assert.rejects(open(Buffer.alloc(0)), (error) => isCode(error, 'WALRX_OBJECT_DAMAGED'))
  })

  test('lets others run, and keeps no more than it needs', async () => {
    const buffer = Buffer.alloc(184 + dareBytes(32 << 20), 1)
    for (const work of [
      () => sealDareInPlace(buffer, 32 << 20, 184, key),
      async () => {
        const reader = new ByteReader(source([buffer.subarray(184)]), 'encrypted object')
        for await (const chunk of openDare(reader, key)) assert.ok(chunk.length <= 65_536)
      },
      async () => {
        for await (const chunk of sealDare(source([buffer]), key)) assert.ok(chunk.length <= 65_568)
      },
    ]) {
      let turns = 0
      const count = () => {
        turns++
        timer = setImmediate(count)
      }
      let timer = setImmediate(count)
      await work().finally(() => clearImmediate(timer))
      assert.ok(turns >= 30, `${turns} turns`)
    }
  })

  test('of another key is damaged', async () => {
    const sealed = await seal(content(70_000))
    await assert.rejects(open(sealed, createSecretKey(randomBytes(32))), (error) =>
      isCode(error, 'WALRX_OBJECT_DAMAGED'),
    )
  })

  test('of DARE 1.0 is refused by its name', async () => {
    const sealed = await seal(content(100))
    sealed[0] = 0x10
    await assert.rejects(open(sealed), (error) => isCode(error, 'WALRX_CODEC_UNSUPPORTED'))
  })
})

test('a beginning is known by its header', async () => {
  for (const bytes of [1, 65_536, 65_537]) assert.ok(beginsDare((await seal(content(bytes))).subarray(0, 16)))
  assert.ok(!beginsDare(Buffer.from('2000ffff70f1f2f3f4f5f6f7f8f9fa', 'hex')), 'too short')
  assert.ok(!beginsDare(Buffer.from('2100ffff70f1f2f3f4f5f6f7f8f9fafb', 'hex')), 'another version')
  assert.ok(!beginsDare(Buffer.from('2002ffff70f1f2f3f4f5f6f7f8f9fafb', 'hex')), 'another cipher')
  assert.ok(!beginsDare(Buffer.from('2000feff70f1f2f3f4f5f6f7f8f9fafb', 'hex')), 'a short package that is not the last')
})

/** The packages of a stream. */
function packagesOf(stream: Buffer): Buffer[] {
  const packages: Buffer[] = []
  for (let at = 0; at < stream.length; at += 65_568) packages.push(stream.subarray(at, at + 65_568))
  return packages
}

/** Ways to change a stream; each gives other bytes. */
const changes: readonly (readonly [name: string, change: (stream: Buffer, other: Buffer, random: Random) => Buffer])[] =
  [
    [
      'a bit is flipped',
      (stream, _, random) => {
        const changed = Buffer.from(stream)
        // The headers are few among so many bytes: half of the flips are there.
        const at = random.chance(0.5)
          ? random.int(0, packagesOf(stream).length - 1) * 65_568 + random.int(0, 15)
          : random.int(0, stream.length - 1)
        changed[at]! ^= 1 << random.int(0, 7)
        return changed
      },
    ],
    ['the end is cut off', (stream, _, random) => stream.subarray(0, random.int(0, stream.length - 1))],
    [
      'packages are cut off',
      (stream, _, random) => stream.subarray(0, random.int(0, packagesOf(stream).length - 1) * 65_568),
    ],
    [
      'bytes follow',
      (stream, other, random) => Buffer.concat([stream, other.subarray(0, random.int(1, other.length))]),
    ],
    [
      'two packages are swapped',
      (stream, _, random) => {
        const packages = packagesOf(stream)
        const first = random.int(0, packages.length - 2)
        const second = random.int(first + 1, packages.length - 1)
        return Buffer.concat(packages.with(first, packages[second]!).with(second, packages[first]!))
      },
    ],
    [
      'a package is repeated',
      (stream, _, random) => {
        const packages = packagesOf(stream)
        const at = random.int(0, packages.length - 1)
        return Buffer.concat(packages.toSpliced(at, 0, packages[at]!))
      },
    ],
    [
      'a package is dropped',
      (stream, _, random) => {
        const packages = packagesOf(stream)
        return Buffer.concat(packages.toSpliced(random.int(0, packages.length - 1), 1))
      },
    ],
    [
      'a package comes from another stream of the same key',
      (stream, other, random) => {
        const [packages, others] = [packagesOf(stream), packagesOf(other)]
        // The first package says which stream it is: with that of another one, all that follow are changed.
        const at = random.int(1, packages.length - 1)
        return Buffer.concat(packages.with(at, others[at]!))
      },
    ],
  ]

describe('a stream is damaged, and no changed byte comes out of it, where', () => {
  const seed = Date.now() % 1_000_000
  for (const [name, change] of changes) {
    test(`${name} (seed ${seed})`, async () => {
      const random = new Random(seed)
      for (let round = 0; round < 15; round++) {
        const cipher = random.pick<DareCipher>([0, 1])
        const bytes = randomBytesOf(random.int(1, 1000), random.int(65_537, 300_000))
        const stream = await seal(bytes, { cipher })
        const changed = change(stream, await seal(randomBytesOf(7, bytes.length), { cipher }), random)
        const output: Buffer[] = []
        const read = async () => {
          const reader = new ByteReader(source(chunksOf(changed, 100_000)), 'encrypted object')
          for await (const chunk of openDare(reader, key)) output.push(chunk)
        }
        await assert.rejects(read, (error) => isCode(error, 'WALRX_OBJECT_DAMAGED'))
        const seen = Buffer.concat(output)
        assert.ok(seen.equals(bytes.subarray(0, seen.length)), `${seen.length} bytes came out`)
      }
    })
  }
})
