/** WAL that the primary no longer has, and that a standby still has: the archive gets it from there. */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { parseLsn } from '../../../src/postgres/lsn.ts'
import { assertUnbroken, compareWithServer, endOfSwitched } from '../../harness/store/archive-check.ts'
import { isFullRun } from '../../harness/extent.ts'
import { startStandby } from '../../harness/postgres/postgres-copies.ts'
import type { PgMajor, TestPostgres } from '../../harness/postgres/postgres.ts'
import { GapWorld } from './gap-world.ts'

const timeout = 300_000
const segmentSize = 1024 * 1024

/** Primary and standby as one connection string, in this order. */
function hosts(...servers: readonly TestPostgres[]): string {
  return `host=${servers.map(() => '127.0.0.1').join(',')} port=${servers.map(({ port }) => port).join(',')} user=postgres`
}

/** A slot that was dropped and WAL that the primary has removed since, which the standby has. */
async function lostOnPrimary(world: GapWorld, standby: TestPostgres): Promise<void> {
  await world.server.sql(`select pg_drop_replication_slot('walrx')`)
  await world.lose(6, standby)
  await world.removed()
}

describe('a gap is repaired', () => {
  for (const major of [14, 17] as const) {
    if (!isFullRun && major === 14) continue
    test(`from a standby that has kept the WAL, on PostgreSQL ${major}`, { timeout }, async () => {
      await using world = await GapWorld.open({ major: major satisfies PgMajor })
      await using standby = await startStandby(world.server, { settings: { wal_keep_size: '1GB', hot_standby: 'on' } })
      await lostOnPrimary(world, standby)
      world.conninfo = hosts(world.server, standby)
      await using receiver = world.receive()
      const repaired = await receiver.logged('archived WAL from another host that the server no longer has')
      assert.match(String(repaired['host']), new RegExp(`:${standby.port}$`))
      await receiver.logged('streaming', receiver.lines.indexOf(repaired))
      await world.mark('last')
      await world.archived(receiver)
      assert.deepEqual(await world.gaps(), [])
      const end = endOfSwitched(parseLsn(await world.server.switchWal()), segmentSize)
      await receiver.stop()
      assertUnbroken(world.archive, 1, end, segmentSize)
      assert.ok(compareWithServer(world.archive, standby) >= 6, 'what was repaired is compared with the standby')
      assert.equal((await standby.sql('select from pg_stat_replication')).length, 0, 'nobody streams from the standby')
      await world.assertRestored()
    })
  }

  test('from a standby that has kept the end of it: the gap is what neither has', { timeout }, async () => {
    await using world = await GapWorld.open({ major: 17 })
    await using standby = await startStandby(world.server, {
      settings: { min_wal_size: '2MB', max_wal_size: '2MB', wal_keep_size: '4MB', hot_standby: 'on' },
    })
    await lostOnPrimary(world, standby)
    await standby.sql('checkpoint')
    world.conninfo = hosts(world.server, standby)
    await using receiver = world.receive()
    const repaired = await receiver.logged('archived WAL from another host that the server no longer has')
    assert.match(String(repaired['host']), new RegExp(`:${standby.port}$`))
    await receiver.logged('streaming', receiver.lines.indexOf(repaired))
    const lost = receiver.lines.filter(
      ({ msg }) => msg === 'WAL is gone from the server: the archive has a gap, take a new base backup',
    )
    assert.equal(lost.length, 1)
    assert.equal(lost[0]?.['to'], repaired['from'], 'the gap ends where the standby begins')
    assert.equal((await receiver.stop()).status, 0)
  })

  test('is recorded where the standby has removed the WAL as well', { timeout }, async () => {
    await using world = await GapWorld.open({ major: 17 })
    await using standby = await startStandby(world.server, {
      settings: { min_wal_size: '2MB', max_wal_size: '2MB', hot_standby: 'on' },
    })
    await lostOnPrimary(world, standby)
    await standby.sql('checkpoint')
    world.conninfo = hosts(world.server, standby)
    await using receiver = world.receive()
    await world.recorded(receiver)
    const asked = receiver.lines.filter(({ msg }) => msg === 'streaming the missing WAL from another host')
    assert.equal(asked.length, 1, 'the standby is asked once for the same position')
    await world.check(receiver, /slot was missing/)
    assert.equal((await receiver.stop()).status, 0)
  })
})
