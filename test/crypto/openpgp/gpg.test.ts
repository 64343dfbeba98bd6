/** What gpg and walrx write for each other. Skipped where there is no gpg. */
import assert from 'node:assert/strict'
import { readFile } from 'node:fs/promises'
import { after, before, describe, test } from 'node:test'
import type { Crypter } from '../../../src/crypto/crypter.ts'
import { exportFromGpg } from '../../../src/crypto/openpgp/gpg-export.ts'
import { openpgpRecipients } from '../../../src/crypto/openpgp/message-head.ts'
import { hasCode } from '../../../src/primitives/errors.ts'
import { walLikeBytes } from '../../harness/made/codec-streams.ts'
import {
  bytesOf,
  crypterOf,
  decryptedBy,
  encryptedInPlace,
  GpgHome,
  hasGpg,
  sourceOf,
} from '../../harness/made/openpgp-keys.ts'

const rsa = ['Key-Type: EDDSA', 'Key-Curve: ed25519', 'Subkey-Type: RSA', 'Subkey-Length: 2048']
const cv25519 = ['Key-Type: EDDSA', 'Key-Curve: ed25519', 'Subkey-Type: ECDH', 'Subkey-Curve: cv25519']

/** Kinds of keys that gpg makes fast, by name. */
const kinds: Record<string, readonly string[]> = {
  RSA: rsa,
  'RSA without subkey': ['Key-Type: RSA', 'Key-Length: 2048', 'Key-Usage: sign encrypt'],
  'curve 25519': cv25519,
  'NIST P-384': ['Key-Type: ECDSA', 'Key-Curve: nistp384', 'Subkey-Type: ECDH', 'Subkey-Curve: nistp384'],
}

const content = Buffer.concat([walLikeBytes(1, 300_000), Buffer.from('a\r\nb\r\n\x1a')])

describe('gpg', { skip: hasGpg ? false : 'there is no gpg' }, () => {
  let home: GpgHome
  let rsaCrypter: Crypter
  before(async () => {
    home = new GpgHome()
    for (const [name, parameters] of Object.entries(kinds)) await home.makeKey(name, ...parameters)
    await home.gpg(
      ['--import'],
      await readFile(new URL('../../golden/codecs/openpgp/elgamal-secret-key.asc', import.meta.url)),
    )
    await home.makeKey('locked', ...cv25519, 'Passphrase: correct horse')
    rsaCrypter = await crypterOf(await home.secretOf(['=RSA']))
  })
  after(() => home.close())

  /** As one message whose integrity is checked. */
  async function gpgReads(object: Buffer, what: string): Promise<void> {
    const status = (
      await home.gpg(['--status-fd', '1', '--output', '/dev/null', '--yes', '--decrypt'], object)
    ).toString()
    assert.match(status, /^\[GNUPG:\] GOODMDC$/m, what)
    assert.equal(status.match(/^\[GNUPG:\] BEGIN_DECRYPTION$/gm)?.length, 1, what)
    assert.ok((await home.gpg(['--decrypt'], object)).equals(content), what)
  }

  const encrypted = (args: readonly string[], input: Uint8Array = content): Promise<Buffer> =>
    home.gpg([...args, '--output', '-', '--encrypt'], input)

  for (const name of [...Object.keys(kinds), 'Elgamal']) {
    test(`${name}: both ways`, async () => {
      const crypter = await crypterOf(await home.secretOf([`=${name}`]))
      await gpgReads(await bytesOf(crypter.encrypt(sourceOf(content, 30_000))), 'a stream')
      await gpgReads(await encryptedInPlace(crypter, content), 'one buffer')
      assert.ok((await decryptedBy(crypter, await encrypted(['--recipient', `=${name}`]))).equals(content))
    })
  }

  test('several recipients, and one public ring', async () => {
    const names = ['=RSA', '=curve 25519', '=Elgamal']
    const object = await encryptedInPlace(await crypterOf(await home.publicOf(...names)), content)
    assert.equal(openpgpRecipients(object)?.length, 3)
    const theirs = await encrypted(names.flatMap((name) => ['--recipient', name]))
    for (const name of names) {
      const crypter = await crypterOf(await home.secretOf([name]))
      assert.ok((await decryptedBy(crypter, object)).equals(content), name)
      assert.ok((await decryptedBy(crypter, theirs)).equals(content), name)
    }
  })

  test('a key with a passphrase', async () => {
    const ring = await home.secretOf(['=locked'], 'correct horse')
    const object = await encrypted(['--recipient', '=locked'])
    assert.ok((await decryptedBy(await crypterOf(ring, 'correct horse'), object)).equals(content))
    await assert.rejects(crypterOf(ring, 'wrong'), (error) => hasCode(error, 'WALRX_KEY_UNAVAILABLE'))
    await assert.rejects((await crypterOf(ring)).recognise(object), (error) => hasCode(error, 'WALRX_KEY_UNAVAILABLE'))
  })

  for (const cipher of ['AES', 'AES192', 'AES256', '3DES', 'CAST5']) {
    test(`cipher ${cipher}`, async () => {
      const object = await encrypted([
        '--recipient',
        '=RSA',
        '--cipher-algo',
        cipher,
        '--personal-cipher-preferences',
        cipher,
      ])
      assert.ok((await decryptedBy(rsaCrypter, object)).equals(content))
    })
  }

  for (const compression of ['none', 'zip', 'zlib']) {
    test(`compression ${compression}, signed and with hidden recipients`, async () => {
      const args = ['--recipient', '=RSA', '--compress-algo', compression]
      assert.ok((await decryptedBy(rsaCrypter, await encrypted(args))).equals(content))
      const signed = await encrypted([...args, '--local-user', '=RSA', '--sign'])
      assert.ok((await decryptedBy(rsaCrypter, signed)).equals(content))
      const hidden = await encrypted(['--hidden-recipient', '=RSA', '--compress-algo', compression])
      assert.ok((await decryptedBy(rsaCrypter, hidden)).equals(content))
    })
  }

  test('content of the sizes at which gpg changes its lengths', async () => {
    for (const size of [0, 1, 191, 192, 8383, 8384, 8192, 16_384, 65_536]) {
      const part = content.subarray(0, size)
      const object = await encrypted(['--recipient', '=RSA', '--compress-algo', 'none'], part)
      assert.ok((await decryptedBy(rsaCrypter, object, 1000)).equals(part), `${size} bytes`)
    }
  })

  test('bzip2, other ciphers and passphrases are refused by name', async () => {
    const isUnsupported = (error: unknown) => hasCode(error, 'WALRX_CODEC_UNSUPPORTED')
    const bzip2 = await encrypted(['--recipient', '=RSA', '--compress-algo', 'bzip2'])
    await assert.rejects(decryptedBy(rsaCrypter, bzip2), (error) => isUnsupported(error) && /bzip2/.test(String(error)))
    const symmetric = await home.gpg(
      ['--pinentry-mode', 'loopback', '--passphrase', 'x', '--output', '-', '--symmetric'],
      content,
    )
    await assert.rejects(rsaCrypter.recognise(symmetric), isUnsupported)
    for (const cipher of ['CAMELLIA256', 'TWOFISH']) {
      const object = await encrypted(['--recipient', '=RSA', '--cipher-algo', cipher])
      await assert.rejects(decryptedBy(rsaCrypter, object), /its cipher unknown|cipher/, cipher)
    }
  })

  describe('keys out of its ring', () => {
    const settings = ['GNUPGHOME', 'PATH'] as const
    const saved = settings.map((name) => process.env[name])
    before(() => (process.env.GNUPGHOME = home.env.GNUPGHOME))
    after(() => settings.forEach((name, index) => restore(name, saved[index])))

    test('are exported with their secret half', async () => {
      const object = await encrypted(['--recipient', '=RSA'])
      assert.ok((await decryptedBy(await crypterOf(await exportFromGpg('=RSA')), object)).equals(content))
      const locked = await encrypted(['--recipient', '=locked'])
      const ring = await exportFromGpg('=locked', 'correct horse')
      assert.ok((await decryptedBy(await crypterOf(ring, 'correct horse'), locked)).equals(content))
    })

    test('without it where the passphrase is wrong', async () => {
      assert.equal((await crypterOf(await exportFromGpg('=locked', 'wrong'))).canDecrypt, false)
    })

    test('that are not there', async () => {
      await assert.rejects(exportFromGpg('=nobody'), /^WalrxError: gpg has no key =nobody$/)
      await assert.rejects(exportFromGpg('--version'), /gpg has no key --version/)
    })

    test('where there is no gpg', async () => {
      process.env.PATH = '/nonexistent'
      await assert.rejects(
        exportFromGpg('=RSA'),
        (error) => hasCode(error, 'WALRX_KEY_UNAVAILABLE') && /ENOENT/.test(error.message),
      )
    })
  })
})

function restore(name: string, value: string | undefined): void {
  if (value === undefined) Reflect.deleteProperty(process.env, name)
  else process.env[name] = value
}
