/** WAL that nothing kept, or that a slot kept which cannot be read: the archive alone says where to go on. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { GapWorld } from './gap-world.ts'

const timeout = 300_000

test('without a slot, WAL that was removed is a gap', { timeout }, async () => {
  await using world = await GapWorld.open({ major: 15, flags: ['--slotless'] })
  await world.lose(4)
  await world.removed()
  await using receiver = world.receive()
  await world.recorded(receiver)
  await world.check(receiver, /nothing kept it/)
  assert.equal((await receiver.stop()).status, 0)
})

test(
  'on PostgreSQL 14 without SQL, a slot that was invalidated is created again when WAL is gone',
  { timeout },
  async () => {
    await using world = await GapWorld.open({
      major: 14,
      settings: { max_slot_wal_keep_size: '2MB' },
      hba: 'host replication all 127.0.0.1/32 trust',
    })
    await world.lose(8)
    await world.removed()
    await using receiver = world.receive()
    await world.recorded(receiver)
    await receiver.logged(
      'the server has invalidated the slot, which keeps no WAL: dropping the slot and creating it again',
    )
    await world.check(receiver, /nothing kept it/)
    const [slot] = await world.server.sql<{ status: string }>('select wal_status as status from pg_replication_slots')
    assert.equal(slot?.status, 'reserved')
    assert.equal((await receiver.stop()).status, 0)
  },
)
