/** WAL that the server gave up before it was archived: the gap is recorded, reported wherever it counts, and passed once. */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { GapWorld } from './gap-world.ts'

const timeout = 300_000

describe('a slot that keeps nothing', () => {
  test('was dropped and created again above what is archived', { timeout }, async () => {
    await using world = await GapWorld.open({ major: 17 })
    await world.server.sql(`select pg_drop_replication_slot('walrx')`)
    await world.lose(4)
    await world.server.sql(`select pg_create_physical_replication_slot('walrx', true)`)
    await world.removed()
    await using receiver = world.receive()
    await world.recorded(receiver)
    await world.check(receiver, /although the slot was there/)
    assert.equal((await receiver.stop()).status, 0)
  })

  test('was invalidated by max_slot_wal_keep_size: it is created again', { timeout }, async () => {
    await using world = await GapWorld.open({ major: 18, settings: { max_slot_wal_keep_size: '2MB' } })
    await world.lose(8)
    await world.removed()
    await using receiver = world.receive()
    await receiver.logged(
      'the server has invalidated the slot, which keeps no WAL: dropping the slot and creating it again',
    )
    await world.recorded(receiver)
    await world.check(receiver, /had invalidated the slot/)
    assert.equal((await receiver.stop()).status, 0)
  })
})
