import assert from 'node:assert/strict'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { describe, test } from 'node:test'
import { flagArguments } from '../../../../src/cli/settings/calls/own-program.ts'
import { neededSettings } from '../../../../src/cli/settings/calls/server-environment.ts'
import { loadSettings } from '../../../../src/config/load.ts'
import type { OptionKey } from '../../../../src/config/options/options.ts'

const load = (environment: Record<string, string>, flags: [OptionKey, string][] = [], home?: string) =>
  loadSettings({ command: 'backup-fetch', flags: new Map(flags), environment, home })

describe('what wal-fetch needs of the server', () => {
  test('is every variable that a setting comes from, also those that only wal-fetch takes', async () => {
    const { environment } = neededSettings(
      await load({
        WALG_FILE_PREFIX: '/archive',
        WALRX_FETCH_RETRY_TIMEOUT: '5min',
        WALG_DOWNLOAD_CONCURRENCY: '4',
        WALRX_LOG_LEVEL: 'debug',
        AWS_EC2_METADATA_DISABLED: 'true',
      }),
    )
    assert.deepEqual(
      new Map(environment.map(({ name, value }) => [name, value])),
      new Map([
        ['WALG_FILE_PREFIX', '/archive'],
        ['WALG_DOWNLOAD_CONCURRENCY', '4'],
        ['WALRX_FETCH_RETRY_TIMEOUT', '5min'],
      ]),
    )
  })

  test('is for S3 also what the SDK reads by itself; paths are absolute, and secrets have no value', async () => {
    const { environment } = neededSettings(
      await load({
        WALG_S3_PREFIX: 's3://bucket/path',
        AWS_PROFILE: 'backup',
        AWS_SHARED_CREDENTIALS_FILE: 'credentials',
        AWS_SECRET_ACCESS_KEY: 'hush',
        WALE_S3_SSE_C: 'hush',
        AWS_ENDPOINT: 'https://me:hush@store',
        AWS_CONTAINER_CREDENTIALS_FULL_URI: 'http://localhost/keys',
        AWS_CONTAINER_AUTHORIZATION_TOKEN: 'hush',
        AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE: '/run/token',
        HTTPS_PROXY: 'http://me:hush@proxy',
        NODE_EXTRA_CA_CERTS: 'ca.pem',
        EMPTY: '',
      }),
    )
    assert.deepEqual(
      new Map(environment.map(({ name, value }) => [name, value])),
      new Map<string, string | undefined>([
        ['WALG_S3_PREFIX', 's3://bucket/path'],
        ['AWS_SECRET_ACCESS_KEY', undefined],
        ['AWS_PROFILE', 'backup'],
        ['AWS_SHARED_CREDENTIALS_FILE', resolve('credentials')],
        ['AWS_ENDPOINT', undefined],
        ['WALE_S3_SSE_C', undefined],
        ['AWS_CONTAINER_CREDENTIALS_FULL_URI', 'http://localhost/keys'],
        ['AWS_CONTAINER_AUTHORIZATION_TOKEN', undefined],
        ['AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE', '/run/token'],
        ['HTTPS_PROXY', undefined],
        ['NODE_EXTRA_CA_CERTS', resolve('ca.pem')],
      ]),
    )
  })

  test('are the settings of keys: files by their whole path, and no value of what holds a key', async () => {
    const { environment } = neededSettings(
      await load({
        WALG_FILE_PREFIX: '/archive',
        WALE_LIBSODIUM_KEY: 'k'.repeat(32),
        WALG_LIBSODIUM_KEY_PATH: 'keys/one',
        WALG_LIBSODIUM_KEY_TRANSFORM: 'hex',
        WALG_PGP_KEY: 'armored',
        WALG_PGP_KEY_PASSPHRASE: 'hush',
        WALRX_KEY_COMMAND: 'vault get',
        WALRX_READ_KEY_PATH: 'hex:two,/three',
        WALRX_ACCEPT_UNENCRYPTED: 'true',
      }),
    )
    assert.deepEqual(
      new Map(environment.map(({ name, value }) => [name, value])),
      new Map<string, string | undefined>([
        ['WALG_FILE_PREFIX', '/archive'],
        ['WALG_PGP_KEY', undefined],
        ['WALG_PGP_KEY_PASSPHRASE', undefined],
        ['WALE_LIBSODIUM_KEY', undefined],
        ['WALG_LIBSODIUM_KEY_PATH', resolve('keys/one')],
        ['WALG_LIBSODIUM_KEY_TRANSFORM', 'hex'],
        ['WALRX_KEY_COMMAND', undefined],
        ['WALRX_READ_KEY_PATH', `hex:${resolve('two')},/three`],
        ['WALRX_ACCEPT_UNENCRYPTED', 'true'],
      ]),
    )
  })

  test('are flags with whole paths, also of a relative path in a config file', async () => {
    const home = await mkdtemp(join(tmpdir(), 'walrx-home-'))
    try {
      const config = join(home, '.walg.json')
      await writeFile(config, '{"WALG_LIBSODIUM_KEY_PATH": "one", "WALG_PGP_KEY_PATH": "/whole"}')
      const settings = await load({ WALRX_READ_KEY_PATH: 'two' }, [['cseKmsId', 'alias/x']], home)
      assert.deepEqual(flagArguments(settings, 'wal-fetch'), [
        '--cse-kms-id=alias/x',
        `--libsodium-key-path=${resolve('one')}`,
        `--config=${config}`,
      ])
      const flags = await load({}, [['readKeyPath', 'two,none:three']])
      assert.deepEqual(flagArguments(flags, 'wal-fetch'), [
        `--read-key-path=${resolve('two')},none:${resolve('three')}`,
      ])
    } finally {
      await rm(home, { recursive: true })
    }
  })

  test('is the config file by its whole path, wherever it was found', async () => {
    const home = await mkdtemp(join(tmpdir(), 'walrx-home-'))
    try {
      const path = join(home, '.walg.json')
      await writeFile(path, '{"WALG_FILE_PREFIX": "/archive"}')
      const settings = await load({}, [], home)
      assert.deepEqual(neededSettings(settings), { environment: [], configFile: ['WALG_FILE_PREFIX'] })
      assert.deepEqual(flagArguments(settings, 'wal-fetch'), [`--config=${path}`])
      const named = await load({}, [['configPath', join(home, '../', home.slice(5), '.walg.json')]])
      assert.deepEqual(flagArguments(named, 'wal-fetch'), [`--config=${path}`])
    } finally {
      await rm(home, { recursive: true })
    }
  })
})
