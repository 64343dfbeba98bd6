import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import * as openpgp from 'openpgp'
import { openpgpRecipients } from '../../../src/crypto/openpgp/message-head.ts'
import { WalrxError } from '../../../src/primitives/errors.ts'
import { isFullRun } from '../../harness/extent.ts'
import { randomBytesOf } from '../../harness/made/codec-streams.ts'
import {
  bytesOf,
  crypterOf,
  decryptedBy,
  encryptedInPlace,
  madeKey,
  ringOf,
  sourceOf,
} from '../../harness/made/openpgp-keys.ts'

/** Around the edges of parts, slices and turns. */
const sizes = [0, 1, 21, 22, 500, 65_528, 65_529, 65_530, 65_536, 131_065, 131_066, 131_072, 300_000, 1_000_003]

const key = await madeKey()
const other = await madeKey()

function failsWith(code: string, text: RegExp): (error: unknown) => boolean {
  return (error) => {
    assert.ok(error instanceof WalrxError, String(error))
    assert.equal(error.code, code)
    assert.match(error.message, text)
    assert.doesNotMatch(error.message, /\n/)
    return true
  }
}

describe('what is encrypted is decrypted', () => {
  for (const size of sizes) {
    test(`${size} bytes`, async () => {
      const crypter = await crypterOf(key.secret)
      const content = randomBytesOf(size, size)
      for (const object of [
        await bytesOf(crypter.encrypt(sourceOf(content, 7777, 1, 70_000))),
        await encryptedInPlace(crypter, content),
      ]) {
        for (const chunkBytes of [1000, 65_536, object.length]) {
          assert.ok((await decryptedBy(crypter, object, chunkBytes)).equals(content), `in chunks of ${chunkBytes}`)
        }
      }
    })
  }

  test('by many at a time', async () => {
    const crypter = await crypterOf(key.secret)
    const contents = Array.from({ length: 20 }, (_, n) => randomBytesOf(n, 100_000 + n))
    const objects = await Promise.all(contents.map((content) => encryptedInPlace(crypter, content)))
    const back = await Promise.all(objects.map((object) => decryptedBy(crypter, object)))
    assert.ok(back.every((bytes, n) => contents[n]?.equals(bytes)))
  })

  for (const [name, options] of [
    ['RSA', { type: 'rsa', rsaBits: 2048 }],
    ['X25519', { type: 'curve25519' }],
    ['P-256', { type: 'ecc', curve: 'nistP256' }],
  ] as const) {
    test(`to a key of ${name}`, async () => {
      const crypter = await crypterOf((await madeKey(options)).secret)
      const content = randomBytesOf(1, 100_000)
      assert.ok((await decryptedBy(crypter, await encryptedInPlace(crypter, content))).equals(content))
    })
  }

  test('without having been recognised', async () => {
    const crypter = await crypterOf(key.secret)
    const object = await encryptedInPlace(crypter, randomBytesOf(1, 1000))
    assert.equal((await bytesOf(crypter.decrypt(sourceOf(object, 100)))).length, 1000)
  })

  test('by the library, as a message of another program', async () => {
    const content = randomBytesOf(2, 200_000)
    const object = await encryptedInPlace(await crypterOf(key.open), content)
    const { data } = await openpgp.decrypt({
      message: await openpgp.readMessage({ binaryMessage: object }),
      decryptionKeys: await openpgp.readPrivateKey({ armoredKey: key.secret }),
      format: 'binary',
    })
    assert.ok(content.equals(data))
  })
})

describe('a ring of several keys', () => {
  test('encrypts to all of them', async () => {
    const object = await encryptedInPlace(await crypterOf(await ringOf(key.open, other.open)), Buffer.from('content'))
    assert.equal(openpgpRecipients(object)?.length, 2)
    for (const { secret } of [key, other]) {
      assert.equal((await decryptedBy(await crypterOf(secret), object)).toString(), 'content')
    }
  })

  test('in several blocks, with text around them, and twice the same', async () => {
    const crypter = await crypterOf(`mine:\n${key.open}\n\nhis:\n${other.open}\n${key.secret}`)
    assert.equal(crypter.canDecrypt, true)
    const object = await encryptedInPlace(crypter, Buffer.from('content'))
    assert.equal(openpgpRecipients(object)?.length, 2)
    assert.equal((await decryptedBy(crypter, object)).toString(), 'content')
  })

  const skip = isFullRun ? false : 'makes 420 keys: only with WALRX_TEST_ALL=1'
  test('is refused where its packets leave no room in a buffer', { skip }, async () => {
    const many = await Promise.all(Array.from({ length: 420 }, () => madeKey()))
    const open = many.map((made) => made.open)
    const crypter = await crypterOf(await ringOf(...open))
    const tooMany = failsWith('WALRX_USAGE', /has 420 keys: .* take \d+ bytes of each object, and 32704 are possible/)
    await assert.rejects(encryptedInPlace(crypter, Buffer.alloc(1)), tooMany)
    await assert.rejects(bytesOf(crypter.encrypt(sourceOf(Buffer.alloc(1)))), tooMany)
    const most = await crypterOf(await ringOf(...open.slice(0, 400)))
    const content = randomBytesOf(1, 200_000)
    const object = await encryptedInPlace(most, content)
    assert.equal(openpgpRecipients(object)?.length, 400)
    assert.ok((await decryptedBy(await crypterOf(many[399]?.secret ?? ''), object)).equals(content))
  })
})

describe('recognise', () => {
  test('names the keys that are wanted', async () => {
    const object = await encryptedInPlace(await crypterOf(await ringOf(key.open, other.open)), Buffer.alloc(10))
    const third = await crypterOf((await madeKey()).secret)
    const wants = `OpenPGP keys ${key.keyIds[1]}, ${other.keyIds[1]}`
    assert.deepEqual(await third.recognise(object), { wants })
    await assert.rejects(bytesOf(third.decrypt(sourceOf(object, 100))), failsWith('WALRX_KEY_WRONG', new RegExp(wants)))
  })

  test('says that only the public half is set', async () => {
    const crypter = await crypterOf(key.open)
    assert.equal(crypter.canDecrypt, false)
    const object = await encryptedInPlace(crypter, Buffer.alloc(10))
    assert.equal(await crypter.recognise(object), 'opens')
    const foreign = await encryptedInPlace(await crypterOf(other.open), Buffer.alloc(10))
    assert.deepEqual(await crypter.recognise(foreign), { wants: `OpenPGP key ${other.keyIds[1]}` })
  })

  test('tries every key on an object that names none', async () => {
    const object = await openpgp.encrypt({
      message: await openpgp.createMessage({ binary: Buffer.from('content') }),
      encryptionKeys: await openpgp.readKey({ armoredKey: other.open }),
      format: 'binary',
      wildcard: true,
    })
    assert.deepEqual(openpgpRecipients(Buffer.from(object)), ['0'.repeat(16)])
    const ring = await crypterOf(await ringOf(key.secret, other.secret))
    assert.equal((await decryptedBy(ring, object)).toString(), 'content')
    const wants = 'an OpenPGP key that the object does not name'
    assert.deepEqual(await (await crypterOf(key.secret)).recognise(Buffer.from(object)), { wants })
  })

  test('finds other methods and no method at all', async () => {
    const crypter = await crypterOf(key.secret)
    const heads = [
      Buffer.alloc(0),
      Buffer.alloc(5000),
      randomBytesOf(3, 5000),
      Buffer.from('-----BEGIN PGP MESSAGE-----'),
      Buffer.from([0xc1]),
      Buffer.from([0xc1, 0xff, 0xff, 0xff, 0xff, 0xff, 3]),
    ]
    for (const head of heads) {
      assert.equal(await crypter.recognise(head), 'other method')
      assert.equal(openpgpRecipients(head), undefined)
    }
  })

  test('takes random bytes for no message', () => {
    const bytes = randomBytesOf(4, 3_000_000)
    for (let at = 0; at + 2000 < bytes.length; at++) {
      assert.equal(openpgpRecipients(bytes.subarray(at, at + 2000)), undefined, `at ${at}`)
    }
  })

  test('refuses what only a passphrase opens', async () => {
    const object = await openpgp.encrypt({
      message: await openpgp.createMessage({ binary: Buffer.from('content') }),
      passwords: 'secret',
      format: 'binary',
    })
    assert.deepEqual(openpgpRecipients(Buffer.from(object)), [])
    const crypter = await crypterOf(key.secret)
    await assert.rejects(crypter.recognise(Buffer.from(object)), failsWith('WALRX_CODEC_UNSUPPORTED', /passphrase/))
  })
})

describe('a key with a passphrase', async () => {
  const locked = await madeKey({ passphrase: 'correct horse' })

  test('is unlocked', async () => {
    const crypter = await crypterOf(locked.secret, 'correct horse')
    const object = await encryptedInPlace(crypter, Buffer.from('content'))
    assert.equal((await decryptedBy(crypter, object)).toString(), 'content')
  })

  test('encrypts without it, and decrypts nothing', async () => {
    const crypter = await crypterOf(locked.secret)
    const object = await encryptedInPlace(crypter, Buffer.from('content'))
    await assert.rejects(crypter.recognise(object), (error: unknown) => {
      assert.ok(error instanceof WalrxError)
      assert.match(error.hint ?? '', /WALG_PGP_KEY_PASSPHRASE/)
      return failsWith('WALRX_KEY_UNAVAILABLE', /locked by a passphrase/)(error)
    })
    const foreign = await encryptedInPlace(await crypterOf(other.open), Buffer.alloc(1))
    assert.deepEqual(await crypter.recognise(foreign), { wants: `OpenPGP key ${other.keyIds[1]}` })
  })

  test('is not opened by a wrong one', async () => {
    await assert.rejects(
      crypterOf(locked.secret, 'wrong'),
      failsWith('WALRX_KEY_UNAVAILABLE', /passphrase is not that of/),
    )
  })

  test('that needs none takes any', async () => {
    assert.equal((await crypterOf(key.secret, 'any')).canDecrypt, true)
  })
})

describe('keys that cannot be used', () => {
  const date = new Date(Date.now() - 3_600_000)

  test('expired: encrypts nothing, decrypts what it encrypted', async () => {
    const { secret } = await madeKey({ date, keyExpirationTime: 60 })
    const armoredKey = await openpgp.readKey({ armoredKey: secret })
    const object = await openpgp.encrypt({
      message: await openpgp.createMessage({ binary: Buffer.from('content') }),
      encryptionKeys: armoredKey,
      date,
      format: 'binary',
    })
    const crypter = await crypterOf(secret)
    assert.equal((await decryptedBy(crypter, object)).toString(), 'content')
    await assert.rejects(encryptedInPlace(crypter, Buffer.alloc(1)), failsWith('WALRX_KEY_UNAVAILABLE', /is expired/))
  })

  test('revoked', async () => {
    const made = await openpgp.readPrivateKey({ armoredKey: key.secret })
    const { publicKey } = await openpgp.revokeKey({ key: made })
    const crypter = await crypterOf(publicKey)
    await assert.rejects(encryptedInPlace(crypter, Buffer.alloc(1)), failsWith('WALRX_KEY_UNAVAILABLE', /is revoked/))
  })

  test('for signing only', async () => {
    const { open } = await madeKey({ subkeys: [{ sign: true }] })
    const crypter = await crypterOf(open)
    await assert.rejects(
      bytesOf(crypter.encrypt(sourceOf(Buffer.alloc(1)))),
      failsWith('WALRX_KEY_UNAVAILABLE', /no part that is for encryption/),
    )
  })

  test('no key at all, and nothing of it in the message', async () => {
    const lines = key.secret.split('\n')
    const broken = lines.toSpliced(10, 1, lines[10]?.slice(7) ?? '').join('\n')
    const noHead = key.secret.replace('\n\n', '\n')
    const message = openpgp.armor(openpgp.enums.armor.message, Buffer.from('x'))
    for (const text of ['', 'garbage', broken, noHead, message, lines.slice(0, 8).join('\n')]) {
      await assert.rejects(crypterOf(text), (error: unknown) => {
        assert.ok(error instanceof WalrxError)
        assert.equal(error.code, 'WALRX_USAGE')
        assert.equal(error.message, 'WALG_PGP_KEY has no armored OpenPGP key that can be read')
        assert.equal(error.cause, undefined)
        return true
      })
    }
  })
})

test('of several subkeys the one that was bound last is used', async () => {
  const now = Date.now()
  const { privateKey } = await openpgp.generateKey({
    type: 'ecc',
    curve: 'curve25519Legacy',
    userIDs: [{ name: 'Test' }],
    date: new Date(now - 7_200_000),
    format: 'object',
  })
  const added = await privateKey.addSubkey({ date: new Date(now - 3_600_000) })
  const newest = added.subkeys[1]?.getKeyID().toHex().toUpperCase()
  const object = await encryptedInPlace(await crypterOf(added.toPublic().armor()), Buffer.alloc(1))
  assert.deepEqual(openpgpRecipients(object), [newest])
})
