/** Buckets for tests: one of s3rver's, one that the environment names, and a way to make either fail. */
import { fork } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

/** A bucket to talk to. */
export interface Bucket extends AsyncDisposable {
  /** URL of the store; the bucket goes in the path. */
  readonly endpoint: string
  readonly region: string
  readonly bucket: string
  readonly accessKeyId: string
  readonly secretAccessKey: string
}

/**
 * An empty bucket in an s3rver on a free loopback port. s3rver knows no conditional put, checks no V4 signature (only
 * that the access key exists) and writes objects in place.
 */
export async function startBucket(): Promise<Bucket> {
  const directory = await mkdtemp(join(tmpdir(), 'walrx-bucket-'))
  const bucket = 'walrx-test'
  const child = fork(fileURLToPath(new URL('s3rver-process.ts', import.meta.url)), [directory, bucket], {
    execArgv: ['--openssl-legacy-provider', '--disable-warning=DEP0040', '--disable-warning=DEP0169'],
    stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
  })
  const [message] = (await Promise.race([
    once(child, 'message'),
    once(child, 'exit').then(([status]) => Promise.reject(new Error(`s3rver ended with ${status}`))),
  ])) as [{ port: number }]
  return {
    endpoint: `http://127.0.0.1:${message.port}`,
    region: 'us-east-1',
    bucket,
    accessKeyId: 'S3RVER',
    secretAccessKey: 'S3RVER',
    async [Symbol.asyncDispose]() {
      if (child.exitCode === null) {
        const exited = once(child, 'exit')
        child.kill('SIGKILL')
        await exited
      }
      await rm(directory, { recursive: true, force: true })
    },
  }
}

/**
 * The bucket of `WALRX_TEST_S3_ENDPOINT`, `WALRX_TEST_S3_BUCKET`, `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY` and
 * `AWS_REGION` (default us-east-1), or the reason why there is none. It stays as it is when disposed: tests use a prefix
 * of their own in it.
 */
export function environmentBucket(env: NodeJS.ProcessEnv = process.env): Bucket | string {
  const endpoint = env.WALRX_TEST_S3_ENDPOINT
  const bucket = env.WALRX_TEST_S3_BUCKET
  const accessKeyId = env.AWS_ACCESS_KEY_ID
  const secretAccessKey = env.AWS_SECRET_ACCESS_KEY
  if (!endpoint || !bucket || !accessKeyId || !secretAccessKey) {
    return 'set WALRX_TEST_S3_ENDPOINT, WALRX_TEST_S3_BUCKET, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY to run it'
  }
  const region = env.AWS_REGION || 'us-east-1'
  return { endpoint, region, bucket, accessKeyId, secretAccessKey, [Symbol.asyncDispose]: () => Promise.resolve() }
}
