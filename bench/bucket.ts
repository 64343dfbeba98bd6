/** The bucket of the S3 runs, from the environment, the same for all contenders. */
import { S3Storage } from '../src/storage/s3/s3-storage.ts'
import type { Storage } from '../src/storage/storage.ts'
import { archiveFolders } from '../src/walg/names.ts'

/** Access to the bucket of `WALG_S3_PREFIX`. */
export interface BenchBucket {
  /** The prefix under which a run's archive goes. */
  prefix(run: string): string
  /** What a contender needs besides the prefix. */
  readonly environment: Readonly<Record<string, string>>
  /** The bench's own view of a run's archive. */
  open(run: string): Storage
}

/** Reads the environment; undefined when it names no bucket. */
export function findBucket(env: NodeJS.ProcessEnv = process.env): BenchBucket | undefined {
  const { WALG_S3_PREFIX: prefix, AWS_ENDPOINT: endpoint } = env
  const match = /^s3:\/\/([^/]+)\/?(.*)$/.exec(prefix ?? '')
  const accessKeyId = env['AWS_ACCESS_KEY_ID']
  const secretAccessKey = env['AWS_SECRET_ACCESS_KEY']
  if (!match?.[1] || !accessKeyId || !secretAccessKey) return undefined
  const [, bucket, path] = match
  const names = ['AWS_ENDPOINT', 'AWS_ACCESS_KEY_ID', 'AWS_SECRET_ACCESS_KEY', 'AWS_REGION', 'AWS_S3_FORCE_PATH_STYLE']
  const set = names.flatMap((name) => (env[name] ? [[name, env[name]] as const] : []))
  const below = (run: string) => [path?.replace(/\/+$/, ''), run].filter(Boolean).join('/')
  return {
    prefix: (run) => `s3://${bucket}/${below(run)}`,
    environment: Object.fromEntries(set),
    open: (run) =>
      new S3Storage({
        folders: archiveFolders,
        bucket,
        prefix: below(run),
        endpoint,
        accessKeyId,
        secretAccessKey,
        region: env['AWS_REGION'],
        forcePathStyle: env['AWS_S3_FORCE_PATH_STYLE'] === 'true',
      }),
  }
}

/** Removes everything that a run has stored. */
export async function emptyBucket(storage: Storage): Promise<void> {
  const keys: string[] = []
  for await (const { key } of storage.list('')) keys.push(key)
  if (keys.length > 0) await storage.delete(keys)
}
