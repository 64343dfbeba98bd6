/** The S3 of moto (pip install 'moto[server]'): the only store here that has versions and locks of objects. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { S3Client } from '@aws-sdk/client-s3'
import { freePort } from '../ports.ts'
import { until } from '../time/until.ts'

/** A server without buckets. */
export interface Moto extends AsyncDisposable {
  /** For what walrx does not do: buckets, locks, versions. */
  readonly client: S3Client
  /** What walrx needs in its environment, for an archive in a bucket. */
  environment(bucket: string): Record<string, string>
}

const keys = { accessKeyId: 'walrx', secretAccessKey: 'walrx-secret' }
const region = 'us-east-1'

/** Starts one on a free port, or says why it cannot. */
export async function startMoto(): Promise<Moto | string> {
  const program = process.env.WALRX_TEST_MOTO ?? 'moto_server'
  const port = await freePort()
  const child = spawn(program, ['-H', '127.0.0.1', '-p', String(port)], { stdio: 'ignore' })
  const failed = once(child, 'error').then(([error]: unknown[]) => (error as Error).message)
  const endpoint = `http://127.0.0.1:${port}`
  const isReady = until('moto', async () => {
    if (child.exitCode !== null) return 'ended'
    return (await fetch(`${endpoint}/moto-api/`).catch(() => undefined))?.ok === true && 'ready'
  })
  const outcome = await Promise.race([isReady, failed])
  if (outcome !== 'ready') return `no moto: ${outcome} (pip install 'moto[server]', or WALRX_TEST_MOTO=moto_server)`
  const client = new S3Client({ endpoint, region, forcePathStyle: true, credentials: keys })
  return {
    client,
    environment: (bucket) => ({
      WALG_S3_PREFIX: `s3://${bucket}/db1`,
      AWS_ENDPOINT: endpoint,
      AWS_S3_FORCE_PATH_STYLE: 'true',
      AWS_REGION: region,
      AWS_ACCESS_KEY_ID: keys.accessKeyId,
      AWS_SECRET_ACCESS_KEY: keys.secretAccessKey,
    }),
    async [Symbol.asyncDispose]() {
      client.destroy()
      const exited = once(child, 'exit')
      child.kill('SIGKILL')
      await exited
    },
  }
}
