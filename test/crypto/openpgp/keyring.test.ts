import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type BeginningTest, Keyring } from '../../../src/crypto/keyring.ts'
import { hasCode } from '../../../src/primitives/errors.ts'
import { HeadedSource } from '../../../src/primitives/headed-source.ts'
import { bytesOf, crypterOf, encryptedInPlace, madeKey, ringOf, sourceOf } from '../../harness/made/openpgp-keys.ts'

const [writing, old, foreign] = [await madeKey(), await madeKey(), await madeKey()]
const ring = new Keyring({
  load: async () => ({
    writing: await crypterOf(writing.open),
    reading: [await crypterOf(writing.secret), await crypterOf(old.secret)],
  }),
})
const judge: BeginningTest = () => Promise.resolve({ kind: 'random' })
const read = (object: Uint8Array) => bytesOf(ring.decrypt(new HeadedSource(sourceOf(object, 1000)), judge))

test('rings are tried one after the other, so that keys can be rotated', async () => {
  for (const { open } of [writing, old]) {
    const object = await encryptedInPlace(await crypterOf(open), Buffer.from('content'))
    assert.equal((await read(object)).toString(), 'content')
  }
})

/** The object with a bit changed in the session key for its first recipient. */
function withDamagedKey(object: Uint8Array): Buffer {
  const damaged = Buffer.from(object)
  damaged[60] = damaged.readUInt8(60) ^ 1
  return damaged
}

test('an object whose session key is changed is damaged, and no matter of keys', async () => {
  const object = withDamagedKey(await encryptedInPlace(await crypterOf(writing.open), Buffer.from('content')))
  const look = await ring.lookAt(new HeadedSource(sourceOf(object, 1000)), judge)
  assert.equal(look.kind, 'damaged')
  await assert.rejects(read(object), (error) => hasCode(error, 'WALRX_OBJECT_DAMAGED'))
})

test('another ring opens an object whose session key for the first one is changed', async () => {
  const both = await crypterOf(await ringOf(writing.open, old.open))
  assert.equal((await read(withDamagedKey(await encryptedInPlace(both, Buffer.from('content'))))).toString(), 'content')
})

test('an object to another key is refused by the name of that key', async () => {
  const object = await encryptedInPlace(await crypterOf(foreign.open), Buffer.from('content'))
  await assert.rejects(read(object), (error: unknown) => {
    assert.match(
      (error as Error).message,
      new RegExp(`^is encrypted to OpenPGP key ${foreign.keyIds[1]}; set is WALG_PGP_KEY \\(OpenPGP\\)`),
    )
    return hasCode(error, 'WALRX_KEY_WRONG')
  })
})

test('a key that is locked decrypts nothing: that is said, unless another key opens the object', async () => {
  const made = await madeKey({ passphrase: 'correct horse' })
  const locked = await crypterOf(made.secret)
  assert.equal(locked.canDecrypt, false)
  const object = await encryptedInPlace(await crypterOf(made.open), Buffer.from('content'))
  const alone = new Keyring({ load: () => Promise.resolve({ writing: locked, reading: [] }) })
  const isLocked = (error: unknown) => {
    assert.ok(hasCode(error, 'WALRX_KEY_UNAVAILABLE'), String(error))
    assert.match(error.message, /^WALG_PGP_KEY: OpenPGP key \w{16} is locked by a passphrase, and none is set$/)
    assert.equal(error.hint, 'set WALG_PGP_KEY_PASSPHRASE')
    return error.exitStatus === 2 && !error.transient
  }
  await assert.rejects(alone.lookAt(new HeadedSource(sourceOf(object, 1000)), judge), isLocked)
  await assert.rejects(alone.prove(), isLocked)
  const unlocked = await crypterOf(made.secret, 'correct horse')
  const both = new Keyring({ load: () => Promise.resolve({ writing: locked, reading: [unlocked] }) })
  assert.equal((await bytesOf(both.decrypt(new HeadedSource(sourceOf(object, 1000)), judge))).toString(), 'content')
  assert.equal((await both.prove()).isReadable, true)
})
