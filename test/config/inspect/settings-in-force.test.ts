import assert from 'node:assert/strict'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { inspectSettings } from '../../../src/config/inspect/settings-in-force.ts'
import type { Environment } from '../../../src/config/load.ts'
import type { CommandName, OptionSpec } from '../../../src/config/options/option-types.ts'
import { type OptionKey, optionTable } from '../../../src/config/options/options.ts'
import { optionNames } from '../../../src/config/setting-names.ts'

let home: string
before(async () => {
  home = await mkdtemp(join(tmpdir(), 'walrx-home-'))
})
after(() => rm(home, { recursive: true }))

interface Given {
  readonly environment?: Environment
  readonly flags?: Partial<Record<OptionKey, string>>
  readonly command?: CommandName
  readonly file?: object
}

/** What is found, with a ~/.walg.json of these settings. */
async function inspect({ command, environment = {}, file, flags = {} }: Given) {
  const path = join(home, '.walg.json')
  if (file) await writeFile(path, JSON.stringify(file))
  try {
    const given = new Map(Object.entries(flags) as [OptionKey, string][])
    return await inspectSettings({ command, flags: given, environment, home })
  } finally {
    await rm(path, { force: true })
  }
}

async function optionOf(label: string, given: Given) {
  const { options } = await inspect(given)
  return options.find((each) => each.label === label) ?? assert.fail(label)
}

test('each value has its source and the name that has set it, and the others are overridden', async () => {
  const file = { WALG_SLOTNAME: 'of-file', walg_s3_prefix: 's3://b' }
  const environment = { WALE_SLOTNAME: 'of-environment', AWS_REGION: 'a', WALG_AWS_REGION: 'b' }
  const { configFile, options, others } = await inspect({ file, environment, flags: { slotName: 'of-flag' } })
  assert.equal(configFile, join(home, '.walg.json'))
  const shown = options.filter(({ source }) => source !== 'default')
  assert.deepEqual(
    shown.map(({ label, setBy, source, value }) => [label, value, source, setBy]),
    [
      ['WALG_S3_PREFIX', 's3://b', 'config file', 'WALG_S3_PREFIX'],
      ['AWS_REGION', 'a', 'environment', 'AWS_REGION'],
      ['WALG_SLOTNAME', 'of-flag', 'flag', '--slotname'],
    ],
  )
  assert.deepEqual(
    others.map(({ name, reason, source, treatment }) => [name, source, treatment, reason]),
    [
      ['WALG_AWS_REGION', 'environment', 'overridden', 'AWS_REGION takes precedence'],
      ['WALG_SLOTNAME', 'config file', 'overridden', '--slotname takes precedence'],
      ['WALE_SLOTNAME', 'environment', 'overridden', '--slotname takes precedence'],
    ],
  )
})

test('no secret is shown, in whatever setting and source it is', async () => {
  const secret = 'k5Xw-very-secret-0123456789'
  const specs = Object.values<OptionSpec>(optionTable).filter((spec) => spec.secret)
  assert.ok(specs.length >= 8)
  for (const name of specs.flatMap(({ env }) => optionNames(env))) {
    for (const given of [{ environment: { [name]: secret } }, { file: { [name]: secret } }]) {
      const found = await inspect(given)
      // A config file's names are in capitals.
      const option = found.options.find(({ setBy }) => setBy?.toUpperCase() === name.toUpperCase())
      assert.ok(option?.isSecret, name)
      assert.doesNotMatch(JSON.stringify(found), /very-secret/, name)
    }
  }
  const conninfo = { conninfo: `postgresql://walrx:${secret}@db1/postgres` }
  const environment = { AWS_ENDPOINT: `https://user:${secret}@store`, WALG_LIBSODIUM_KEY_PATH: 'a'.repeat(63) + '1' }
  const found = await inspect({ environment, flags: conninfo })
  assert.doesNotMatch(JSON.stringify(found), /very-secret|aaaaaaaa/)
  assert.match(JSON.stringify(found), /postgresql:\/\/walrx:\[redacted\]@db1\/postgres/)
})

test('a value that cannot be used is shown with what is wrong, and stops nothing', async () => {
  const environment = { WALG_ZSTD_LEVEL: 'fast', WALRX_MEMORY: '1kB', WALG_COMPRESSION_METHOD: 'gzip' }
  const problem = async (label: string, command?: CommandName) =>
    (await optionOf(label, { environment, ...(command && { command }) })).problem
  assert.equal(await problem('WALG_ZSTD_LEVEL'), 'must be one of fastest, default, better, best')
  assert.match((await problem('WALRX_MEMORY')) ?? '', /^must be a size/)
  // Some commands read what others cannot write.
  assert.equal(await problem('WALG_COMPRESSION_METHOD'), undefined)
  assert.equal(await problem('WALG_COMPRESSION_METHOD', 'wal-fetch'), undefined)
  assert.match((await problem('WALG_COMPRESSION_METHOD', 'wal-receive')) ?? '', /reads that codec/)
})

test('what no option takes is there with its effect: refused, without effect, harmless, passed on, unknown', async () => {
  const environment = {
    WALG_USE_WAL_DELTA: 'true',
    WALG_UPLOAD_WAL_METADATA: 'NOMETADATA',
    WALG_UPLOAD_QUEUE: '2',
    WALG_S3_PREFX: 's3://b',
    PGSSLCRL: '/crl',
    AWS_EC2_METADATA_DISABLED: 'true',
    PATH: '/bin',
  }
  const file = { WALRX_MEMROY: '1GB', AWS_EC2_METADATA_DISABLED: 'false', OTHER: 1 }
  const effects = async (command: CommandName | undefined) => {
    const { others } = await inspect({ environment, file, ...(command && { command }) })
    return others.map(({ hint, name, source, treatment }) => [name, source, treatment, hint])
  }
  const expected = (delta: string) => [
    ['AWS_EC2_METADATA_DISABLED', 'environment', 'passed on', undefined],
    ['AWS_EC2_METADATA_DISABLED', 'config file', 'warned', 'set AWS_EC2_METADATA_DISABLED in the environment instead'],
    ['OTHER', 'config file', 'unknown', 'remove it: docs/reference.md lists all settings'],
    ['PGSSLCRL', 'environment', 'passed on', undefined],
    ['WALG_S3_PREFX', 'environment', 'unknown', 'did you mean WALG_S3_PREFIX?'],
    ['WALG_UPLOAD_QUEUE', 'environment', 'ignored', undefined],
    ['WALG_UPLOAD_WAL_METADATA', 'environment', 'harmless', undefined],
    ['WALG_USE_WAL_DELTA', 'environment', delta, undefined],
    ['WALRX_MEMROY', 'config file', 'unknown', 'did you mean WALRX_MEMORY?'],
  ]
  assert.deepEqual(await effects(undefined), expected('refused'))
  assert.deepEqual(await effects('wal-receive'), expected('refused'))
  assert.deepEqual(await effects('wal-fetch'), expected('ignored'))
})

test('a command has its own options only, all others are there without one', async () => {
  assert.equal((await inspect({})).options.length, Object.keys(optionTable).length)
  const { options } = await inspect({ command: 'wal-fetch' })
  assert.ok(options.some(({ label }) => label === 'WALRX_PREFETCH_SIZE'))
  assert.ok(!options.some(({ label }) => label === 'WALG_SLOTNAME'))
})
