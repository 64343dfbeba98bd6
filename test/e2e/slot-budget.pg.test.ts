/** A slot that keeps too much WAL is dropped on demand: the server's disk is saved, and what that costs is recorded. */
import assert from 'node:assert/strict'
import { rename } from 'node:fs/promises'
import { test } from 'node:test'
import { until } from '../harness/until.ts'
import { GapWorld } from './gap-world.ts'

const timeout = 120_000

test('above --max-slot-lag the slot is dropped, and a backup is taken behind the gap', { timeout }, async () => {
  await using world = await GapWorld.open({ major: 17 })
  await using receiver = world.receive('--max-slot-lag=4MB', '--slot-lag-action=drop', '--backup-after-gap')
  await receiver.logged('streaming')
  await rename(world.archive, `${world.archive}.away`)
  await world.lose(8)
  assert.equal(
    (await receiver.logged('the slot keeps more WAL than half of --max-slot-lag')).limitBytes,
    4 * 1024 * 1024,
  )
  assert.equal((await receiver.logged('the slot keeps more WAL than --max-slot-lag allows')).action, 'drop')
  await receiver.logged((line) => line.msg.startsWith('dropped the replication slot: it kept more WAL'))
  await until('the slot to be gone', async () => {
    return (await world.server.sql('select from pg_replication_slots')).length === 0
  })
  await world.lose(2)
  await rename(`${world.archive}.away`, world.archive)
  await world.removed()
  await world.recorded(receiver)
  await receiver.logged((line) => line.msg === 'the base backup after a gap has ended' && line.status === 0)
  await world.check(receiver, /--max-slot-lag/, true)
  assert.equal((await receiver.stop()).status, 0)
})
