/** A bucket that two programs may write into at the same time, which s3rver is not: of versitygw, on a directory. */
import { spawn } from 'node:child_process'
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { freePort } from '../../harness/ports.ts'
import { until } from '../../harness/time/until.ts'
import { stopProcess } from '../../harness/walrx/processes.ts'
import { newServerDirectory } from '../../harness/walrx/test-workspace.ts'

/** The store, and the settings of walrx, WAL-G and WAL-RUS for a prefix in its bucket. */
export interface Versitygw extends AsyncDisposable {
  readonly settings: Readonly<Record<string, string>>
}

/** Starts the program and waits until it answers. */
export async function startVersitygw(binary: string): Promise<Versitygw> {
  const directory = newServerDirectory('versitygw')
  await mkdir(join(directory, 'wal'), { recursive: true })
  const [port, user, password] = [await freePort(), 'walrx', 'quick-start']
  const endpoint = `http://127.0.0.1:${port}`
  const child = spawn(binary, ['--port', `127.0.0.1:${port}`, 'posix', directory], {
    env: { PATH: process.env['PATH'] ?? '', ROOT_ACCESS_KEY: user, ROOT_SECRET_KEY: password },
    stdio: ['ignore', 'ignore', 'ignore'],
  })
  await until('versitygw to answer', async () => {
    await delay(50)
    return fetch(endpoint).then(
      () => true,
      () => false,
    )
  })
  return {
    settings: {
      WALG_S3_PREFIX: 's3://wal/db1',
      AWS_ENDPOINT: endpoint,
      AWS_REGION: 'us-east-1',
      AWS_ACCESS_KEY_ID: user,
      AWS_SECRET_ACCESS_KEY: password,
      AWS_S3_FORCE_PATH_STYLE: 'true',
    },
    async [Symbol.asyncDispose]() {
      await stopProcess(child, 'SIGKILL', 10_000)
    },
  }
}
