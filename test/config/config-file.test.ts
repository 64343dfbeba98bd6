import assert from 'node:assert/strict'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { findConfigFile, readConfigFile } from '../../src/config/config-file.ts'
import { WalrxError } from '../../src/primitives/errors.ts'

let directory: string
before(async () => {
  directory = await mkdtemp(join(tmpdir(), 'walrx-config-'))
})
after(() => rm(directory, { recursive: true }))

/** Reads `text` as a file of that name. */
async function read(name: string, text: string): Promise<Record<string, string>> {
  const path = join(directory, name)
  await writeFile(path, text)
  return Object.fromEntries(await readConfigFile(path))
}

const settings = { WALG_S3_PREFIX: 's3://bucket/path', WALG_UPLOAD_CONCURRENCY: '4', AWS_S3_FORCE_PATH_STYLE: 'true' }

describe('readConfigFile', () => {
  test('reads the same settings from JSON, YAML, TOML and NAME=value', async () => {
    const json =
      '{"walg_s3_prefix":"s3://bucket/path","WALG_UPLOAD_CONCURRENCY":4,"AWS_S3_FORCE_PATH_STYLE":true,"X":null}'
    const yaml = 'WALG_S3_PREFIX: s3://bucket/path\nwalg_upload_concurrency: 4\nAWS_S3_FORCE_PATH_STYLE: true\nX: ""\n'
    const toml = 'WALG_S3_PREFIX = "s3://bucket/path"\nWALG_UPLOAD_CONCURRENCY = 4\nAWS_S3_FORCE_PATH_STYLE = true\n'
    const env =
      '# comment\nexport WALG_S3_PREFIX="s3://bucket/path"\nWALG_UPLOAD_CONCURRENCY=4 # four\n\nAWS_S3_FORCE_PATH_STYLE=\'true\'\nX=\n'
    assert.deepEqual(await read('a.json', json), settings)
    assert.deepEqual(await read('a.yaml', yaml), settings)
    assert.deepEqual(await read('a.yml', yaml), settings)
    assert.deepEqual(await read('a.toml', toml), settings)
    assert.deepEqual(await read('a.env', env), settings)
    assert.deepEqual(await read('a.conf', env), settings)
  })

  test('keeps what quotes protect', async () => {
    const text = 'A="a # b"\nB=\'a\\nb\'\nC="a\\nb\\"c"\nD=a=b#c\r\n'
    assert.deepEqual(await read('quotes.env', text), { A: 'a # b', B: 'a\\nb', C: 'a\nb"c', D: 'a=b#c' })
  })

  test('takes an empty file for no settings', async () => {
    for (const name of ['e.yaml', 'e.toml', 'e.env']) assert.deepEqual(await read(name, ''), {})
  })

  test('ends a value at its closing quote, whatever quotes a comment has', async () => {
    const text = [
      `A='x' # it's "mine"`,
      `B="x\\"y" # the "old" one`,
      `C="a"b"`,
      `D='it's # 1'`,
      `E='''x`,
      `F="x # y`,
    ].join('\n')
    const values = { A: 'x', B: 'x"y', C: 'a"b', D: "it's # 1", E: "'''x", F: '"x' }
    assert.deepEqual(await read('closing.env', text), values)
  })

  test('says which file, what is wrong and where known the line, and never quotes the file', async () => {
    const broken = {
      'b.json': '{\n"WALG_S3_PREFIX": "x",\n"AWS_SECRET_ACCESS_KEY": hush\n}',
      'b.yaml': 'A: 1\nB: [hush\n',
      'b.toml': 'A = 1\nB = hush\n',
      'b.env': 'A=1\nhush\n',
    }
    for (const [name, text] of Object.entries(broken)) {
      await assert.rejects(read(name, text), (error) => {
        assert.ok(error instanceof WalrxError && error.code === 'WALRX_USAGE', name)
        assert.match(error.message, /^config file .*\/b\.\w+ is not (JSON|[^\n]+ \(line [23]\))$/, name)
        assert.doesNotMatch(error.message, /hush/)
        return true
      })
    }
  })

  test('refuses nested values and files that are no map', async () => {
    await assert.rejects(read('n.json', '{"A":{"B":1}}'), /: the value of A is a list or a map$/)
    // certificates #1522: characters with a meaning in YAML at the beginning of a password.
    for (const [value, line] of [
      ['*s3cret', 2],
      ['&s3cret', 2],
      ['!s3cret word', 2],
      ['@s3cret', 2],
      ['%s3cret', 2],
      ['`s3cret', 2],
      ['{s3cret', undefined],
      ['"s3cret', undefined],
    ] as const) {
      await assert.rejects(read('s.yaml', `A: 1\nPGPASSWORD: ${value}\nB: 2\n`), (error) => {
        assert.ok(error instanceof WalrxError, String(error))
        assert.equal(error.code, 'WALRX_USAGE')
        assert.doesNotMatch(`${error.message} ${error.hint}`, /s3cret/)
        if (line !== undefined) assert.match(error.message, new RegExp(`\\(line ${line}\\)`))
        assert.match(error.hint ?? '', /single quotes/)
        return true
      })
    }
    const kept = "A: &x abc\nB: *x\nPGPASSWORD: 0071\nC: '*s'\n"
    assert.deepEqual(await read('k.yaml', kept), { A: 'abc', B: 'abc', PGPASSWORD: '0071', C: '*s' })
    await assert.rejects(read('n.yaml', 'A: [1, 2]'), /: the value of A is a list or a map$/)
    await assert.rejects(read('l.json', '[1]'), /is not a map of settings$/)
  })

  test('says that a file does not exist, or is a directory', async () => {
    await assert.rejects(readConfigFile(join(directory, 'none.json')), /none\.json does not exist$/)
    await assert.rejects(readConfigFile(directory), /cannot be read \(EISDIR\)$/)
  })
})

test('the config file of the home directory is the first that exists, JSON before the others', async () => {
  const home = await mkdtemp(join(directory, 'home-'))
  assert.equal(findConfigFile(home), undefined)
  await writeFile(join(home, '.walg.env'), '')
  assert.equal(findConfigFile(home), join(home, '.walg.env'))
  await writeFile(join(home, '.walg.json'), '{}')
  assert.equal(findConfigFile(home), join(home, '.walg.json'))
})
