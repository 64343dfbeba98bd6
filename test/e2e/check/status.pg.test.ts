/** `walrx status` beside a receiver: ready, without its server, and gone. */
import assert from 'node:assert/strict'
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { freePort } from '../../harness/ports.ts'
import { startPostgres } from '../../harness/postgres/postgres.ts'
import { newServerDirectory } from '../../harness/walrx/test-workspace.ts'
import { runWalrx, startWalrx } from '../../harness/walrx/walrx-process.ts'

test('status shows a receiver that is ready, one without its server, and none', { timeout: 120_000 }, async () => {
  await using server = await startPostgres({ major: 17, segmentSizeMb: 1 })
  const archive = join(newServerDirectory('status'), 'db1')
  await mkdir(archive, { recursive: true })
  const listen = `127.0.0.1:${await freePort()}`
  const env = { WALG_FILE_PREFIX: archive, WALRX_STATUS_LISTEN: listen }
  await using receiver = startWalrx(['wal-receive', '--dbname', server.conninfo()], { env })
  await receiver.logged('streaming')

  const ready = await runWalrx(['status'], { env })
  assert.match(ready.stdout, /^receiver of db1\n {2}state +streaming, ready, from 127\.0\.0\.1:\d+$/m)
  assert.match(ready.stdout, /^ {2}warning: nothing can be restored\n {4}do: take a backup/m)
  assert.equal(ready.status, 0, ready.stderr)
  assert.equal((await runWalrx(['status', '--monitoring'], { env })).status, 1, 'a warning')

  const apart = { ...env, WALG_FILE_PREFIX: `${archive}-that-is-not-there` }
  const unread = await runWalrx(['status'], { env: apart })
  assert.match(unread.stdout, /^ {2}state +streaming, ready/m, 'an archive that cannot be read hides no receiver')
  assert.match(unread.stdout, /^archive\n {2}critical: the archive cannot be read: /m)
  assert.equal(unread.status, 4, unread.stderr)
  assert.equal((await runWalrx(['status', '--monitoring'], { env: apart })).status, 2, 'critical')

  await server.stop()
  await receiver.logged(({ level }) => level === 'warn')
  const late = await runWalrx(['status', '--json'], { env })
  const { exit_status: status, receivers } = JSON.parse(late.stdout) as {
    exit_status: number
    receivers: { ready: boolean; concerns: { level: string }[] }[]
  }
  assert.deepEqual([late.status, status], [3, 3], late.stdout)
  assert.deepEqual(
    receivers.map(({ concerns, ready: is }) => [is, concerns[0]?.level]),
    [[false, 'critical']],
  )
  assert.equal((await runWalrx(['status', '--monitoring'], { env })).status, 2, 'critical')

  await receiver.stop()
  const gone = await runWalrx(['status'], { env })
  assert.match(gone.stdout, new RegExp(`critical: no receiver answers at ${listen}: ECONNREFUSED`))
  assert.equal(gone.status, 3)
})

test('status refuses to look at nothing, which would pass for health', async () => {
  const { status, stderr } = await runWalrx(['status', '--monitoring', '--status-listen', 'off'], { env: {} })
  assert.match(stderr, /there is nothing to look at/)
  assert.equal(status, 3)
})
