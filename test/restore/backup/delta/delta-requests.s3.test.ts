/** A restore over a data directory from a bucket, encrypted: the parts that it asks for are those that it needs. */
import assert from 'node:assert/strict'
import { mkdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { makeServerDirectory } from '../../../harness/postgres/postgres-files.ts'
import { startPostgres } from '../../../harness/postgres/postgres.ts'
import { startBucket } from '../../../harness/store/bucket.ts'
import { startFaultyProxy } from '../../../harness/store/faulty-proxy.ts'
import { newServerDirectory } from '../../../harness/walrx/test-workspace.ts'
import { runWalrx } from '../../../harness/walrx/walrx-process.ts'
import { assertSameTree, damageSilently, type DeltaCounts, treeOf } from './delta-world.ts'

test('only the tars that hold a wanted file are asked for, once each', { timeout: 120_000 }, async () => {
  await using bucket = await startBucket()
  await using proxy = await startFaultyProxy(bucket.endpoint)
  await using server = await startPostgres({ major: 16, segmentSizeMb: 1 })
  const env = {
    WALG_S3_PREFIX: `s3://${bucket.bucket}/delta`,
    AWS_ENDPOINT: proxy.endpoint,
    AWS_S3_FORCE_PATH_STYLE: 'true',
    AWS_REGION: bucket.region,
    AWS_ACCESS_KEY_ID: bucket.accessKeyId,
    AWS_SECRET_ACCESS_KEY: bucket.secretAccessKey,
    WALG_LIBSODIUM_KEY: '00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff',
    WALG_LIBSODIUM_KEY_TRANSFORM: 'hex',
  }
  const walrx = async (...args: string[]) => {
    const end = await runWalrx(args, { env })
    assert.equal(end.status, 0, end.stderr)
    return end.stdout
  }
  await walrx('backup-push', '--no-wait', '--tar-size-threshold', '1MB', '--dbname', server.conninfo())
  const directory = newServerDirectory('delta-requests')
  await makeServerDirectory(directory, 0o755)
  // The helpers of these tests look at a tablespace's directory, too.
  await mkdir(join(directory, 'place'))
  const data = join(directory, 'data')
  /** Parts that were read, sorted; one that was asked for twice is there twice. */
  const partsAskedFor = () =>
    proxy.log
      .filter(({ method }) => method === 'GET')
      .flatMap(({ url }) => /tar_partitions\/([^?]+)/.exec(url)?.[1] ?? [])
      .sort()
  proxy.reset()
  await walrx('backup-fetch', data, 'LATEST')
  const all = partsAskedFor()
  assert.ok(all.length > 15, String(all.length))
  const tree = await treeOf(directory)
  await damageSilently(join(data, 'base/5/1259'), 100)
  await rm(join(data, 'base/5/1255'))
  const planned = JSON.parse(await walrx('backup-fetch', data, 'LATEST', '--delta', '--dry-run', '--json')) as {
    readonly delta: DeltaCounts
  }
  proxy.reset()
  await walrx('backup-fetch', data, 'LATEST', '--delta')
  assertSameTree(await treeOf(directory), tree)
  const asked = partsAskedFor()
  assert.deepEqual(asked, (planned.delta.parts ?? []).map((key) => key.slice(key.lastIndexOf('/') + 1)).sort())
  // Those of the two files, the label's and that of pg_control.
  assert.ok(asked.length >= 3 && asked.length <= 4, asked.join())
})
