import assert from 'node:assert/strict'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { type Environment, loadSettings } from '../../src/config/load.ts'
import type { CommandName } from '../../src/config/options/option-types.ts'
import type { OptionKey } from '../../src/config/options/options.ts'
import { hasCode, WalrxError } from '../../src/primitives/errors.ts'

let home: string
before(async () => {
  home = await mkdtemp(join(tmpdir(), 'walrx-home-'))
})
after(() => rm(home, { recursive: true }))

/** Loads settings of wal-receive, or of another command. */
function load<C extends CommandName = 'wal-receive'>(
  environment: Environment,
  flags: Partial<Record<OptionKey, string>> = {},
  command: CommandName = 'wal-receive',
) {
  const given = new Map(Object.entries(flags) as [OptionKey, string][])
  return loadSettings<C>({ command: command as C, flags: given, environment, home })
}

/** The error of a load that must fail. */
async function failure(...args: Parameters<typeof load>): Promise<WalrxError> {
  const error = await load(...args).then(
    () => assert.fail('was accepted'),
    (reason: unknown) => reason,
  )
  assert.ok(error instanceof WalrxError)
  return error
}

/** Writes ~/.walg.json for the time of `use`. */
async function withConfigFile(settings: object, use: () => Promise<void>): Promise<void> {
  const path = join(home, '.walg.json')
  await writeFile(path, JSON.stringify(settings))
  try {
    await use()
  } finally {
    await rm(path)
  }
}

test('only a repeated flag has zero bytes, between its values', async () => {
  const { values } = await load<'backup-fetch'>({}, { tablespaceMapping: '/a=/b\0/c=/d' }, 'backup-fetch')
  assert.equal(values.tablespaceMapping, '/a=/b\0/c=/d')
  assert.match((await failure({}, { slotName: 'a\0b' })).message, /must not contain a zero byte/)
})

describe('precedence', () => {
  test('a flag goes before the environment, that before the config file, that before the default', async () => {
    assert.equal((await load({})).values.slotName, 'walrx')
    await withConfigFile({ WALG_SLOTNAME: 'file' }, async () => {
      const fromFile = await load({})
      assert.deepEqual([fromFile.values.slotName, fromFile.source('slotName')], ['file', 'config file'])
      const fromEnvironment = await load({ WALG_SLOTNAME: 'env' })
      assert.deepEqual([fromEnvironment.values.slotName, fromEnvironment.source('slotName')], ['env', 'environment'])
      const fromFlag = await load({ WALG_SLOTNAME: 'env' }, { slotName: 'flag' })
      assert.deepEqual([fromFlag.values.slotName, fromFlag.source('slotName')], ['flag', 'flag'])
    })
  })

  test('an empty variable counts as unset, so the config file speaks', async () => {
    await withConfigFile({ WALG_SLOTNAME: 'file' }, async () => {
      assert.equal((await load({ WALG_SLOTNAME: '' })).values.slotName, 'file')
    })
  })

  test("a variable under any of its names goes before the config file's under the first", async () => {
    await withConfigFile({ WALG_SLOTNAME: 'file' }, async () => {
      assert.equal((await load({ WALE_SLOTNAME: 'env' })).values.slotName, 'env')
    })
  })

  test('the config file is named by --config, else by WALG_CONFIG_PATH, else found in the home directory', async () => {
    const one = join(home, 'one.env')
    const two = join(home, 'two.env')
    await writeFile(one, 'WALG_SLOTNAME=one\n')
    await writeFile(two, 'WALG_SLOTNAME=two\n')
    await withConfigFile({ WALG_SLOTNAME: 'home' }, async () => {
      assert.equal((await load({})).values.slotName, 'home')
      assert.equal((await load({ WALG_CONFIG_PATH: one })).values.slotName, 'one')
      assert.equal((await load({ WALG_CONFIG_PATH: one }, { configPath: two })).values.slotName, 'two')
    })
  })

  test('a config file that was named must be there', async () => {
    assert.match((await failure({ WALG_CONFIG_PATH: '/nonexistent/x.json' })).message, /does not exist/)
  })
})

describe('names', () => {
  test('of S3 are understood bare, with WALG_ and with WALE_', async () => {
    for (const name of ['AWS_REGION', 'WALG_AWS_REGION', 'WALE_AWS_REGION']) {
      assert.equal((await load({ [name]: 'eu-west-3' })).values.awsRegion, 'eu-west-3', name)
    }
    for (const name of ['WALG_S3_PREFIX', 'WALE_S3_PREFIX']) {
      assert.equal((await load({ [name]: 's3://b' })).values.s3Prefix, 's3://b', name)
    }
    assert.equal((await load({ S3_STORAGE_CLASS: 'GLACIER' })).values.s3StorageClass, 'GLACIER')
    assert.equal((await load({ WALG_S3_STORAGE_CLASS: 'GLACIER' })).values.s3StorageClass, 'GLACIER')
  })

  test('are tried in order, the bare one first', async () => {
    assert.equal((await load({ WALG_AWS_REGION: 'b', AWS_REGION: 'a' })).values.awsRegion, 'a')
    assert.equal((await load({ AWS_ENDPOINT_URL: 'b', AWS_ENDPOINT: 'a' })).values.awsEndpoint, 'a')
  })

  test('unknown ones raise a warning with the nearest known one; those of other databases do not', async () => {
    const { notices } = await load({ WALG_S3_PREFX: 'x', WALRX_MEMROY: '1GB', WALG_MYSQL_DATA_DIR: 'x', PATH: '/bin' })
    assert.deepEqual(
      notices.map(({ level, name, hint }) => [level, name, hint]),
      [
        ['warn', 'WALG_S3_PREFX', 'did you mean WALG_S3_PREFIX?'],
        ['warn', 'WALRX_MEMROY', 'did you mean WALRX_MEMORY?'],
      ],
    )
  })
})

describe('values', () => {
  test('have the types of the table, and are frozen', async () => {
    const { values } = await load(
      { WALRX_MEMORY: '128MB', WALRX_DRAIN_TIMEOUT: '2m', WALRX_SLOTLESS: 'on' },
      { endPos: '0/3000000' },
    )
    assert.equal(values.memoryBytes, 128 * 1024 * 1024)
    assert.equal(values.drainTimeoutMs, 120_000)
    assert.equal(values.slotless, true)
    assert.equal(values.endPos, 0x3000000n)
    assert.equal(values.awsRegion, undefined)
    assert.throws(() => Object.assign(values, { slotName: 'x' }), TypeError)
  })

  test('a bad one is named with its origin', async () => {
    const error = await failure({ WALG_COMPRESSION_METHOD: 'foo' })
    assert.equal(error.code, 'WALRX_USAGE')
    assert.equal(
      error.message,
      'WALG_COMPRESSION_METHOD=foo (from environment): must be one of zstd, lz4, brotli, none, lzma, gzip',
    )
    assert.equal(
      (await failure({}, { memoryBytes: '1kB' })).message,
      '--memory=1kB: must be a size like 64MB from 2MB to 64GB',
    )
  })

  test("WAL-G's log levels are understood", async () => {
    assert.equal((await load({ WALG_LOG_LEVEL: 'DEVEL' })).values.logLevel, 'debug')
    assert.equal((await load({ WALG_LOG_LEVEL: 'NORMAL' })).values.logLevel, 'info')
    assert.equal((await load({ WALG_LOG_LEVEL: 'DEVEL', WALRX_LOG_LEVEL: 'warn' })).values.logLevel, 'warn')
  })

  test('describe names value and origin, but never the value of a secret or a password', async () => {
    const settings = await load(
      { AWS_SECRET_ACCESS_KEY: 'hush', WALG_SLOTNAME: 'mine' },
      { conninfo: 'postgresql://u:hush@h/db' },
    )
    assert.equal(settings.describe('slotName'), 'WALG_SLOTNAME=mine (from environment)')
    assert.equal(settings.describe('compressionMethod'), 'WALG_COMPRESSION_METHOD=zstd (default)')
    assert.equal(settings.describe('awsRegion'), 'AWS_REGION (not set)')
    assert.equal(settings.describe('awsSecretAccessKey'), 'AWS_SECRET_ACCESS_KEY (from environment)')
    assert.doesNotMatch(settings.describe('conninfo'), /hush/)
    assert.deepEqual(settings.secrets, ['hush'])
  })
})

describe("settings of WAL-G's that would change what is stored", () => {
  const refused: Environment[] = [
    { YC_CSE_KMS_KEY_ID: 'k' },
    { WALG_ENVELOPE_PGP_KEY: 'k' },
    { WALG_ENVELOPE_PGP_KEY_PATH: 'k' },
    { WALG_ENVELOPE_PGP_YC_CSE_KMS_KEY_ID: 'k' },
    { WALG_GS_PREFIX: 'gs://b' },
    { WALG_AZ_PREFIX: 'azure://b' },
    { WALG_SWIFT_PREFIX: 'swift://b' },
    { WALG_SSH_PREFIX: 'ssh://h' },
    { WALG_OSS_PREFIX: 'oss://b' },
    { WALG_FAILOVER_STORAGES: '{"a":{}}' },
    { WALG_TARGET_STORAGE: 'all' },
    { WALG_UPLOAD_WAL_METADATA: 'BULK' },
    { WALG_USE_WAL_DELTA: 'true' },
    { S3_RETENTION_PERIOD: '86400' },
    { WALE_S3_RETENTION_PERIOD: '86400' },
    { S3_ENDPOINT_SOURCE: 'http://x' },
    { S3_REQUEST_ADDITIONAL_HEADERS: 'a: b' },
    { WALG_COMPRESSION_METHOD: 'gzip' },
  ]

  test('stop the start with the name of the setting, and never its value', async () => {
    for (const environment of refused) {
      const [name = ''] = Object.keys(environment)
      const error = await failure(environment)
      assert.equal(error.code, 'WALRX_OPTION_UNSUPPORTED', name)
      assert.equal(error.exitStatus, 2)
      assert.ok(error.message.startsWith(name), error.message)
      assert.ok(!error.message.includes('\n'))
    }
    assert.doesNotMatch((await failure({ YC_CSE_KMS_KEY_ID: 'hush' })).message, /hush/)
  })

  test('are refused from the config file too', async () => {
    await withConfigFile({ YC_CSE_KMS_KEY_ID: 'k' }, async () => {
      assert.match((await failure({})).message, /^YC_CSE_KMS_KEY_ID is set \(config file\)/)
    })
  })

  test('pass where their value changes nothing', async () => {
    await load({
      WALG_UPLOAD_WAL_METADATA: 'NOMETADATA',
      WALG_USE_WAL_DELTA: 'false',
      S3_RETENTION_PERIOD: '-1',
      S3_RETENTION_MODE: 'COMPLIANCE',
      WALG_PG_BLOCK_SIZE: '8192',
      WALG_TARGET_STORAGE: 'default',
      AWS_ROLE_ARN: 'arn:aws:iam::1:role/x',
      AWS_WEB_IDENTITY_TOKEN_FILE: '/token',
    })
  })

  test('that only a writer heeds do not stop a recovery', async () => {
    for (const environment of [
      { WALG_USE_WAL_DELTA: 'true' },
      { WALG_UPLOAD_WAL_METADATA: 'BULK' },
      { S3_RETENTION_PERIOD: '9' },
    ]) {
      await load(environment, {}, 'wal-fetch')
    }
    const { values } = await load<'wal-fetch'>({ WALG_COMPRESSION_METHOD: 'gzip' }, {}, 'wal-fetch')
    assert.equal(values.compressionMethod, 'gzip')
    assert.ok(hasCode(await failure({ YC_CSE_KMS_KEY_ID: 'k' }, {}, 'wal-fetch'), 'WALRX_OPTION_UNSUPPORTED'))
  })

  test('those without effect are reported: at warn where an operator may miss something, else at debug', async () => {
    const { notices } = await load({ WALG_NETWORK_RATE_LIMIT: '1000', WALG_DOWNLOAD_FILE_RETRIES: '6' })
    assert.deepEqual(
      notices.map(({ level, name }) => [level, name]),
      [
        ['warn', 'WALG_NETWORK_RATE_LIMIT'],
        ['debug', 'WALG_DOWNLOAD_FILE_RETRIES'],
      ],
    )
  })
})

describe('what libraries read for themselves', () => {
  test('PG* settings come from file, environment and flags, in that order', async () => {
    await withConfigFile({ PGHOST: 'file', PGPORT: '1', PGSSLMODE: 'require' }, async () => {
      const settings = await load({ PGPORT: '2', PGUSER: 'env', PGCONNECT_TIMEOUT: '3' }, { pgUser: 'flag' })
      assert.deepEqual(settings.pgEnvironment, {
        PGHOST: 'file',
        PGPORT: '2',
        PGSSLMODE: 'require',
        PGUSER: 'flag',
        PGCONNECT_TIMEOUT: '3',
      })
    })
  })

  test('AWS_* settings of the file are values, and the environment stays as it was', async () => {
    await withConfigFile({ AWS_PROFILE: 'backup', AWS_REGION: 'file', PGHOST: 'file' }, async () => {
      const environment = Object.freeze({ AWS_REGION: 'env', WALG_SLOTNAME: 'x' })
      const settings = await load(environment)
      assert.equal(settings.values.awsProfile, 'backup')
      assert.equal(settings.values.awsRegion, 'env')
      assert.equal(settings.environment, environment)
    })
  })

  test('AWS_* settings that the AWS SDK finds in the environment alone are reported when the file has them', async () => {
    await withConfigFile({ AWS_EC2_METADATA_DISABLED: 'true', AWS_SDK_UA_APP_ID: 'x', AWS_PROFILE: 'p' }, async () => {
      const { notices } = await load({ AWS_SDK_UA_APP_ID: 'y', AWS_DEFAULTS_MODE: 'standard' })
      assert.deepEqual(
        notices.map(({ hint, level, name }) => [level, name, hint]),
        [['warn', 'AWS_EC2_METADATA_DISABLED', 'set AWS_EC2_METADATA_DISABLED in the environment instead']],
      )
    })
  })
})
