import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { isSecretName, redactForeignText, redactText } from '../../src/observe/redact.ts'

describe('redactText', () => {
  test('takes passwords out of connection strings and URLs, and leaves the rest', () => {
    assert.equal(
      redactText("host=db1 password=hush port=5432 sslpassword='it\\'s hush' user=u"),
      'host=db1 password=[redacted] port=5432 sslpassword=[redacted] user=u',
    )
    assert.equal(redactText('postgresql://u:hush@db1:5432/x'), 'postgresql://u:[redacted]@db1:5432/x')
    assert.equal(redactText('postgresql://u:@db1/x'), 'postgresql://u:@db1/x')
    assert.equal(redactText('http://127.0.0.1:9000/bucket'), 'http://127.0.0.1:9000/bucket')
    assert.equal(redactText('postgresql://h1:5432,h2:5433/db?user=a'), 'postgresql://h1:5432,h2:5433/db?user=a')
  })

  test('takes the signatures out of signed requests', () => {
    const url = 'https://b.s3.amazonaws.com/k?X-Amz-Credential=AKIA%2F1&X-Amz-Date=1&X-Amz-Signature=abc'
    assert.equal(
      redactText(url),
      'https://b.s3.amazonaws.com/k?X-Amz-Credential=[redacted]&X-Amz-Date=1&X-Amz-Signature=[redacted]',
    )
  })

  test('removes known secrets everywhere, but not texts that are too short', () => {
    assert.equal(redactText('got hunter22, hunter22!', ['hunter22']), 'got [redacted], [redacted]!')
    assert.equal(redactText('a banana', ['a', '']), 'a banana')
    assert.equal(redactText('xxa-secret-of-20-lettersxx', ['a-secret-of-20-letters']), 'xx[redacted]xx')
    const odd = ['h.n+er(2)', '$ecret]', 'ge-heim/', 'a\\b|c']
    for (const secret of odd) assert.equal(redactText(`x=${secret}, ${secret}`, [secret]), 'x=[redacted], [redacted]')
  })

  test('leaves words alone that a short secret is a part of, and the name of the program', () => {
    assert.equal(redactText('the latest test of it', ['test']), 'the latest [redacted] of it')
    const hint = 'run walrx backup-push as postgres'
    assert.equal(redactText(hint, ['walrx', 'postgres', 'back']), hint)
  })
})

test('names of secrets are recognised, and ordinary names are not', () => {
  for (const name of [
    'password',
    'PGPASSWORD',
    'secretAccessKey',
    'sessionToken',
    'sseC',
    'authorization',
    'privateKey',
  ]) {
    assert.ok(isSecretName(name), name)
  }
  for (const name of ['segment', 'key', 'timeline', 'passed', 'token', 'host']) assert.ok(!isSecretName(name), name)
})

test('texts of other programs lose tokens and long digits, and keep paths and words', () => {
  for (const [text, clean] of [
    ['X-Vault-Token: hvs.CAESIJ', 'X-Vault-Token: [redacted]'],
    ['Authorization: Bearer abc.def', 'Authorization: [redacted]'],
    ['passphrase="hush hush"', 'passphrase=[redacted]'],
    ['got 00112233445566778899aabbccddeeff', 'got [redacted]'],
    [`got ${Buffer.alloc(32, 'Hush7').toString('base64')}.`, 'got [redacted].'],
    [`got ${Buffer.alloc(32, 'Hush7').toString('base64')}`, 'got [redacted]'],
    ['/bin/sh: 1: /usr/local/lib/walrx/Keys/of-the-archive/of-database-1/get: not found', undefined],
    ['Error: connection to vault-7.internal.example.com:8200 refused', undefined],
  ] as const) {
    assert.equal(redactForeignText(text), clean ?? text)
  }
  assert.equal(redactForeignText('a hush b', ['hush']), 'a [redacted] b')
})
