import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { promisify } from 'node:util'
import { keyBytes, type KeyTransform, libsodiumKey, trimKeyFile } from '../../../src/crypto/libsodium/libsodium-key.ts'
import { secretstreamCrypter } from '../../../src/crypto/libsodium/secretstream.ts'
import { hasCode, type WalrxError } from '../../../src/primitives/errors.ts'
import { collect, sourceOf } from '../../harness/made/secretstreams.ts'
import { Random } from '../../harness/random.ts'

const run = promisify(execFile)

const bytes = (text: string) => Buffer.from(text, 'latin1')
/** 32 bytes of every kind. */
const raw = Buffer.from(Array.from({ length: keyBytes }, (_, index) => (index * 37 + 200) & 0xff))
const hex = raw.toString('hex')
const base64 = raw.toString('base64')

interface Accepted {
  readonly name: string
  readonly text: Buffer
  readonly key: Buffer
}

interface Refused {
  readonly name: string
  readonly text: Buffer
  readonly message: RegExp
}

const padded = (text: Buffer) => Buffer.concat([text, Buffer.alloc(keyBytes)]).subarray(0, keyBytes)
const letters = (count: number) => 'k'.repeat(count)

const accepted: Record<KeyTransform, Accepted[]> = {
  none: [
    { name: '25 bytes, padded with zeros', text: bytes(letters(25)), key: padded(bytes(letters(25))) },
    { name: '31 bytes', text: bytes(letters(31)), key: padded(bytes(letters(31))) },
    {
      name: '32 bytes',
      text: bytes('0123456789abcdef0123456789ABCDEF'),
      key: bytes('0123456789abcdef0123456789ABCDEF'),
    },
    { name: '33 bytes, cut', text: bytes(`${letters(32)}x`), key: bytes(letters(32)) },
    { name: 'hex digits whose first 32 are the key', text: bytes(hex), key: bytes(hex.slice(0, 32)) },
    { name: '17 characters of 34 bytes, cut', text: Buffer.from('ü'.repeat(17)), key: Buffer.from('ü'.repeat(16)) },
    {
      name: 'white space within and around',
      text: bytes(`  ${letters(24)}\n `),
      key: padded(bytes(`  ${letters(24)}\n `)),
    },
  ],
  hex: [
    { name: 'small letters', text: bytes(hex), key: raw },
    { name: 'capital letters', text: bytes(hex.toUpperCase()), key: raw },
    { name: 'both', text: bytes(hex.slice(0, 31) + hex.slice(31).toUpperCase()), key: raw },
  ],
  base64: [
    { name: 'as openssl prints it', text: bytes(base64), key: raw },
    { name: 'with a line end within', text: bytes(`${base64.slice(0, 20)}\n${base64.slice(20)}`), key: raw },
    { name: 'with line ends everywhere', text: bytes(`\r\n${[...base64].join('\r\n')}\n\n`), key: raw },
    { name: 'with a line end before the padding', text: bytes(`${base64.slice(0, 43)}\n=`), key: raw },
    { name: 'with bits after the last byte', text: bytes(`${'A'.repeat(42)}B=`), key: Buffer.alloc(keyBytes) },
    { name: 'with + and /', text: bytes(`${'+/'.repeat(21)}8=`), key: Buffer.from(`${'+/'.repeat(21)}8=`, 'base64') },
  ],
}

const refused: Record<KeyTransform, Refused[]> = {
  none: [
    { name: 'nothing', text: bytes(''), message: /^the key has 0 bytes, and needs 25 at least$/ },
    { name: '24 bytes', text: bytes(letters(24)), message: /^the key has 24 bytes, and needs 25 at least$/ },
  ],
  hex: [
    { name: 'nothing', text: bytes(''), message: /^the key has 0 hex digits instead of 64$/ },
    { name: 'one digit less', text: bytes(hex.slice(1)), message: /has 63 hex digits instead of 64$/ },
    { name: 'one byte less', text: bytes(hex.slice(2)), message: /has 62 hex digits instead of 64$/ },
    { name: 'one byte more', text: bytes(`${hex}00`), message: /has 66 hex digits instead of 64$/ },
    {
      name: 'another letter',
      text: bytes(`${hex.slice(0, 9)}g${hex.slice(10)}`),
      message: /has a character at byte 10 of 64, /,
    },
    { name: 'a prefix', text: bytes(`0x${hex}`), message: /has a character at byte 2 of 66, which is no hex digit$/ },
    {
      name: 'a space',
      text: bytes(`${hex.slice(0, 8)} ${hex.slice(8)}`),
      message: /has white space at byte 9 of 65, /,
    },
    { name: 'a line end after it', text: bytes(`${hex}\n`), message: /has white space at byte 65 of 65, / },
    { name: 'a digit of another script', text: Buffer.from(`${hex.slice(0, 62)}１`), message: /at byte 63 of 65, / },
  ],
  base64: [
    { name: 'nothing', text: bytes(''), message: /^the key has 0 bytes in base64 instead of 32$/ },
    {
      name: 'without its padding',
      text: bytes(base64.slice(0, 43)),
      message: /has 43 digits of base64 and 0 signs of padding/,
    },
    { name: 'with more padding', text: bytes(`${base64}=`), message: /has 43 digits of base64 and 2 signs of padding/ },
    {
      name: 'with padding within',
      text: bytes(`AA==${base64}`),
      message: /has a character at byte 5 of 48, which follows after/,
    },
    { name: 'with a space', text: bytes(`${base64} `), message: /has white space at byte 45 of 45, / },
    {
      name: 'in the alphabet for URLs',
      text: bytes(`${'-_'.repeat(21)}8=`),
      message: /has a character at byte 1 of 44, which is not of/,
    },
    {
      name: 'one byte less',
      text: bytes(raw.subarray(1).toString('base64')),
      message: /has 31 bytes in base64 instead of 32$/,
    },
    { name: 'three bytes more', text: bytes(`AAAA${base64}`), message: /has 35 bytes in base64 instead of 32$/ },
    { name: 'of 64 hex digits', text: bytes(hex), message: /has 48 bytes in base64 instead of 32$/ },
    { name: 'of one digit', text: bytes('A==='), message: /has 1 digits of base64 and 3 signs of padding/ },
    { name: 'of padding', text: bytes('===='), message: /has 0 digits of base64 and 4 signs of padding/ },
    {
      name: 'with a byte that is no ASCII',
      text: bytes(`${base64.slice(0, 10)}\xe9`),
      message: /has a character at byte 11 of 11, /,
    },
  ],
}

const transforms = ['none', 'hex', 'base64'] as const

for (const transform of transforms) {
  describe(`a key under ${transform}`, () => {
    for (const { key, name, text } of accepted[transform]) {
      test(`is taken: ${name}`, async () => {
        const copy = Buffer.from(text)
        const taken = await libsodiumKey(text, transform)
        assert.ok(taken.equals(key))
        assert.ok((taken as { secure?: boolean }).secure, 'not in memory of sodium_malloc')
        assert.ok(text.equals(copy), 'the text was changed')
      })
    }

    for (const { message, name, text } of refused[transform]) {
      test(`is refused: ${name}`, async () => {
        await assert.rejects(libsodiumKey(text, transform), (error: WalrxError) => {
          assert.ok(hasCode(error, 'WALRX_USAGE'), String(error))
          assert.match(error.message, message)
          assert.match(error.hint ?? '', /`openssl rand -(hex|base64) 32`/)
          assert.equal(error.cause, undefined)
          // No four characters of the key stand in the message. (Its numbers are not of the key.)
          const words = `${error.message} ${error.hint}`
          for (let at = 0; at + 4 <= text.length; at++) {
            assert.ok(!words.includes(text.toString('latin1', at, at + 4)) || name === 'nothing', words)
          }
          return true
        })
      })
    }
  })
}

test('base64 is decoded as Node decodes it, where Node and Go agree', async () => {
  for (let seed = 0; seed < 200; seed++) {
    const random = new Random(seed)
    const key = Buffer.from(Array.from({ length: keyBytes }, () => random.int(0, 255)))
    assert.ok((await libsodiumKey(bytes(key.toString('base64')), 'base64')).equals(key), `seed ${seed}`)
    assert.ok((await libsodiumKey(bytes(key.toString('hex')), 'hex')).equals(key), `seed ${seed}`)
  }
})

describe('the white space around a key file', () => {
  const key = 'the key'
  for (const [name, before, end] of [
    ['of ASCII', '\t\n\v\f\r ', '\r\n \t'],
    ['of Latin-1, in UTF-8', '\u0085\u00a0', '\u00a0\u0085\n'],
    ['of Unicode', '\u1680\u2000\u200a\u2028\u2029', '\u202f\u205f\u3000\u2003'],
    ['mixed', '\n\u3000 \u0085', '\u2028\t\u00a0\n'],
  ] as const) {
    test(`${name} does not count`, () => {
      assert.equal(trimKeyFile(Buffer.from(`${before}${key}${end}`)).toString(), key)
    })
  }

  test('within the key counts, and so does what is none', () => {
    for (const text of ['a b', '\u200bkey', 'key\ufeff', '\u180ekey', 'key\0', 'a\n\u00a0b']) {
      assert.equal(trimKeyFile(Buffer.from(` ${text}\n`)).toString(), text)
    }
  })

  test('is not seen in bytes that are no UTF-8', () => {
    for (const text of [
      '\x85key',
      'key\x85',
      'key\xa0',
      '\xa0',
      '\xc2',
      '\x85\xc2',
      '\xe2\x80',
      '\x80\x80',
      '\xe3\x80key\xe3',
    ]) {
      assert.equal(trimKeyFile(bytes(`\n${text} `)).toString('latin1'), text)
    }
  })

  test('is all that a file can have', () => {
    for (const text of ['', ' ', '\n\n', '\u00a0', '\u3000\u2028'])
      assert.equal(trimKeyFile(Buffer.from(text)).length, 0)
  })
})

const walg = process.env.WALG_BIN

describe('WAL-G', { skip: walg ? false : 'no program of WAL-G given' }, () => {
  let folder: string
  before(async () => {
    folder = await mkdtemp(join(tmpdir(), 'walrx-keys-'))
    await mkdir(join(folder, 'data/pg_wal/archive_status'), { recursive: true })
    await mkdir(join(folder, 'archive'))
    await writeFile(join(folder, 'data/pg_wal', name), content)
  })
  after(() => rm(folder, { recursive: true, force: true }))

  const name = '00000002.history'
  const content = Buffer.from('1\t0/3000000\tno recovery target specified\n'.repeat(1000))

  /** What WAL-G makes of the content with this key; throws where it refuses the key. */
  async function push(transform: KeyTransform, key: { WALG_LIBSODIUM_KEY?: string; WALG_LIBSODIUM_KEY_PATH?: string }) {
    const stored = join(folder, 'archive/wal_005', name)
    await rm(stored, { force: true })
    const env = {
      PATH: process.env.PATH,
      HOME: folder,
      PGDATA: join(folder, 'data'),
      WALG_FILE_PREFIX: join(folder, 'archive'),
      WALG_COMPRESSION_METHOD: 'none',
      WALG_LIBSODIUM_KEY_TRANSFORM: transform,
      ...key,
    }
    await run(walg ?? '', ['wal-push', join(folder, 'data/pg_wal', name)], { env, timeout: 60_000 })
    return readFile(stored)
  }

  async function assertOpens(object: Buffer, key: Buffer): Promise<void> {
    const crypter = await secretstreamCrypter(key, 'KEY')
    assert.ok((await collect(crypter.decrypt(sourceOf([object])))).equals(content))
  }

  for (const transform of transforms) {
    test(`takes the same keys under ${transform}, from the environment and from a file`, async () => {
      for (const { key, name: kind, text } of accepted[transform]) {
        await assertOpens(await push(transform, { WALG_LIBSODIUM_KEY: text.toString() }), key)
        const path = join(folder, 'key')
        const file = Buffer.concat([Buffer.from('\u3000\n'), text, Buffer.from(' \u0085\r\n')])
        await writeFile(path, file)
        const trimmed = trimKeyFile(file)
        const ours = await libsodiumKey(trimmed, transform).catch(() => undefined)
        const theirs = await push(transform, { WALG_LIBSODIUM_KEY_PATH: path }).catch(() => undefined)
        assert.equal(theirs !== undefined, ours !== undefined, `${kind} in a file`)
        if (ours && theirs) await assertOpens(theirs, ours)
      }
    })

    test(`refuses the same keys under ${transform}`, async () => {
      for (const { name: kind, text } of refused[transform]) {
        // An empty setting is none.
        if (text.length === 0) continue
        const path = join(folder, 'key')
        await writeFile(path, text)
        // What is refused in the environment for white space around it is taken from a file.
        const isTaken = await libsodiumKey(trimKeyFile(text), transform).catch(() => undefined)
        const theirs = await push(transform, { WALG_LIBSODIUM_KEY_PATH: path }).catch(() => undefined)
        assert.equal(theirs !== undefined, isTaken !== undefined, `${kind} in a file`)
        await assert.rejects(push(transform, { WALG_LIBSODIUM_KEY: text.toString() }), kind)
      }
    })
  }

  test('trims a file that is no UTF-8 as walrx does', async () => {
    const path = join(folder, 'key')
    for (const text of ['\x85'.repeat(30), `${letters(27)}\xc2\xa0\xa0`, `\xe2\x80\x83${letters(30)}\xe2\x80`]) {
      await writeFile(path, bytes(text))
      const key = await libsodiumKey(trimKeyFile(bytes(text)), 'none')
      await assertOpens(await push('none', { WALG_LIBSODIUM_KEY_PATH: path }), key)
    }
  })
})
