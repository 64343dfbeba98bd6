/** OpenPGP keys in every place where the settings can have one. */
import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { inspect } from 'node:util'
import { generateKey } from 'openpgp'
import { loadSettings } from '../../../src/config/load.ts'
import { openKeyring } from '../../../src/config/open-keyring.ts'
import type { Crypter } from '../../../src/crypto/crypter.ts'
import { hasCode } from '../../../src/primitives/errors.ts'
import { GpgHome, hasGpg } from '../../harness/made/openpgp-keys.ts'

const passphrase = ' Hush Hush Hush '
const folder = mkdtempSync(join(tmpdir(), 'walrx-openpgp-settings-'))
after(() => rmSync(folder, { recursive: true }))

/** Two keys: what is made public of them, and what is not. */
const made: { readonly publicKey: string; readonly privateKey: string }[] = []
before(async () => {
  for (const name of ['one', 'two']) {
    made.push(await generateKey({ userIDs: [{ name }], type: 'curve25519', passphrase, format: 'armored' }))
  }
})
const key = (index: number) => made[index] ?? assert.fail()

function file(name: string, text: string): string {
  const path = join(folder, name)
  writeFileSync(path, text, { mode: 0o600 })
  return path
}

async function crypters(environment: Record<string, string>): Promise<readonly Crypter[]> {
  const { values } = await loadSettings<'wal-show'>({ command: 'wal-show', flags: new Map(), environment })
  const keys = await openKeyring(values)?.keys()
  assert.ok(keys)
  return [keys.writing, ...keys.reading]
}

/** Which of them open an object, in their order. */
async function opening(all: readonly Crypter[], object: Buffer): Promise<string[]> {
  const labels: string[] = []
  for (const crypter of all) {
    if (crypter.canDecrypt && (await crypter.recognise(object)) === 'opens') labels.push(crypter.label)
  }
  return labels
}

async function encrypted(crypter: Crypter | undefined): Promise<Buffer> {
  const buffer = Buffer.alloc(40_000)
  return buffer.subarray(0, await crypter?.encryptInPlace(buffer, 5))
}

describe('an OpenPGP key', () => {
  test('is in a variable, with line breaks or what stands for them, in a file, or printed', async () => {
    const { privateKey } = key(0)
    const unlocked = { WALG_PGP_KEY_PASSPHRASE: `${passphrase}\r\n` }
    const [writer] = await crypters({ WALG_PGP_KEY: key(0).publicKey })
    assert.equal(writer?.canDecrypt, false)
    const object = await encrypted(writer)
    for (const [environment, label] of [
      [{ WALG_PGP_KEY: privateKey }, 'WALG_PGP_KEY'],
      [{ WALG_PGP_KEY: privateKey.trim().replaceAll('\n', '\\n') }, 'WALG_PGP_KEY'],
      [{ WALG_PGP_KEY_PATH: file('key', privateKey) }, `WALG_PGP_KEY_PATH=${join(folder, 'key')}`],
      [{ WALRX_KEY_COMMAND: `cat ${file('key', privateKey)}` }, 'WALRX_KEY_COMMAND'],
      [{ WALRX_READ_KEY_PATH: `hex:${file('key', privateKey)}` }, `WALRX_READ_KEY_PATH=${join(folder, 'key')}`],
    ] as const) {
      assert.deepEqual(await opening(await crypters({ ...environment, ...unlocked }), object), [label])
    }
  })

  test("is in gpg's own ring, by WAL-G's old settings", { skip: hasGpg ? false : 'there is no gpg' }, async () => {
    const home = new GpgHome()
    const before = process.env.GNUPGHOME
    try {
      const curve = ['Key-Type: EDDSA', 'Key-Curve: ed25519', 'Subkey-Type: ECDH', 'Subkey-Curve: cv25519']
      await home.makeKey('ring', ...curve, 'Passphrase: correct horse')
      process.env.GNUPGHOME = home.env.GNUPGHOME
      const object = await home.gpg(['--output', '-', '--encrypt', '--recipient', '=ring'], 'content')
      for (const name of ['WALG_GPG_KEY_ID', 'WALE_GPG_KEY_ID', 'GPG_KEY_ID']) {
        const all = await crypters({ [name]: '=ring', WALG_PGP_KEY_PASSPHRASE: 'correct horse' })
        assert.deepEqual(await opening(all, object), ['WALG_GPG_KEY_ID==ring'])
      }
      await assert.rejects(crypters({ WALG_GPG_KEY_ID: '=nobody' }), /gpg has no key =nobody/)
    } finally {
      if (before === undefined) delete process.env.GNUPGHOME
      else process.env.GNUPGHOME = before
      await home.close()
    }
  })

  test('is the first that a command prints, where it prints several, and of libsodium too', async () => {
    const path = file('several', `${key(1).privateKey}\n${key(0).privateKey}\n${'ab'.repeat(32)}\n`)
    const environment = { WALRX_KEY_COMMAND: `cat ${path}`, WALG_LIBSODIUM_KEY_TRANSFORM: 'hex' }
    const all = await crypters({ ...environment, WALG_PGP_KEY_PASSPHRASE: passphrase })
    assert.deepEqual(
      all.map(({ label, method }) => `${label}: ${method}`),
      [1, 2, 3].map((at) => `WALRX_KEY_COMMAND, key ${at}: ${at === 3 ? 'libsodium' : 'OpenPGP'}`),
    )
    assert.deepEqual(await opening(all, await encrypted(all[0])), ['WALRX_KEY_COMMAND, key 1'])
    const older = await encrypted((await crypters({ WALG_PGP_KEY: key(0).publicKey }))[0])
    assert.deepEqual(await opening(all, older), ['WALRX_KEY_COMMAND, key 2'])
  })

  test('is refused in one line that has none of it', async () => {
    const lines = key(0)
      .privateKey.split(/\r?\n/)
      .filter((line) => line.length > 20 && !line.startsWith('-----'))
    assert.ok(lines.length > 5)
    // Without two lines of its middle.
    const broken = lines.slice(2, 4).reduce((text, line) => text.replace(line, ''), key(0).privateKey)
    for (const environment of [
      { WALG_PGP_KEY: broken },
      { WALG_PGP_KEY: key(0).privateKey, WALG_PGP_KEY_PASSPHRASE: passphrase.trim() },
      { WALRX_KEY_COMMAND: `cat ${file('broken', broken)}; sed p ${join(folder, 'broken')} >&2; exit 1` },
      { WALG_PGP_KEY_PATH: file('broken', broken.slice(0, 300)) },
    ]) {
      await assert.rejects(crypters(environment), (error) => {
        assert.ok(hasCode(error, 'WALRX_KEY_UNAVAILABLE') || hasCode(error, 'WALRX_USAGE'), String(error))
        const text = inspect(error, { depth: 10 })
        for (const line of lines) assert.ok(!text.includes(line), text)
        assert.ok(!text.includes('Hush') && !error.message.includes('\n'), text)
        return true
      })
    }
  })

  test('is in no inspection of its crypter', async () => {
    const { privateKey } = key(0)
    const [crypter] = await crypters({ WALG_PGP_KEY: privateKey, WALG_PGP_KEY_PASSPHRASE: passphrase })
    const text = `${inspect(crypter, { depth: 10 })}${JSON.stringify(crypter)}`
    assert.ok(!/Hush|BEGIN|keyPacket|Uint8Array|privateParams/.test(text), text)
  })
})
