/** Authenticated encryption, which newer programs write: gpg's own packet, made here with node:crypto, and RFC 9580's. */
import assert from 'node:assert/strict'
import { createCipheriv, randomBytes } from 'node:crypto'
import { test } from 'node:test'
import * as openpgp from 'openpgp'
import { packetHeader } from '../../../src/crypto/openpgp/packet-header.ts'
import { hasCode } from '../../../src/primitives/errors.ts'
import { randomBytesOf } from '../../harness/made/codec-streams.ts'
import { bytesOf, crypterOf, decryptedBy, GpgHome, hasGpg, madeKey, sourceOf } from '../../harness/made/openpgp-keys.ts'

const key = await madeKey()
const content = randomBytesOf(1, 300_000)

/** Type 20 as gpg 2.3 and later write it, with OCB (draft-ietf-openpgp-rfc4880bis, 5.16). */
async function packetOfGpg(chunkPower: number): Promise<Buffer> {
  const sessionKey = randomBytes(16)
  const encryptionKeys = await openpgp.readKey({ armoredKey: key.open })
  const first = await openpgp.encryptSessionKey({
    data: sessionKey,
    algorithm: 'aes128',
    encryptionKeys,
    format: 'binary',
  })
  const head = Buffer.from([1, 7, 2, chunkPower])
  const initial = randomBytes(15)
  const literal = Buffer.concat([packetHeader(11, 6 + content.length), Buffer.from('b\0\0\0\0\0'), content])
  const seal = (plain: Buffer, index: number, total?: number): Buffer => {
    const nonce = Buffer.from(initial)
    nonce.writeUInt32BE((nonce.readUInt32BE(11) ^ index) >>> 0, 11)
    const counts = Buffer.alloc(total === undefined ? 8 : 16)
    counts.writeBigUInt64BE(BigInt(index))
    if (total !== undefined) counts.writeBigUInt64BE(BigInt(total), 8)
    const cipher = createCipheriv('aes-128-ocb', sessionKey, nonce, { authTagLength: 16 })
    cipher.setAAD(Buffer.concat([Buffer.from([0xd4]), head, counts]))
    return Buffer.concat([cipher.update(plain), cipher.final(), cipher.getAuthTag()])
  }
  const chunkBytes = 2 ** (chunkPower + 6)
  const chunks: Buffer[] = []
  for (let at = 0; at < literal.length; at += chunkBytes) {
    chunks.push(seal(literal.subarray(at, at + chunkBytes), chunks.length))
  }
  chunks.push(seal(Buffer.alloc(0), chunks.length, literal.length))
  const body = Buffer.concat([head, initial, ...chunks])
  return Buffer.concat([first, packetHeader(20, body.length), body])
}

test("gpg's packet is decrypted, and its chunks are bounded", async (t) => {
  const crypter = await crypterOf(key.secret)
  for (const chunkPower of [6, 10, 16]) {
    const object = await packetOfGpg(chunkPower)
    assert.ok((await decryptedBy(crypter, object)).equals(content), `chunks of 2^${chunkPower + 6}`)
    object[object.length - 1] = (object.at(-1) ?? 0) ^ 1
    await assert.rejects(bytesOf(crypter.decrypt(sourceOf(object, 10_000))), (error) =>
      hasCode(error, 'WALRX_OBJECT_DAMAGED'),
    )
  }
  const large = await packetOfGpg(17)
  await assert.rejects(bytesOf(crypter.decrypt(sourceOf(large, 10_000))), /chunks of 2\^23 bytes/)
  if (!hasGpg) return t.diagnostic('there is no gpg to read the same packet')
  const home = new GpgHome()
  try {
    await home.gpg(['--import'], key.secret)
    assert.ok((await home.gpg(['--decrypt'], await packetOfGpg(10))).equals(content), 'gpg reads it as well')
  } finally {
    await home.close()
  }
})

for (const mode of ['eax', 'ocb', 'gcm'] as const) {
  test(`version 2 with ${mode} is decrypted`, async () => {
    const config = { aeadProtect: true, preferredAEADAlgorithm: openpgp.enums.aead[mode], aeadChunkSizeByte: 8 }
    const { open, secret } = await madeKey({ type: 'curve25519', config: { ...config, v6Keys: true } })
    const encryptionKeys = await openpgp.readKey({ armoredKey: open })
    const message = await openpgp.createMessage({ binary: content })
    const object = await openpgp.encrypt({ message, encryptionKeys, format: 'binary', config })
    assert.ok((await decryptedBy(await crypterOf(secret), object)).equals(content))
  })
}

test('an object to a key that asks for it is written in version 1, as by WAL-G', async () => {
  const { secret } = await madeKey({ type: 'curve25519', config: { aeadProtect: true, v6Keys: true } })
  const crypter = await crypterOf(secret)
  const object = await bytesOf(crypter.encrypt(sourceOf(content, 10_000)))
  assert.equal(object[2], 3)
  assert.ok((await decryptedBy(crypter, object)).equals(content))
})
