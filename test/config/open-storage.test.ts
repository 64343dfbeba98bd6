import assert from 'node:assert/strict'
import { mkdir, mkdtemp, readdir, rm, utimes, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { describe, test } from 'node:test'
import { type Environment, loadSettings } from '../../src/config/load.ts'
import { openCodec, openStorage } from '../../src/config/open-storage.ts'
import { WalrxError } from '../../src/primitives/errors.ts'

/** The values of wal-receive with that environment. */
async function valuesOf(environment: Environment) {
  return (await loadSettings({ command: 'wal-receive', flags: new Map(), environment })).values
}

/** Where the storage of that environment is. */
async function locationOf(environment: Environment): Promise<string> {
  const storage = await openStorage(await valuesOf(environment))
  await storage.close()
  return storage.location
}

describe('openStorage', () => {
  test('opens the directory or the bucket that is named, with the folder below it', async () => {
    assert.equal(await locationOf({ WALG_FILE_PREFIX: '/srv/archive' }), 'file:///srv/archive')
    assert.equal(await locationOf({ WALE_FILE_PREFIX: 'file://localhost/srv/archive/' }), 'file:///srv/archive')
    assert.equal(await locationOf({ WALG_FILE_PREFIX: '/srv/', WALG_STORAGE_PREFIX: '/db1/' }), 'file:///srv/db1')
    assert.equal(await locationOf({ WALG_S3_PREFIX: 's3://bucket' }), 's3://bucket')
    assert.equal(
      await locationOf({ WALG_S3_PREFIX: 's3://bucket/a/b/', WALG_STORAGE_PREFIX: 'c' }),
      's3://bucket/a/b/c',
    )
  })

  test('lets a probe clear the folders of WAL and of tails of what dead writers left', async () => {
    const root = await mkdtemp(join(tmpdir(), 'walrx-open-'))
    try {
      const dead = '.tmp.20200102T030405Z-0123456789abcdef'
      const [segment, chunk, part] = ['wal_005/x', 'walrx_005/tail/00000001/x/y', 'basebackups_005/b/x']
      for (const key of [segment, chunk, part]) {
        await mkdir(dirname(join(root, key)), { recursive: true })
        await writeFile(join(root, key + dead), '')
        await utimes(join(root, key + dead), 0, 0)
      }
      const storage = await openStorage(await valuesOf({ WALG_FILE_PREFIX: root }))
      await storage.probe()
      await storage.close()
      const left = await readdir(root, { recursive: true })
      assert.deepEqual(
        left.filter((name) => name.includes('.tmp.')),
        [part + dead],
      )
      // Folders of an object stay, if only the top one: the probe was below it.
      assert.ok(
        left.every((name) => /^(basebackups|wal|walrx)_005/.test(name)),
        left.join(' '),
      )
    } finally {
      await rm(root, { recursive: true })
    }
  })

  test('refuses in one line when there is no archive, or two, or none that it could be', async () => {
    const cases: [Environment, RegExp][] = [
      [{}, /no archive/],
      [{ WALG_FILE_PREFIX: '/srv', WALG_S3_PREFIX: 's3://b' }, /both/],
      [{ WALG_FILE_PREFIX: 'srv/archive' }, /must be an absolute path/],
      [{ WALG_S3_PREFIX: 'bucket/path' }, /s3:\/\/bucket\/path/],
      [{ WALG_S3_PREFIX: 's3:///path' }, /s3:\/\/bucket\/path/],
      [
        { WALG_S3_PREFIX: 's3://b', AWS_ROLE_ARN: 'arn:aws:iam::1:role/x' },
        /AWS_ROLE_ARN is arn:.*role.*TOKEN_FILE is not set/,
      ],
    ]
    for (const [environment, message] of cases) {
      await assert.rejects(locationOf(environment), (error) => {
        assert.ok(error instanceof WalrxError && error.exitStatus === 2)
        assert.match(error.message, message)
        return true
      })
    }
  })
})

describe('openCodec', () => {
  test('opens the codec that is named, zstd by default', async () => {
    assert.equal(openCodec(await valuesOf({})).method, 'zstd')
    for (const method of ['zstd', 'lz4', 'brotli', 'lzma', 'none']) {
      assert.equal(openCodec(await valuesOf({ WALG_COMPRESSION_METHOD: method })).method, method)
    }
  })

  test('refuses a level that the codec lacks, and two levels', async () => {
    const both = await valuesOf({ WALG_ZSTD_LEVEL: 'best', WALG_COMPRESSION_LEVEL: '3' })
    assert.throws(() => openCodec(both), { code: 'WALRX_USAGE' })
    const brotli = await valuesOf({ WALG_COMPRESSION_METHOD: 'brotli', WALG_COMPRESSION_LEVEL: '20' })
    assert.throws(() => openCodec(brotli), { code: 'WALRX_USAGE' })
    const lz4 = await valuesOf({ WALG_COMPRESSION_METHOD: 'lz4', WALG_ZSTD_LEVEL: 'best' })
    assert.throws(() => openCodec(lz4), { code: 'WALRX_USAGE' })
  })
})
