/**
 * The store of the compose file on this machine: its own engine by its own command where VERSITYGW_BIN names the
 * program, else the bucket of the other tests.
 */
import { spawn } from 'node:child_process'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { basename, delimiter, dirname, join } from 'node:path'
import { startBucket } from '../harness/store/bucket.ts'
import { freePort } from '../harness/ports.ts'
import { stopProcess } from '../harness/walrx/processes.ts'
import { until } from '../harness/time/until.ts'
import { service } from './compose.ts'

/** A store, and what of the compose file's variables is different with it. */
export interface Store extends AsyncDisposable {
  readonly env: Readonly<Record<string, string>>
}

/** Starts it and waits until it is healthy. */
export function startStore(): Promise<Store> {
  const program = process.env['VERSITYGW_BIN']
  return program ? startEngine(program) : startStandIn()
}

async function startStandIn(): Promise<Store> {
  const bucket = await startBucket()
  const prefix = new URL(service('walrx').environment?.['WALG_S3_PREFIX'] ?? '')
  return {
    env: {
      AWS_ENDPOINT: bucket.endpoint,
      AWS_ACCESS_KEY_ID: bucket.accessKeyId,
      AWS_SECRET_ACCESS_KEY: bucket.secretAccessKey,
      WALG_S3_PREFIX: `s3://${bucket.bucket}${prefix.pathname}`,
    },
    [Symbol.asyncDispose]: () => bucket[Symbol.asyncDispose](),
  }
}

async function startEngine(path: string): Promise<Store> {
  const { entrypoint = [], environment = {}, healthcheck } = service('store')
  const directory = await mkdtemp(join(tmpdir(), 'walrx-store-'))
  const port = await freePort()
  const [shell = '', ...args] = entrypoint.map((word) => word.replaceAll(/(?<=\s)\/data\b/g, directory))
  if (basename(path) !== 'versitygw') throw new Error(`VERSITYGW_BIN=${path} must be called versitygw`)
  const child = spawn(shell, args, {
    env: { PATH: [dirname(path), '/usr/bin', '/bin'].join(delimiter), ...environment, VGW_PORT: `127.0.0.1:${port}` },
    stdio: ['ignore', 'ignore', 'inherit'],
  })
  const health = new URL(healthcheck?.test.at(-1) ?? '')
  health.port = String(port)
  const store = {
    env: { AWS_ENDPOINT: `http://127.0.0.1:${port}` },
    async [Symbol.asyncDispose]() {
      await stopProcess(child, 'SIGKILL', 10_000)
      await rm(directory, { recursive: true, force: true })
    },
  }
  try {
    await until('the health of the store', async () => {
      if (child.exitCode !== null) throw new Error(`the store ended with ${child.exitCode}`)
      return (await fetch(health).catch(() => undefined))?.ok
    })
  } catch (error) {
    await store[Symbol.asyncDispose]()
    throw error
  }
  return store
}
