/** Slots that are given up: above their budget, on demand, and after too long an absence. What that costs is recorded. */
import assert from 'node:assert/strict'
import { rename } from 'node:fs/promises'
import { test } from 'node:test'
import { until } from '../../harness/time/until.ts'
import { GapWorld } from './gap-world.ts'

const timeout = 300_000

test('above --max-slot-lag the slot is dropped, and a backup is taken after the gap', { timeout }, async () => {
  await using world = await GapWorld.open({ major: 16 })
  await using receiver = world.receive('--max-slot-lag=4MB', '--slot-lag-action=drop', '--backup-after-gap')
  await receiver.logged('streaming')
  await rename(world.archive, `${world.archive}.away`)
  await world.lose(8)
  assert.equal((await receiver.logged('the slot keeps more WAL than --max-slot-lag allows')).action, 'drop')
  await receiver.logged((line) => line.msg.startsWith('dropped the replication slot: it kept more WAL'))
  await until('the slot to be gone', async () => {
    return (await world.server.sql('select from pg_replication_slots')).length === 0
  })
  await world.lose(2)
  await rename(`${world.archive}.away`, world.archive)
  await world.removed()
  await world.recorded(receiver)
  await receiver.logged((line) => line.msg === 'the base backup after a gap is complete' && line.status === 0)
  await world.check(receiver, /--max-slot-lag/, true)
  assert.equal((await receiver.stop()).status, 0)
})

test(
  'a slot that 18 has invalidated for idleness shows a position still, and is created again',
  { timeout },
  async () => {
    await using world = await GapWorld.open({ major: 18 })
    await world.server.configure({ settings: { idle_replication_slot_timeout: '1s' } })
    await world.server.reload()
    await until('the slot to be invalidated', async () => {
      await world.server.sql('checkpoint')
      const [slot] = await world.server.sql<{ reason: string | null; lsn: string | null }>(
        'select invalidation_reason as reason, restart_lsn::text as lsn from pg_replication_slots',
      )
      return slot?.reason === 'idle_timeout' && slot.lsn !== null
    })
    await world.lose(4)
    await world.removed()
    await using receiver = world.receive()
    await receiver.logged(
      'the server has invalidated the slot, which keeps no WAL: dropping the slot and creating it again',
    )
    await receiver.logged('the server invalidates the slot when walrx is disconnected for this long')
    await world.recorded(receiver)
    await world.check(receiver, /had invalidated the slot/)
    assert.equal((await receiver.stop()).status, 0)
  },
)
