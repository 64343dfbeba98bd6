/** Backups into a bucket and back, by the real program: in one PUT and in pieces, compressed and not. */
import assert from 'node:assert/strict'
import { mkdtemp, readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, test } from 'node:test'
import { isFullRun } from '../../harness/extent.ts'
import { type Bucket, environmentBucket, startBucket } from '../../harness/store/bucket.ts'
import { startPostgres } from '../../harness/postgres/postgres.ts'
import { runWalrx } from '../../harness/walrx/walrx-process.ts'

const fromEnvironment = environmentBucket()

for (const store of ['s3rver', 'the store of the environment'] as const) {
  const isGiven = typeof fromEnvironment !== 'string'
  const isOther =
    !isFullRun && store === 's3rver' && isGiven && 'the store of the environment is enough; WALRX_TEST_ALL=1'
  const skip = store !== 's3rver' && !isGiven ? fromEnvironment : isOther
  describe(`with ${store}`, { skip }, () => {
    for (const codec of ['zstd', 'none']) {
      test(`a backup under ${codec} is the same when it comes back`, { timeout: 120_000 }, async () => {
        await using bucket: Bucket =
          store === 's3rver' || typeof fromEnvironment === 'string' ? await startBucket() : fromEnvironment
        await using server = await startPostgres({ major: 17, dataChecksums: true })
        // What does not compress, and more than a few pieces of an upload.
        await server.sql(`create table t as
          select g as id, (select string_agg(md5(g::text || n), '') from generate_series(1, 40) n) as text
          from generate_series(1, 30000) g`)
        const root = await mkdtemp(join(tmpdir(), 'walrx-bucket-backup-'))
        try {
          const env = {
            WALG_S3_PREFIX: `s3://${bucket.bucket}/run-${process.pid}-${Date.now()}`,
            AWS_ENDPOINT: bucket.endpoint,
            AWS_S3_FORCE_PATH_STYLE: 'true',
            AWS_REGION: bucket.region,
            AWS_ACCESS_KEY_ID: bucket.accessKeyId,
            AWS_SECRET_ACCESS_KEY: bucket.secretAccessKey,
            WALG_COMPRESSION_METHOD: codec,
          }
          const pushed = await runWalrx(['backup-push', '--no-wait', '--dbname', server.conninfo()], { env })
          assert.equal(pushed.status, 0, pushed.stderr)
          const verified = await runWalrx(['backup-verify', 'LATEST'], { env })
          assert.equal(verified.status, 0, verified.stderr)
          const fetched = await runWalrx(['backup-fetch', join(root, 'data'), 'LATEST', '--json'], { env })
          assert.equal(fetched.status, 0, fetched.stderr)
          assert.match(fetched.stdout, /"checked":true/)
          assert.ok((await readdir(join(root, 'data'))).includes('PG_VERSION'))
        } finally {
          await rm(root, { recursive: true, force: true })
        }
      })
    }
  })
}
