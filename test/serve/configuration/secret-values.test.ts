/** Values from the environment and from files: what they may hold, that they are secrets, and file systems that hang. */
import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, describe, test } from 'node:test'
import { servedSummary } from '../../../src/cli/terminal/served/served-summary.ts'
import { isSecretName } from '../../../src/observe/redact.ts'
import { answered, NoAnswerError } from '../../../src/serve/configuration/answered.ts'
import { readConfiguration } from '../../../src/serve/configuration/read-configuration.ts'
import { mistakeLines, readText } from './read-text.ts'

const folder = mkdtempSync(join(tmpdir(), 'walrx-secret-values-'))
after(() => rmSync(folder, { recursive: true }))

function fileOf(name: string, content: string | Buffer): string {
  const path = join(folder, name)
  writeFileSync(path, content)
  return path
}

const text = (environment: string, server = 'dbname: host=db1') => `clusters:
  orders:
    server: {${server}}
    storage: {file-prefix: ${folder}}
    environment: ${environment}
`
const foreign = Buffer.from([0x61, 0xff, 0x62])

describe('a value', () => {
  test('that came from elsewhere is a secret, whatever it is called', async () => {
    const path = fileOf('word', 'of-a-file-0815\n')
    const here = text(`{MY_WORD: "x \${WORD} y", OTHER_FILE: here, PGUSER_FILE: ${path}}`, 'dbname: "host=${HOST}"')
    const { configuration } = await readText(here, { WORD: 'of-the-environment', HOST: 'db1.internal' })
    assert.ok(configuration)
    const secrets = configuration.clusters[0]?.secrets ?? []
    for (const secret of ['of-the-environment', 'of-a-file-0815', 'db1.internal']) assert.ok(secrets.includes(secret))
    assert.ok(!servedSummary(configuration, 0).includes('db1.internal'))
  })

  test('of a variable that is called like a secret is one', () => {
    for (const name of ['VAULT_TOKEN', 'MY_API_KEY', 'A_SECRET_B', 'PGPASSWORD', 'GPG_PASSPHRASE_2']) {
      assert.ok(isSecretName(name), name)
    }
    for (const name of ['AWS_WEB_IDENTITY_TOKEN_FILE', 'slot', 'tokens', 'monkey']) assert.ok(!isSecretName(name), name)
  })

  test('has no bytes that are not UTF-8, and no zero byte', async () => {
    assert.deepEqual(await mistakeLines(text(`{PGPASSWORD_FILE: ${fileOf('foreign', foreign)}}`)), [
      'walrx.yaml:5:36: the file holds bytes that are not UTF-8',
    ])
    assert.deepEqual(await mistakeLines(text(`{PGPASSWORD_FILE: ${fileOf('zero', 'a\0b')}}`)), [
      'walrx.yaml:5:36: the file holds a zero byte',
    ])
    assert.deepEqual(await mistakeLines(text('{PGPASSWORD: "${WORD}"}'), { WORD: foreign.toString('utf8') }), [
      'walrx.yaml:5:31: the environment variable WORD holds bytes that are not UTF-8',
    ])
    const [before, rest] = text('{PGPASSWORD: "|"}').split('|')
    const bytes = Buffer.concat([Buffer.from(before ?? ''), Buffer.from('ä'), foreign, Buffer.from(rest ?? '')])
    assert.deepEqual(await mistakeLines(bytes), ['walrx.yaml:5:34: the file holds bytes that are not UTF-8'])
    assert.deepEqual(await mistakeLines(Buffer.from(text('{PGPASSWORD: "äöü\\uFFFD"}'))), [])
  })
})

describe('a file system that hangs', () => {
  test('is a mistake, and files are asked one after the other', async () => {
    const asked: string[] = []
    const { mistakes = [] } = await readConfiguration({
      text: text('{PGPASSWORD_FILE: /nfs/a, PGUSER_FILE: /nfs/b, PGAPPNAME_FILE: /nfs/a}'),
      environment: {},
      inspect: () => assert.fail('inspected'),
      readFile: (path) => {
        asked.push(path)
        return Promise.resolve({ problem: 'the file cannot be read: its file system did not answer within 5 s' })
      },
    })
    assert.deepEqual(asked, ['/nfs/a', '/nfs/b'])
    assert.deepEqual(
      mistakes.map(({ text: each }) => each.endsWith('did not answer within 5 s')),
      [true, true, true],
    )
  })

  test('holds no more than two threads, and counts no longer once it answers', async () => {
    const ends: (() => void)[] = []
    const hang = () => new Promise<void>((resolve) => void ends.push(resolve))
    const isLate = (error: unknown) => error instanceof NoAnswerError
    await assert.rejects(answered(hang, 1), isLate)
    await assert.rejects(answered(hang, 1), isLate)
    await assert.rejects(answered(hang, 1), isLate)
    assert.equal(ends.length, 2)
    // While two hang, no path is looked at: not one of the archive either.
    assert.match((await mistakeLines(text('{}'))).join(), /4:28: the file system of WALG_FILE_PREFIX did not answer/)
    for (const end of ends) end()
    await new Promise(setImmediate)
    assert.equal(await answered(() => Promise.resolve(7)), 7)
    await assert.rejects(
      answered(() => Promise.reject(new Error('its own'))),
      /its own/,
    )
  })
})
