/** Keys of the settings: which one encrypts, which ones decrypt, and that they are read once and late. */
import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { execFileSync } from 'node:child_process'
import { chmodSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, describe, test } from 'node:test'
import { inspect } from 'node:util'
import { openKeyring } from '../../../src/config/open-keyring.ts'
import { loadSettings } from '../../../src/config/load.ts'
import { keyBytesMax, refuseForeignKey, splitKeys } from '../../../src/config/keys/key-text.ts'
import { looksLikeKey, readFilesOf } from '../../../src/config/keys/key-settings.ts'
import type { Keyring } from '../../../src/crypto/keyring.ts'
import { hasCode } from '../../../src/primitives/errors.ts'

const folder = mkdtempSync(join(tmpdir(), 'walrx-keyring-'))
after(() => rmSync(folder, { recursive: true }))
const file = (name: string, content: string | Buffer) => {
  const path = join(folder, name)
  writeFileSync(path, content, { mode: 0o600 })
  return path
}

const load = (environment: Record<string, string>, home?: string) =>
  loadSettings<'wal-show'>({ command: 'wal-show', flags: new Map(), environment, home })

async function keyringOf(environment: Record<string, string>, home?: string): Promise<Keyring> {
  const keyring = openKeyring((await load(environment, home)).values)
  assert.ok(keyring)
  return keyring
}

/** Encrypts a text as it is in the archive. */
async function encrypted(keyring: Keyring, text: string): Promise<Buffer> {
  const buffer = Buffer.alloc(text.length + 40_000)
  buffer.write(text)
  return Buffer.from(buffer.subarray(0, await keyring.encryptInPlace(buffer, text.length)))
}

/** The labels of the keys, in their order. */
async function labels(environment: Record<string, string>): Promise<string[]> {
  const { reading, writing } = await (await keyringOf(environment)).keys()
  return [writing, ...reading].map(({ label }) => label)
}

const [one, two, three] = ['1', '2', '3'].map((digit) => digit.repeat(64)) as [string, string, string]
const hex = { WALG_LIBSODIUM_KEY_TRANSFORM: 'hex' }

/** Whether a keyring decrypts what another one has encrypted. */
async function opens(reader: Record<string, string>, writer: Record<string, string>): Promise<boolean> {
  const object = await encrypted(await keyringOf(writer), 'walrx')
  const { reading, writing } = await (await keyringOf(reader)).keys()
  for (const crypter of [writing, ...reading]) {
    if ((await crypter.recognise(object)) === 'opens') return true
  }
  return false
}

describe('the key that encrypts', () => {
  test('is the one that WAL-G would take, before that of the command; all others decrypt', async () => {
    const path = file('two', two)
    const command = { WALRX_KEY_COMMAND: `echo ${three}; echo; echo ' ${one}\r'` }
    const read = { WALRX_READ_KEY_PATH: `${path}, hex:${path},` }
    const all = { ...hex, WALG_LIBSODIUM_KEY: one, WALG_LIBSODIUM_KEY_PATH: path, ...command, ...read }
    assert.deepEqual(await labels(all), [
      'WALG_LIBSODIUM_KEY',
      `WALG_LIBSODIUM_KEY_PATH=${path}`,
      'WALRX_KEY_COMMAND, key 1',
      'WALRX_KEY_COMMAND, key 2',
      `WALRX_READ_KEY_PATH=${path}`,
      `WALRX_READ_KEY_PATH=${path}`,
    ])
    for (const key of [one, two, three]) assert.ok(await opens(all, { ...hex, WALG_LIBSODIUM_KEY: key }))
    assert.ok(!(await opens({ ...hex, WALG_LIBSODIUM_KEY: one }, { ...hex, WALG_LIBSODIUM_KEY: two })))
    assert.ok(await opens({ ...hex, WALG_LIBSODIUM_KEY: three }, { ...hex, ...command }))
    const { notices } = await load(all)
    assert.deepEqual(
      notices.map(({ level, message, name }) => [level, name, message]),
      [['warn', 'WALG_LIBSODIUM_KEY_PATH, WALRX_KEY_COMMAND', 'several keys are set: this one only decrypts']],
    )
  })

  test('is none where keys are for reading only, or none is set', async () => {
    const keyring = await keyringOf({ WALRX_READ_KEY_PATH: `hex:${file('read', one)}` })
    await assert.rejects(encrypted(keyring, 'x'), (error) => hasCode(error, 'WALRX_USAGE'))
    assert.equal(openKeyring((await load({ WALG_PGP_KEY_PASSPHRASE: 'x', WALG_LIBSODIUM_KEY: '' })).values), undefined)
  })

  test('in a variable is as it is, with the white space around it; in a file, or printed, it is not', async () => {
    const padded = ` ${'k'.repeat(30)}\n`
    assert.ok(await opens({ WALG_LIBSODIUM_KEY: padded }, { WALG_LIBSODIUM_KEY: ` ${'k'.repeat(30)}\n` }))
    assert.ok(!(await opens({ WALG_LIBSODIUM_KEY: padded }, { WALG_LIBSODIUM_KEY: padded.trim() })))
    const path = file('padded', padded)
    assert.ok(await opens({ WALG_LIBSODIUM_KEY_PATH: path }, { WALG_LIBSODIUM_KEY: padded.trim() }))
    assert.ok(await opens({ WALRX_KEY_COMMAND: `cat ${path}` }, { WALG_LIBSODIUM_KEY: padded.trim() }))
    assert.ok(await opens({ WALRX_READ_KEY_PATH: path }, { WALG_LIBSODIUM_KEY: padded.trim() }))
  })

  test('is loaded again where it was not there, and only once where it was', async () => {
    const path = join(folder, 'late')
    const keyring = await keyringOf({ ...hex, WALG_LIBSODIUM_KEY_PATH: path })
    const missing = (error: unknown) => hasCode(error, 'WALRX_KEY_UNAVAILABLE')
    await Promise.all([assert.rejects(keyring.keys(), missing), assert.rejects(keyring.keys(), missing)])
    writeFileSync(path, one)
    const keys = await keyring.keys()
    writeFileSync(path, two)
    assert.equal(await keyring.keys(), keys)
  })

  test('for reading names the prefixes that there are, where its path begins with another', async () => {
    const keyring = await keyringOf({ ...hex, WALG_LIBSODIUM_KEY: one, WALRX_READ_KEY_PATH: `hexx:${folder}/two` })
    await assert.rejects(
      keyring.keys(),
      (error) =>
        hasCode(error, 'WALRX_KEY_UNAVAILABLE') && /^hexx: is taken as part of the path/.test(error.hint ?? ''),
    )
  })

  test('comes from a config file and under the names of WAL-E too; a number of too many digits is refused', async () => {
    const config = file('.walg.json', JSON.stringify({ walg_libsodium_key: one, WALG_LIBSODIUM_KEY_TRANSFORM: 'hex' }))
    const keyring = await keyringOf({}, folder)
    assert.equal((await keyring.keys()).writing.label, 'WALG_LIBSODIUM_KEY')
    assert.ok(
      await opens(
        { WALE_LIBSODIUM_KEY: one, WALE_LIBSODIUM_KEY_TRANSFORM: 'hex' },
        { ...hex, WALG_LIBSODIUM_KEY: one },
      ),
    )
    writeFileSync(config, `{"WALG_LIBSODIUM_KEY": ${one}}`)
    await assert.rejects(load({}, folder), /the value of WALG_LIBSODIUM_KEY is a number/)
    rmSync(config)
  })
})

test('keys are read once in a process, with the first object, by all that ask', async () => {
  const runs = join(folder, 'runs')
  const keyring = await keyringOf({ ...hex, WALRX_KEY_COMMAND: `echo >>${runs}; sleep 0.1; echo ${one}` })
  assert.ok(!existsSync(runs))
  await Promise.all(Array.from({ length: 8 }, () => encrypted(keyring, 'walrx')))
  await keyring.keys()
  assert.equal(readFileSync(runs, 'utf8'), '\n')
})

test('no inspection, JSON or text of settings, keyrings and keys shows a key', async () => {
  const armored = '-----BEGIN PGP PRIVATE KEY BLOCK-----\n\nHushHushHushHush\n-----END PGP PRIVATE KEY BLOCK-----'
  const settings = await load({
    ...hex,
    WALG_LIBSODIUM_KEY: one,
    WALG_PGP_KEY_PASSPHRASE: 'HushHushHushHush',
    WALRX_KEY_COMMAND: `echo ${two}`,
  })
  const values = (await load({ WALG_PGP_KEY: armored })).values
  const keyring = openKeyring(settings.values)
  const keys = await keyring?.keys()
  for (const [what, object] of Object.entries({ settings, values, keyring, keys, crypter: keys?.writing })) {
    const texts = [
      inspect(object, { depth: 10, showHidden: false }),
      JSON.stringify(object),
      String(object),
      `${inspect({ object })}`,
    ]
    for (const text of texts) {
      assert.ok(!/HushHush|1{16}|2{16}|EREREREREQ/.test(text), `${what}: ${text}`)
    }
  }
})

describe('what a message may not have', () => {
  test('is each line of an armored key, and a key of libsodium in hex and base64', async () => {
    const body = 'lIYEZ0123456789abcdefHushHushHush'
    const armored = `-----BEGIN PGP PRIVATE KEY BLOCK-----\nVersion: GnuPG v2.2.40\n\n${body}\n=abcd\n-----END PGP PRIVATE KEY BLOCK-----`
    for (const text of [armored, armored.replaceAll('\n', '\\n'), armored.replaceAll('\n', '\r\n')]) {
      const { secrets } = await load({ WALG_PGP_KEY: text })
      assert.deepEqual([...secrets].sort(), [text, body].sort())
    }
    const bytes = Buffer.from(one, 'hex')
    for (const key of [one, bytes.toString('base64')]) {
      const { secrets } = await load({ WALE_LIBSODIUM_KEY: key })
      for (const form of [one, bytes.toString('base64').replace(/=$/, ''), bytes.toString('base64url')]) {
        assert.ok(secrets.includes(form), form)
      }
    }
    const raw = 'HushHushHushHushHushHushHush'
    const { secrets } = await load({ WALG_LIBSODIUM_KEY: raw })
    assert.ok(secrets.includes(Buffer.from(raw).toString('hex').padEnd(64, '0')))
    assert.deepEqual((await load({})).secrets, [])
  })

  test('is a command with words, but not the name of a program alone', async () => {
    assert.deepEqual((await load({ WALRX_KEY_COMMAND: 'vault get ' })).secrets, ['vault get'])
    assert.deepEqual((await load({ WALRX_KEY_COMMAND: '/usr/local/bin/get-key' })).secrets, [])
  })

  test('is a path that is rather a key', async () => {
    for (const path of [one, Buffer.alloc(32, 7).toString('base64'), 'correct horse battery staple', 'a\nb']) {
      assert.ok(looksLikeKey(path), path)
      assert.ok((await load({ WALG_LIBSODIUM_KEY_PATH: path })).secrets.includes(path), path)
    }
    for (const path of [
      '/etc/walrx/key',
      'key',
      'keys/of-the-archive-of-database-1',
      'a-long-name-of-a-file-with.key',
    ]) {
      assert.ok(!looksLikeKey(path), path)
    }
  })
})

test('a key in hex or base64 that is taken as it is, is worth a warning, and is named with that where it does not fit', async () => {
  const key = randomBytes(32)
  for (const [encoding, environment] of [
    ['hex', { WALG_LIBSODIUM_KEY: key.toString('hex') }],
    ['base64', { WALG_LIBSODIUM_KEY: key.toString('base64') }],
    ['hex', { WALG_LIBSODIUM_KEY_PATH: file('encoded', `${key.toString('hex')}\n`) }],
  ] as const) {
    const { notices } = await load(environment)
    assert.deepEqual(
      notices.map(({ level, message }) => [level, message.includes(`32 bytes in ${encoding}`)]),
      [['warn', true]],
    )
    const { writing } = await (await keyringOf(environment)).keys()
    assert.match(writing.label, new RegExp(`whose ${encoding} WALG_LIBSODIUM_KEY_TRANSFORM=none takes as it is$`))
    assert.deepEqual((await load({ ...environment, WALG_LIBSODIUM_KEY_TRANSFORM: encoding })).notices, [])
  }
})

test('a key file that every user can read is worth a warning, one that a group can read is not', async () => {
  const path = file('open', one)
  const warnings = async () =>
    (await load({ WALRX_READ_KEY_PATH: `hex:${path}` })).notices.map(({ hint, name }) => [name, hint])
  for (const [mode, expected] of [
    [0o600, []],
    [0o640, []],
    [0o644, [[`WALRX_READ_KEY_PATH=${path}`, `run: chmod o= ${path}`]]],
    [0o602, [[`WALRX_READ_KEY_PATH=${path}`, `run: chmod o= ${path}`]]],
  ] as const) {
    chmodSync(path, mode)
    assert.deepEqual(await warnings(), expected, mode.toString(8))
  }
  execFileSync('sh', ['-c', (await warnings())[0]?.[1]?.slice('run: '.length) ?? ''])
  assert.deepEqual(await warnings(), [])
})

describe('a text with keys', () => {
  const split = (text: string) => splitKeys(Buffer.from(text)).map(({ bytes, method }) => [method, bytes.toString()])
  const block = '-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nabc\n-----END PGP PUBLIC KEY BLOCK-----'

  test('has blocks of OpenPGP and lines of libsodium, in any order', () => {
    assert.deepEqual(split(`${block}\n`), [['OpenPGP', block]])
    assert.deepEqual(split(`\r\n a\r\n${block}\n${block}\nb`), [
      ['libsodium', 'a'],
      ['OpenPGP', block],
      ['OpenPGP', block],
      ['libsodium', 'b'],
    ])
    assert.deepEqual(split(' \n\t\n'), [])
  })

  test('is no more than a text, and shares its memory', () => {
    for (const bytes of [[0], [0xff], [0x1b], [0x7f], [0x61, 0x0a, 0x00]]) {
      assert.throws(() => splitKeys(Buffer.from(bytes)), /no text/)
    }
    const text = Buffer.from('abc')
    splitKeys(text)[0]?.bytes.fill(0)
    assert.deepEqual(text, Buffer.alloc(3))
    assert.ok(keyBytesMax >= 65536)
  })

  test('that is no key of libsodium is known by its beginning, and raw keys are not', () => {
    for (const text of [block, '-----BEGIN CERTIFICATE-----']) {
      assert.throws(() => refuseForeignKey(Buffer.from(text)), { code: 'WALRX_USAGE' })
    }
    for (let byte = 0; byte < 256; byte++) refuseForeignKey(Buffer.alloc(32, byte))
  })
})

test('files for reading have a transform of their own, or none', () => {
  assert.deepEqual(readFilesOf('/a, hex:/b ,base64:c,none:/d,other:/e,./hex:f,,'), [
    { path: '/a', transform: undefined },
    { path: '/b', transform: 'hex' },
    { path: 'c', transform: 'base64' },
    { path: '/d', transform: 'none' },
    { path: 'other:/e', transform: undefined },
    { path: './hex:f', transform: undefined },
  ])
})
