/** A user id without an entry in passwd, as OpenShift gives to each container. Public reports: relay #2699, n8n #8664. */
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'

const main = fileURLToPath(new URL('../../src/main.ts', import.meta.url))
const skip = process.getuid?.() !== 0 && 'only root can become another user'

/** Runs walrx as such a user, without a home directory. */
function run(args: readonly string[], env: Record<string, string> = {}): Promise<{ status: unknown; stderr: string }> {
  return new Promise((resolve) => {
    const options = { uid: 54_321, gid: 54_321, cwd: '/', env: { PATH: process.env['PATH'], ...env } }
    execFile(process.execPath, [main, ...args], options, (error, _stdout, stderr) => {
      resolve({ status: error?.code ?? 0, stderr })
    })
  })
}

const push = ['backup-push', '--file-prefix', '/tmp', '-d']

test('an unknown user needs an option with the role', { skip }, async () => {
  const { status, stderr } = await run([...push, 'host=127.0.0.1 port=1'])
  assert.equal(status, 2, stderr)
  assert.match(stderr, /no role to log in as: the operating system has no name for this user/)
})

test('an unknown user with a role connects', { skip }, async () => {
  for (const [conninfo, env] of [
    ['host=127.0.0.1 port=1 user=x', {}],
    ['host=127.0.0.1 port=1', { PGUSER: 'x' }],
  ] as const) {
    const { status, stderr } = await run([...push, conninfo], env)
    assert.equal(status, 3, stderr)
    assert.match(stderr, /ECONNREFUSED/)
  }
})

test('an unknown user without a home directory reaches the store', { skip }, async () => {
  const { stderr } = await run(
    ['wal-fetch', '000000010000000000000001', '/tmp/walrx-never', '--fetch-retry-timeout=0s'],
    {
      WALG_S3_PREFIX: 's3://b/x',
      AWS_ENDPOINT: 'http://127.0.0.1:1',
      AWS_REGION: 'us-east-1',
      AWS_ACCESS_KEY_ID: 'a',
      AWS_SECRET_ACCESS_KEY: 'b',
      AWS_S3_FORCE_PATH_STYLE: 'true',
    },
  )
  assert.match(stderr, /ECONNREFUSED/)
})
