/** Every change of an object is reported, and none passes as complete. */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import * as openpgp from 'openpgp'
import type { Crypter } from '../../../src/crypto/crypter.ts'
import { parseMessageHead } from '../../../src/crypto/openpgp/message-head.ts'
import { Keyring } from '../../../src/crypto/keyring.ts'
import { hasCode } from '../../../src/primitives/errors.ts'
import { HeadedSource } from '../../../src/primitives/headed-source.ts'
import { randomBytesOf } from '../../harness/made/codec-streams.ts'
import { bytesOf, crypterOf, encryptedInPlace, madeKey, ringOf, sourceOf } from '../../harness/made/openpgp-keys.ts'
import { Random } from '../../harness/random.ts'

const key = await madeKey()
const other = await madeKey()
const crypter = await crypterOf(key.secret)
const content = randomBytesOf(1, 300_000)

const refusals = ['WALRX_OBJECT_DAMAGED', 'WALRX_KEY_WRONG', 'WALRX_CODEC_UNSUPPORTED'] as const
const isRefused = (error: unknown) => refusals.some((code) => hasCode(error, code))

/** Where the encrypted data begins. */
function dataStart(object: Buffer): number {
  const { body } = parseMessageHead(object)?.recipients.at(-1) ?? assert.fail('no recipient')
  return body.byteOffset + body.length - object.byteOffset
}

/** As the program reads it: by a ring of keys. Nothing but an error may end it. */
async function refuses(object: Uint8Array, what: string): Promise<void> {
  const keyring = new Keyring({ load: () => Promise.resolve({ writing: crypter, reading: [] }) })
  await assert.rejects(
    bytesOf(keyring.decrypt(new HeadedSource(sourceOf(object, 20_000)), () => Promise.resolve({ kind: 'random' }))),
    isRefused,
    what,
  )
}

/** Objects of every shape that is read. */
const shapes: Record<string, () => Promise<Uint8Array>> = {
  'a stream': () => bytesOf(crypter.encrypt(sourceOf(content, 10_000))),
  'one buffer': () => encryptedInPlace(crypter, content),
  'a small object': () => encryptedInPlace(crypter, content.subarray(0, 300)),
  'no content': () => encryptedInPlace(crypter, Buffer.alloc(0)),
  'two recipients': async () =>
    encryptedInPlace(await crypterOf(await ringOf(other.open, key.open)), content.subarray(0, 5000)),
  'compressed content': () => byLibrary({ preferredCompressionAlgorithm: openpgp.enums.compression.zlib }),
  'authenticated encryption': async () => {
    const aead = await openpgp.readPrivateKey({ armoredKey: (await aeadKey).secret })
    return openpgp.encrypt({
      message: await openpgp.createMessage({ binary: content }),
      encryptionKeys: aead,
      format: 'binary',
    })
  },
}

const aeadKey = madeKey({ config: { aeadProtect: true } })

async function byLibrary(config: openpgp.PartialConfig): Promise<Uint8Array> {
  const message = await openpgp.createMessage({ binary: content.subarray(0, 50_000) })
  const encryptionKeys = await openpgp.readKey({ armoredKey: key.open })
  return openpgp.encrypt({ message, encryptionKeys, format: 'binary', config })
}

async function crypterFor(name: string): Promise<Crypter> {
  return name === 'authenticated encryption' ? crypterOf((await aeadKey).secret) : crypter
}

for (const [name, make] of Object.entries(shapes)) {
  describe(name, async () => {
    const object = Buffer.from(await make())
    const reader = await crypterFor(name)
    const random = new Random(object.length)
    const trials = 40
    const places = () => [
      ...Array.from({ length: 24 }, (_, n) => n % object.length),
      ...Array.from({ length: 24 }, (_, n) => object.length - 1 - n),
      ...Array.from({ length: trials }, () => random.int(0, object.length - 1)),
    ]
    const refused = async (bytes: Uint8Array, what: string): Promise<void> => {
      if (reader === crypter) return refuses(bytes, what)
      await assert.rejects(bytesOf(reader.decrypt(sourceOf(bytes, 20_000))), isRefused, what)
    }

    // Nothing authenticates the packets with the session key: that of another recipient may change, and what a program does not
    // look at in ours. The content cannot.
    const beginning = dataStart(object)
    const harmless = async (bytes: Uint8Array, what: string): Promise<void> => {
      const back = await bytesOf(reader.decrypt(sourceOf(bytes, 20_000))).catch((error: unknown) => error)
      assert.ok(Buffer.isBuffer(back) ? back.equals(content.subarray(0, back.length)) : isRefused(back), what)
    }

    test('is read as it is', async () => {
      const back = await bytesOf(reader.decrypt(sourceOf(object, 20_000)))
      assert.ok(back.equals(content.subarray(0, back.length)))
    })

    test('with a bit flipped', async () => {
      for (const at of places()) {
        const changed = Buffer.from(object)
        const bit = 1 << random.int(0, 7)
        changed[at] = (changed[at] ?? 0) ^ bit
        await (at < beginning ? harmless : refused)(changed, `bit ${bit} at ${at}`)
      }
    })

    test('cut', async () => {
      for (const at of places()) await refused(object.subarray(0, at), `at ${at}`)
    })

    test('with bytes after it', async () => {
      for (const rest of [Buffer.from([0]), Buffer.from([0xd2]), randomBytesOf(2, 100), object]) {
        await refused(Buffer.concat([object, rest]), `${rest.length} bytes`)
      }
    })

    test('with a block swapped, repeated or left out', async () => {
      const size = 16
      for (let n = 0; n < trials && object.length > 4 * size; n++) {
        const a = random.int(0, object.length - 3 * size)
        const b = random.int(a + size, object.length - size)
        const [first, second] = [object.subarray(a, a + size), object.subarray(b, b + size)]
        const [before, between, after] = [
          object.subarray(0, a),
          object.subarray(a + size, b),
          object.subarray(b + size),
        ]
        const check = a < beginning ? harmless : refused
        await check(Buffer.concat([before, second, between, first, after]), `${a} and ${b} swapped`)
        await check(Buffer.concat([before, first, first, between, second, after]), `${a} repeated`)
        await check(Buffer.concat([before, between, second, after]), `${a} left out`)
      }
    })
  })
}

test('an object of two parts of others', async () => {
  const [a, b] = [
    await encryptedInPlace(crypter, content),
    await encryptedInPlace(crypter, Buffer.from(content).reverse()),
  ]
  for (const at of [100, 1000, 100_000, a.length - 22]) {
    await refuses(Buffer.concat([a.subarray(0, at), b.subarray(at)]), `at ${at}`)
  }
})

test('data without protection of its integrity is refused, as by WAL-G', async () => {
  const object = await encryptedInPlace(crypter, content.subarray(0, 1000))
  const data = dataStart(object)
  const stripped = Buffer.concat([object.subarray(0, data), Buffer.from([0xc9]), object.subarray(data + 1)])
  await assert.rejects(bytesOf(crypter.decrypt(sourceOf(stripped, 1000))), (error: unknown) => {
    assert.match((error as Error).message, /no protection of its integrity/)
    return hasCode(error, 'WALRX_OBJECT_DAMAGED')
  })
})

test('what the source throws comes through', async () => {
  const object = await encryptedInPlace(crypter, content)
  async function* failing(bytes: Buffer, at: number): AsyncGenerator<Uint8Array, undefined> {
    yield* sourceOf(bytes.subarray(0, at), 10_000)
    throw new Error('the disk is gone')
  }
  for (const at of [10, 1000, 100_000, object.length]) {
    await assert.rejects(bytesOf(crypter.decrypt(failing(object, at))), /the disk is gone/)
  }
  const aead = Buffer.from(await (shapes['authenticated encryption'] ?? assert.fail)())
  const reader = await crypterFor('authenticated encryption')
  await assert.rejects(bytesOf(reader.decrypt(failing(aead, 100_000))), /the disk is gone/)
  await assert.rejects(bytesOf(crypter.encrypt(failing(content, 100_000))), /the disk is gone/)
})

test('a reader that stops early frees the source', async () => {
  for (const name of ['one buffer', 'authenticated encryption', 'compressed content']) {
    const object = Buffer.from(await (shapes[name] ?? assert.fail)())
    let isFreed = false
    async function* source(): AsyncGenerator<Uint8Array, undefined> {
      try {
        yield* sourceOf(object, 10_000)
      } finally {
        isFreed = true
      }
    }
    for await (const bytes of (await crypterFor(name)).decrypt(source())) {
      assert.ok(bytes.length > 0)
      break
    }
    assert.equal(isFreed, true, name)
  }
})
