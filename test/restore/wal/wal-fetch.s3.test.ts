/** wal-fetch from a bucket. */
import assert from 'node:assert/strict'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { zstdCompressSync } from 'node:zlib'
import { segmentName } from '../../../src/postgres/wal/wal-file.ts'
import { S3Storage } from '../../../src/storage/s3/s3-storage.ts'
import { archiveFolders } from '../../../src/walg/names.ts'
import { type Bucket, startBucket } from '../../harness/store/bucket.ts'
import { madeSegmentSize, makeSegment } from '../../harness/made/made-wal.ts'
import { runWalrx } from '../../harness/walrx/walrx-process.ts'

const nameOf = (number: number) => segmentName(1, BigInt(number), madeSegmentSize)

describe('wal-fetch from a bucket', () => {
  let bucket: Bucket
  let directory: string
  let dest: string
  before(async () => {
    bucket = await startBucket()
    directory = await mkdtemp(join(tmpdir(), 'walrx-s3-'))
    dest = join(directory, 'RECOVERYXLOG')
    const storage = new S3Storage({ folders: archiveFolders, ...bucket, prefix: 'db1', forcePathStyle: true })
    for (const number of [1, 2, 4]) {
      await storage.put(`wal_005/${nameOf(number)}.zst`, zstdCompressSync(makeSegment(nameOf(number))))
    }
    await storage.put(`wal_005/${nameOf(3)}.lz4`, Buffer.from('damaged'))
    await storage.close()
  })
  after(async () => {
    await bucket[Symbol.asyncDispose]()
    await rm(directory, { recursive: true })
  })

  const fetch = (name: string, env: Record<string, string> = {}) =>
    runWalrx(['wal-fetch', name, dest], {
      cwd: directory,
      env: {
        HOME: directory,
        WALG_S3_PREFIX: `s3://${bucket.bucket}/db1`,
        AWS_ENDPOINT: bucket.endpoint,
        AWS_S3_FORCE_PATH_STYLE: 'true',
        AWS_ACCESS_KEY_ID: bucket.accessKeyId,
        AWS_SECRET_ACCESS_KEY: bucket.secretAccessKey,
        WALRX_FETCH_RETRY_TIMEOUT: '1s',
        ...env,
      },
    })

  test('delivers, reports the end of the archive, and takes nothing else for it', async () => {
    assert.equal((await fetch(nameOf(2))).status, 0)
    assert.deepEqual(await readFile(dest), makeSegment(nameOf(2)))
    assert.equal((await fetch(nameOf(5))).status, 74)
    assert.equal((await fetch('00000002.history')).status, 74)
    assert.equal((await fetch(nameOf(0))).status, 126, 'a gap')
    assert.equal((await fetch(nameOf(3))).status, 126, 'damage')
    const elsewhere = await fetch(nameOf(5), { WALG_S3_PREFIX: `s3://${bucket.bucket}/db2` })
    assert.equal(elsewhere.status, 126, 'a mistyped prefix')
    assert.match(elsewhere.stderr, /holds no object at all/)
    assert.equal((await fetch(nameOf(2), { WALG_S3_PREFIX: 's3://no-such-bucket/db1' })).status, 126)
    const refused = await fetch(nameOf(2), { AWS_ENDPOINT: 'http://127.0.0.1:1' })
    assert.equal(refused.status, 126)
    assert.match(refused.stderr, /127\.0\.0\.1:1/)
  })
})
