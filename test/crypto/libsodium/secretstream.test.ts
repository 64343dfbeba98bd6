import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { encryptSlack } from '../../../src/crypto/crypter.ts'
import { hasCode } from '../../../src/primitives/errors.ts'
import { decryptHandedOver } from '../../../src/crypto/libsodium/secretstream.ts'
import { chunksOf, randomBytesOf } from '../../harness/made/codec-streams.ts'
import {
  chunkBytes,
  chunkRanges,
  collect,
  contentBytes,
  crypterOf,
  encryptCopy,
  headerBytes,
  keyOf,
  objectOfChunks,
  pynaclDecrypt,
  pynaclEncrypt,
  sourceOf,
  tags,
  withoutPynacl,
} from '../../harness/made/secretstreams.ts'
import { Random } from '../../harness/random.ts'

/** Around every border: of a chunk, of a turn of 32 chunks, of what the output is ahead. */
const lengths = [
  ...[0, 1, 16, 17, 100, contentBytes - 1, contentBytes, contentBytes + 1, 2 * contentBytes, 3 * contentBytes - 17],
  ...[32 * contentBytes - 1, 32 * contentBytes, 32 * contentBytes + 1, 64 * contentBytes, 1_000_000],
]

const crypter = await crypterOf(1)
const isDamaged = (error: unknown) => hasCode(error, 'WALRX_OBJECT_DAMAGED')

/** Chunks of one byte to a megabyte, mostly small ones. */
function drawLengths(random: Random): number[] {
  return Array.from({ length: 5 }, () =>
    random.pick([1, 7, 24, 41, 8191, 8192, 8209, 65_536, 1 << 20, random.int(1, 20_000)]),
  )
}

describe('an object of any length', () => {
  for (const length of lengths) {
    const content = randomBytesOf(length, length)
    const size = headerBytes + length + 17 * (Math.floor(length / contentBytes) + 1)

    test(`${length} bytes come back, however they were encrypted, and however they arrive`, async () => {
      const random = new Random(length)
      const cuts = drawLengths(random)
      const streamed = await collect(crypter.encrypt(sourceOf(chunksOf(content, ...cuts))))
      const reused = await collect(crypter.encrypt(sourceOf(chunksOf(content, ...cuts)), { reusesChunks: true }))
      for (const object of [await encryptCopy(crypter, content), streamed, reused]) {
        assert.equal(object.length, size)
        for (const reusesChunks of [false, true]) {
          const source = sourceOf(chunksOf(object, ...drawLengths(random)))
          assert.ok((await collect(crypter.decrypt(source, { reusesChunks }))).equals(content), `seed ${length}`)
        }
      }
    })
  }

  test('is one stream to PyNaCl, and from it', { skip: withoutPynacl }, async () => {
    const contents = lengths.map((length) => randomBytesOf(length, length))
    const objects: Buffer[] = []
    for (const content of contents) {
      objects.push(await encryptCopy(crypter, content))
      objects.push(await collect(crypter.encrypt(sourceOf(chunksOf(content, 10_000)))))
    }
    const twice = contents.flatMap((content) => [content, content])
    assert.deepEqual(pynaclDecrypt(keyOf(1), objects), twice)
    for (const [index, theirs] of pynaclEncrypt(keyOf(1), contents).entries()) {
      assert.equal(theirs.length, objects[2 * index]?.length)
      assert.ok((await collect(crypter.decrypt(sourceOf(chunksOf(theirs, 65_536))))).equals(contents[index]!))
    }
  })

  test('a segment that does not compress is encrypted inside its buffer', async () => {
    const content = randomBytesOf(1, 16 * 1024 * 1024)
    const object = await encryptCopy(crypter, content)
    assert.ok((await collect(crypter.decrypt(sourceOf(chunksOf(object, 1 << 20))))).equals(content))
  })

  test('a buffer is not written beyond what was promised', async () => {
    for (const length of lengths) {
      const bytes = length + encryptSlack(length)
      const memory = Buffer.alloc(bytes + 100, 0xab)
      await crypter.encryptInPlace(memory.subarray(0, bytes), length)
      assert.ok(memory.subarray(bytes).every((byte) => byte === 0xab))
    }
  })
})

describe('encryption', () => {
  test('makes another object each time', async () => {
    const content = randomBytesOf(1, 100)
    const objects = await Promise.all([1, 2, 3].map(() => encryptCopy(crypter, content)))
    assert.equal(new Set(objects.map((object) => object.toString('hex', 0, headerBytes))).size, 3)
  })

  test('of several segments at a time keeps them apart', async () => {
    const contents = [1, 2, 3, 4].map((seed) => randomBytesOf(seed, 2_000_000 + seed))
    const objects = await Promise.all(contents.map((content) => encryptCopy(crypter, content)))
    for (const [index, object] of objects.entries()) {
      assert.ok((await collect(crypter.decrypt(sourceOf([object])))).equals(contents[index]!))
    }
  })

  test('of a segment lets the event loop turn: 64 times for 16 MB', async () => {
    let turns = 0
    let isDone = false
    const count = () => {
      turns++
      if (!isDone) setImmediate(count)
    }
    setImmediate(count)
    await encryptCopy(crypter, Buffer.alloc(16 * 1024 * 1024))
    isDone = true
    assert.ok(turns >= 60, `${turns} turns`)
  })

  test('does not need a chunk of its content once the next is asked for', async () => {
    const content = randomBytesOf(5, 300_000)
    const memory = Buffer.alloc(50_000)
    const reusing = async function* () {
      for (const chunk of chunksOf(content, 50_000, 123, 4096)) {
        yield await Promise.resolve(memory.subarray(0, chunk.copy(memory)))
        memory.fill(0)
      }
    }
    const object = await collect(crypter.encrypt(reusing()))
    assert.ok((await collect(crypter.decrypt(sourceOf([object])))).equals(content))
  })

  test('never changes what has come out', async () => {
    const outputs: { readonly chunk: Uint8Array; readonly copy: Buffer }[] = []
    for await (const chunk of crypter.encrypt(sourceOf(chunksOf(randomBytesOf(6, 2_000_000), 300_000)))) {
      outputs.push({ chunk, copy: Buffer.from(chunk) })
    }
    for (const { chunk, copy } of outputs) assert.ok(copy.equals(chunk))
  })

  test('fills one block again and again where it may, and lets the event loop turn meanwhile', async () => {
    const content = randomBytesOf(7, 9_000_000)
    const memories = new Set<ArrayBufferLike>()
    const object: Buffer[] = []
    let turns = 0
    const count = () => {
      turns++
      turning = setImmediate(count)
    }
    let turning = setImmediate(count)
    // As a lane's chunks are, and long enough to fill blocks from one alone.
    for await (const chunk of crypter.encrypt(sourceOf(chunksOf(content, 4_000_000)), { reusesChunks: true })) {
      memories.add(chunk.buffer)
      object.push(Buffer.from(chunk))
      assert.ok(chunk.length <= 1_100_000, `${chunk.length} bytes`)
    }
    clearImmediate(turning)
    assert.equal(memories.size, 1)
    assert.ok(turns >= 30, `${turns} turns`)
    assert.ok((await collect(crypter.decrypt(sourceOf(object)))).equals(content))
  })

  test('takes twice the memory that a small object has at most, whatever may be reused', async () => {
    for (const reusesChunks of [false, true]) {
      for await (const { buffer } of crypter.encrypt(sourceOf([randomBytesOf(8, 20_000)]), { reusesChunks })) {
        assert.ok(buffer.byteLength < 41_000, `${buffer.byteLength} bytes`)
      }
    }
  })

  test('gives a small object out in one chunk', async () => {
    const outputs = []
    for await (const chunk of crypter.encrypt(sourceOf([Buffer.from('{"a":1}')]))) outputs.push(chunk)
    assert.equal(outputs.length, 1)
  })

  test('leaves no content unencrypted in memory that libsodium may not see: it fails, or encrypts', async () => {
    const content = randomBytesOf(7, 100_000)
    const shared = Buffer.from(new SharedArrayBuffer(content.length + encryptSlack(content.length)))
    const inPlace = async () => {
      content.copy(shared)
      return Buffer.from(shared.subarray(0, await crypter.encryptInPlace(shared, content.length)))
    }
    const streamed = () => collect(crypter.encrypt(sourceOf([shared.subarray(0, content.length)])))
    for (const encrypt of [inPlace, streamed]) {
      content.copy(shared)
      const object = await encrypt().catch((error: unknown) => {
        assert.ok(hasCode(error, 'WALRX_INTERNAL'), String(error))
      })
      if (object) assert.ok((await collect(crypter.decrypt(sourceOf([object])))).equals(content))
    }
  })

  test('frees the source when its reader has enough', async () => {
    let isFree = false
    const endless = async function* () {
      try {
        for (;;) yield await Promise.resolve(Buffer.alloc(100_000))
      } finally {
        isFree = true
      }
    }
    for await (const chunk of crypter.encrypt(endless())) if (chunk.length > 0) break
    assert.ok(isFree)
  })
})

describe('decryption', () => {
  const content = randomBytesOf(9, 3_000_000)

  test('never changes what has come out, unless its reader allows it', async () => {
    const object = await encryptCopy(crypter, content)
    for (const reusesChunks of [false, true]) {
      const outputs: { readonly chunk: Uint8Array; readonly copy: Buffer }[] = []
      for await (const chunk of crypter.decrypt(sourceOf(chunksOf(object, 65_536)), { reusesChunks })) {
        outputs.push({ chunk, copy: Buffer.from(chunk) })
      }
      assert.ok(Buffer.concat(outputs.map(({ copy }) => copy)).equals(content))
      assert.equal(outputs.filter(({ chunk, copy }) => !copy.equals(chunk)).length > 0, reusesChunks)
      const memories = new Set(outputs.map(({ chunk }) => chunk.buffer))
      assert.equal(memories.size <= 2, reusesChunks, `${memories.size} blocks of memory`)
    }
  })

  test('does not change what it reads', async () => {
    const object = await encryptCopy(crypter, content)
    const copy = Buffer.from(object)
    await collect(crypter.decrypt(sourceOf(chunksOf(object, 65_536, 5))))
    assert.ok(object.equals(copy))
  })

  test('gives out blocks of up to 256 kB, whatever it reads', async () => {
    const object = await encryptCopy(crypter, content)
    for (const length of [1000, 65_536, object.length]) {
      const sizes: number[] = []
      for await (const chunk of crypter.decrypt(sourceOf(chunksOf(object, length)))) sizes.push(chunk.length)
      assert.ok(Math.max(...sizes) <= 262_144)
      assert.ok(sizes.length <= Math.ceil(content.length / 262_144) + 2, `${sizes.length} blocks`)
    }
  })

  test('takes no more memory for a small object than it has', async () => {
    const object = await encryptCopy(crypter, content.subarray(0, 20_000))
    for await (const chunk of crypter.decrypt(sourceOf([object]))) assert.ok(chunk.buffer.byteLength <= 24_576)
  })

  test('frees the source when its reader has enough', async () => {
    const object = await encryptCopy(crypter, content)
    let isFree = false
    const source = async function* () {
      try {
        for (const chunk of chunksOf(object, 65_536)) yield await Promise.resolve(chunk)
      } finally {
        isFree = true
      }
    }
    for await (const chunk of crypter.decrypt(source())) if (chunk.length > 0) break
    assert.ok(isFree)
  })

  test('throws what its source throws', async () => {
    const failure = new Error('the connection broke')
    const source = async function* () {
      yield* sourceOf([(await encryptCopy(crypter, content)).subarray(0, 100_000)])
      throw failure
    }
    await assert.rejects(collect(crypter.decrypt(source())), failure)
  })
})

describe('objects as WAL-G reads them, or does not', () => {
  const full = randomBytesOf(3, contentBytes)
  const short = randomBytesOf(4, 1000)
  const { message, push, rekey, final } = tags
  const read = async (chunks: { content: Buffer; tag: number }[]) =>
    collect(crypter.decrypt(sourceOf([await objectOfChunks(keyOf(1), chunks)])))

  test('the tags PUSH and REKEY, which nobody writes, are read as MESSAGE is', async () => {
    const chunks = [push, rekey, message, rekey].map((tag) => ({ content: full, tag }))
    const object = await read([...chunks, { content: short, tag: final }])
    assert.ok(object.equals(Buffer.concat([full, full, full, full, short])))
  })

  test('an object without its final chunk is incomplete: WAL-G takes it for whole', async () => {
    for (const tag of [message, push, rekey]) {
      for (const content of [full, short, Buffer.alloc(0)]) {
        await assert.rejects(
          read([
            { content: full, tag: message },
            { content, tag },
          ]),
          isDamaged,
        )
      }
    }
  })

  test('a full chunk with FINAL is refused, as WAL-G refuses it', async () => {
    await assert.rejects(read([{ content: full, tag: final }]), isDamaged)
    await assert.rejects(
      read([
        { content: full, tag: final },
        { content: short, tag: final },
      ]),
      isDamaged,
    )
  })

  test('a chunk that is not full is the last one', async () => {
    await assert.rejects(
      read([
        { content: short, tag: message },
        { content: short, tag: final },
      ]),
      isDamaged,
    )
    await assert.rejects(
      read([
        { content: short, tag: final },
        { content: short, tag: final },
      ]),
      isDamaged,
    )
  })

  test('what WAL-G makes of an empty file, by no key, is not read', async () => {
    const sealedByNobody = Buffer.from('9c08f276d1f4bc1e88fd630d9ff14d74bf', 'hex')
    await assert.rejects(collect(crypter.decrypt(sourceOf([sealedByNobody]))), isDamaged)
    assert.equal(await crypter.recognise(sealedByNobody), 'other key')
  })
})

describe('a key is recognised', () => {
  test('by the first chunk of an object, short or full, and no other key is', async () => {
    const other = await crypterOf(2)
    for (const length of [0, 5, contentBytes, 3 * contentBytes]) {
      const object = await encryptCopy(crypter, randomBytesOf(1, length))
      assert.equal(chunkRanges(object.length).length, Math.floor(length / contentBytes) + 1)
      const head = object.subarray(0, crypter.headBytes)
      assert.equal(crypter.headBytes, headerBytes + chunkBytes)
      assert.equal(await crypter.recognise(head), 'opens')
      assert.equal(await other.recognise(head), 'other key')
      assert.equal(await crypter.recognise(head.subarray(0, -1)), 'other key')
    }
  })

  test('by nothing shorter than a header and a chunk', async () => {
    for (let length = 0; length < headerBytes + 17; length++) {
      assert.equal(await crypter.recognise(randomBytesOf(1, length)), 'other key')
    }
  })
})

describe('what opens an object, on another thread', () => {
  const handed = async () => {
    const object = await encryptCopy(crypter, Buffer.from('content'))
    return { object, opens: crypter.handOver?.(object.subarray(0, crypter.headBytes)) ?? assert.fail() }
  }
  const isZero = (bytes: Uint8Array) => bytes.every((byte) => byte === 0)
  const read = async (opens: Uint8Array, stored: AsyncIterable<Uint8Array>) => {
    for await (const piece of decryptHandedOver(opens, stored)) piece.free()
  }

  test('is zeroed however little of the object was read', async () => {
    const { object } = await handed()
    for (const length of [0, 1, 23, 24, 30, object.length]) {
      const { opens } = await handed()
      assert.ok(!isZero(opens))
      await read(opens, sourceOf([object.subarray(0, length)])).catch(() => {})
      assert.ok(isZero(opens), `after ${length} bytes`)
    }
    const { opens } = await handed()
    const failing = (async function* () {
      if (opens.length === 0) yield opens
      throw await Promise.resolve(new Error('made up'))
    })()
    await assert.rejects(read(opens, failing), /made up/)
    assert.ok(isZero(opens))
  })
})
