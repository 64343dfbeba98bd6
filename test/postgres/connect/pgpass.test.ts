import assert from 'node:assert/strict'
import { chmod, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, test } from 'node:test'
import fc from 'fast-check'
import { silentLog } from '../../../src/observe/log.ts'
import {
  findPassword,
  passwordFileLine,
  passwordFromFile,
  type PasswordKey,
} from '../../../src/postgres/connect/pgpass.ts'

const key: PasswordKey = { host: 'db', port: 5432, database: 'replication', user: 'walrx' }

describe('lines of a password file', () => {
  test('the first line that fits wins', () => {
    const text = 'other:5432:replication:walrx:no\ndb:5432:replication:walrx:yes\ndb:5432:replication:walrx:late\n'
    assert.equal(findPassword(text, key), 'yes')
    assert.equal(findPassword('', key), undefined)
    assert.equal(findPassword('nonsense\ndb:5432\n\n:::::\n', key), undefined)
  })

  test('a star fits anything, but only as a whole field', () => {
    assert.equal(findPassword('*:*:*:*:any', key), 'any')
    assert.equal(findPassword('db:*:replication:*:any', key), 'any')
    assert.equal(findPassword('d*:*:*:*:no', key), undefined)
    assert.equal(findPassword('\\*:*:*:*:no', key), undefined)
  })

  test('a password may hold colons, and backslashes take the next character', () => {
    assert.equal(findPassword('*:*:*:*:a:b\\:c\\\\d', key), 'a:b:c\\d')
    assert.equal(findPassword('::1:5432:*:*:no\n\\:\\:1:5432:*:*:yes', { ...key, host: '::1' }), 'yes')
  })

  test('comments and carriage returns are no part of it', () => {
    assert.equal(findPassword('# *:*:*:*:no\r\n*:*:*:*:yes\r\n', key), 'yes')
    assert.equal(findPassword('#:5432:*:*:no\n', { ...key, host: '#' }), undefined)
  })

  test('a replication connection is looked up by the database name replication', () => {
    assert.equal(findPassword('*:*:postgres:*:no\n*:*:replication:*:yes', key), 'yes')
  })

  test('the usual socket directories are called localhost, others by their path', () => {
    const text = 'localhost:*:*:*:local\n/srv/pg:*:*:*:other'
    for (const host of [undefined, '/var/run/postgresql', '/tmp', 'localhost']) {
      assert.equal(findPassword(text, { ...key, host }), 'local')
    }
    assert.equal(findPassword(text, { ...key, host: '/srv/pg' }), 'other')
  })

  test('the line that a hint proposes is one that fits', () => {
    const field = fc.string({ unit: 'grapheme-ascii', minLength: 1 }).filter((text) => !/[\r\n]|^#|^\*$/.test(text))
    fc.assert(
      fc.property(field, field, fc.integer({ min: 1, max: 65_535 }), (host, user, port) => {
        const wanted = { host, user, port, database: 'replication' }
        assert.equal(findPassword(passwordFileLine(wanted), wanted), 'PASSWORD')
      }),
    )
  })
})

describe('the password file', () => {
  test('a file that other users may read is ignored with a warning, a missing one silently', async () => {
    const directory = await mkdtemp(join(tmpdir(), 'walrx-pgpass-'))
    try {
      const warnings: string[] = []
      const log = { ...silentLog, warn: (text: string) => void warnings.push(text) }
      const path = join(directory, 'pgpass')
      assert.equal(await passwordFromFile(path, key, log), undefined)
      assert.deepEqual(warnings, [])
      await writeFile(path, '*:*:*:*:secret', { mode: 0o600 })
      assert.equal(await passwordFromFile(path, key, log), 'secret')
      for (const mode of [0o640, 0o604, 0o620]) {
        await chmod(path, mode)
        assert.equal(await passwordFromFile(path, key, log), undefined)
      }
      assert.deepEqual(warnings, Array(3).fill('password file ignored: other users may read it; run chmod 0600 on it'))
      await mkdir(join(directory, 'dir'))
      assert.equal(await passwordFromFile(join(directory, 'dir'), key, log), undefined)
      assert.equal(warnings[3], 'password file ignored: it is not a plain file')
    } finally {
      await rm(directory, { recursive: true })
    }
  })
})
