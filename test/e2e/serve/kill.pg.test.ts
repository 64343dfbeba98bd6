/** `walrx serve` is killed while it backs up: after the next start there is one backup at a time, and nothing is left. */
import assert from 'node:assert/strict'
import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { startPostgres } from '../../harness/postgres/postgres.ts'
import { until } from '../../harness/time/until.ts'
import { isRunning } from '../../harness/walrx/processes.ts'
import { runWalrx } from '../../harness/walrx/walrx-process.ts'
import { ServeWorld } from './serve-world.ts'

test('a backup is under way when walrx is killed', { timeout: 240_000 }, async () => {
  await using server = await startPostgres({ major: 17, segmentSizeMb: 1 })
  const world = await ServeWorld.open()
  const archive = await world.archive('archive')
  const cluster = (backup: object) => ({
    server: { dbname: server.conninfo() },
    storage: { 'file-prefix': archive },
    backup: { schedule: '* * * * * *', 'wal-timeout': '30s', ...backup },
  })
  // So slow that it would take a quarter of an hour.
  await world.write({ clusters: { one: cluster({ 'max-rate': '32kB' }) } })
  const first = world.start()
  await first.logged('job started')
  const pid = await until('the process of the job', async () => {
    return (await world.kept('one').catch(() => undefined))?.['backup']?.running?.pid
  })
  const intents = join(archive, 'walrx_005', 'backups')
  await until('the backup to be announced', async () => (await readdir(intents).catch(() => [])).length > 0)

  // A second one over the same state is refused.
  const other = await runWalrx(['serve', '--config', world.path])
  assert.equal(other.status, 2)
  assert.match(other.stderr, /the state directory .* cannot be used/)

  await first.stop('SIGKILL')
  // Once a day: what runs now is what was interrupted.
  await world.write({ clusters: { one: cluster({ schedule: '59 23 * * *' }) } })
  await using second = world.start()
  const started = await second.logged('job started')
  assert.equal(await isRunning(pid), false, 'the old backup has ended before the new one begins')
  assert.ok(second.lines.findIndex(({ msg }) => /was interrupted/.test(msg)) < second.lines.indexOf(started))
  await second.logged('job succeeded')
  const shown = (await world.cluster('one')).jobs['backup']
  assert.equal(shown?.state, 'idle')
  assert.equal(second.lines.filter(({ msg }) => msg === 'job started').length, 1)
  assert.deepEqual(await readdir(intents).catch(() => []), [])
  const parts = (await readdir(join(archive, 'basebackups_005'))).filter((name) => !name.endsWith('.json'))
  assert.equal(parts.length, 1, 'the parts of the killed backup are gone')
  assert.equal((await second.stop()).status, 0)

  // Nothing was missed: nothing runs.
  await using third = world.start()
  await world.becomes('one', 'streams', ({ status }) => status === 'ready')
  assert.equal((await world.cluster('one')).jobs['backup']?.state, 'idle')
  assert.equal((await third.stop()).status, 0)
})
