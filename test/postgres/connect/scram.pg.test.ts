/**
 * Logins by SCRAM that libpq manages: many iterations, and passwords that SASLprep changes or refuses. Public reports of
 * a client that did not: node-postgres #2677, #3677, #3669.
 */
import assert from 'node:assert/strict'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { parseConninfo } from '../../../src/postgres/connect/conninfo.ts'
import { PgServer } from '../../../src/postgres/connect/connection.ts'
import { startPostgres, type TestPostgres } from '../../harness/postgres/postgres.ts'

let server: TestPostgres
before(async () => {
  server = await startPostgres({ major: 17 })
  await server.sql("create role r login replication password 'x'")
  await server.sql("create database ascii encoding 'SQL_ASCII' template template0")
  await server.configure({ hba: 'local all postgres trust\nhost replication r 127.0.0.1/32 scram-sha-256' })
  await server.reload()
})
after(() => server[Symbol.asyncDispose]())

async function logIn(conninfo: string, home?: string): Promise<void> {
  const parsed = parseConninfo(conninfo, { env: {}, home })
  await (await new PgServer({ conninfo: parsed }).connect()).close()
}

const url = (encoded: string) => `postgresql://r:${encoded}@127.0.0.1:${server.port}/`

test('scram_iterations of 250,000, and of more than a million', async () => {
  for (const iterations of [1, 4096, 250_000, 1_200_000]) {
    await server.sql(`set scram_iterations = ${iterations}; alter role r password 'x'`)
    await logIn(url('x'))
    await assert.rejects(logIn(url('y')), { code: 'WALRX_AUTH_FAILED', sqlstate: '28P01' })
  }
})

const passwords: Record<string, string> = {
  'ASCII with a control character': 'a\u0007b',
  'mapped to a space': 'a\u00a0b\u3000c',
  'partly mapped to nothing': 'a\u00adb\u200dc',
  normalized: '\u2168\ufb01\u212b',
  'composed from parts': 'e\u0301o\u0308',
  'empty after the mapping': '\u00ad\u00ad',
  'unassigned in Unicode 3.2, with a character that would be mapped': 'a\u00ad\u{1f600}\u2168',
  'unassigned, later than 3.2': '\u0221\u00aax',
  'a prohibited control character with one that would be normalized': '\u0085\u2168',
  'private use': '\ue000\u00aa',
  'a tag': '\u{e0001}\u00aa',
  'from right to left': '\u05d0\u05d11\u05d2\ufb01'.replace('\ufb01', ''),
  'of mixed direction, with one that would be normalized': '\u05d0a\u2168\u05d0',
  'from right to left with a digit at the end': '\u05d0\u05d1\u00b2',
  'Arabic with presentation forms': '\ufee1\ufe8e',
}

for (const [name, password] of Object.entries(passwords)) {
  test(`a password: ${name}`, async () => {
    await server.sql(`set scram_iterations = 1; alter role r password '${password}'`)
    await logIn(url(encodeURIComponent(password)))
    await assert.rejects(logIn(url(encodeURIComponent(`${password}x`))), { code: 'WALRX_AUTH_FAILED' })
  })
}

test('a password of bytes that are not UTF-8, from a URL and from a password file', async () => {
  await server.sql(
    `set scram_iterations = 1; do $$ begin execute format('alter role r password %L', convert_from('\\x61e963c3a9c2adff', 'SQL_ASCII')); end $$`,
    'postgres',
    'ascii',
  )
  await logIn(url('a%E9c%C3%A9%C2%AD%FF'))
  await assert.rejects(logIn(url('a%E9c%C3%A9%C2%AD%FE')), { code: 'WALRX_AUTH_FAILED' })
  const home = await mkdtemp(join(tmpdir(), 'walrx-bytes-'))
  const line = Buffer.concat([Buffer.from('*:*:*:*:'), Buffer.from('61e963c3a9c2adff', 'hex'), Buffer.from('\n')])
  await writeFile(join(home, '.pgpass'), line, { mode: 0o600 })
  await logIn(`host=127.0.0.1 port=${server.port} user=r`, home)
  await rm(home, { recursive: true })
})
