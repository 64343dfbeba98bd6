/** libpq's verdicts with verify-full. Public reports of clients that differ: psycopg2 #1543, node-postgres #2263. */
import assert from 'node:assert/strict'
import { X509Certificate } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { after, before, describe, test } from 'node:test'
import { type CertificateNames, hostMismatch } from '../../../src/postgres/protocol/certificate-name.ts'
import { TestAuthority, withoutOpenssl } from '../../harness/postgres/certificates.ts'

/** Common name, alternative names, hosts that are taken, hosts that are refused. */
const table: readonly (readonly [string, string | undefined, readonly string[], readonly string[]])[] = [
  ['db1.example', undefined, ['db1.example', 'DB1.Example'], ['db2.example', 'example', 'a.db1.example', '10.0.0.1']],
  ['db1.example', 'DNS:other', ['other'], ['db1.example']],
  // An alternative name of the other kind leaves the common name in force.
  ['db1.example', 'IP:10.0.0.1', ['db1.example', '10.0.0.1'], ['10.0.0.2']],
  ['10.0.0.1', undefined, ['10.0.0.1'], ['10.0.0.2']],
  ['10.0.0.1', 'DNS:db1', ['10.0.0.1', 'db1'], ['10.0.0.2']],
  ['10.0.0.1', 'IP:10.0.0.2', ['10.0.0.2'], ['10.0.0.1']],
  ['x', 'DNS:10.0.0.1', ['10.0.0.1'], ['10.0.0.2']],
  ['x', 'IP:::1,IP:2001:db8::1', ['::1', '0:0:0:0:0:0:0:1', '2001:DB8:0::1', 'x'], ['::2', '127.0.0.1']],
  ['*.example.org', undefined, ['a.example.org'], ['example.org', 'a.b.example.org', '.example.com']],
  ['x', 'DNS:*.example', ['a.example', 'ab.example'], ['example', 'a.b.example']],
  ['x', 'DNS:d*.example.org', ['d*.example.org'], ['db.example.org', 'd.example.org']],
  ['x', 'DNS:a.*.org', [], ['a.b.org']],
  ['x', 'DNS:*', [], ['a', 'a.b']],
  ['x', 'DNS:one,DNS:two,DNS:*.three', ['one', 'two', 'a.three'], ['three', 'x']],
]

describe('the name in a certificate', { skip: withoutOpenssl }, () => {
  let authority: TestAuthority
  before(async () => (authority = await TestAuthority.create('names')))
  after(() => authority[Symbol.asyncDispose]())

  for (const [commonName, alternative, taken, refused] of table) {
    test(`CN=${commonName} with ${alternative ?? 'no alternative names'}`, async () => {
      const { cert } = await authority.issue(commonName, alternative)
      const names = new X509Certificate(await readFile(cert)).toLegacyObject() as CertificateNames
      for (const host of taken) assert.equal(hostMismatch(host, names), undefined, host)
      for (const host of refused) {
        const error = hostMismatch(host, names)
        const lacking = /^[\d.]+$|:/.test(host) ? `IP:${host}` : `DNS:${host}`
        assert.ok(
          error?.message.endsWith(`does not match host name "${host}": it lacks the alternative name ${lacking}`),
        )
      }
    })
  }
})

test('names that try to look like several, or like the end of another, are one', () => {
  assert.ok(hostMismatch('db1', { subjectaltname: 'DNS:"evil, DNS:db1"' }))
  assert.ok(hostMismatch('db1', { subjectaltname: 'DNS:"db1\\u0000.evil"' }))
  assert.ok(hostMismatch('db1', {}))
  assert.equal(hostMismatch('db1', { subject: { CN: ['db1', 'db2'] } }), undefined)
  assert.ok(hostMismatch('db2', { subject: { CN: ['db1', 'db2'] } }))
  assert.match(
    hostMismatch('h', { subjectaltname: 'DNS:a, DNS:b, URI:x' })?.message ?? '',
    /^server certificate for "a" \(and 1 other name\) does/,
  )
})
