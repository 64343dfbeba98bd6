/** What a server has removed is the gap, and no more: what it still has is received, whatever the role may see. */
import assert from 'node:assert/strict'
import { readdirSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { formatLsn, type Lsn, parseLsn, toLsn } from '../../../src/postgres/lsn.ts'
import { giveToServer } from '../../harness/postgres/postgres-files.ts'
import type { TestPostgres } from '../../harness/postgres/postgres.ts'
import { archivedSegments } from '../../harness/store/archive-check.ts'
import { GapWorld } from './gap-world.ts'

const timeout = 300_000
const segmentSize = 1024n * 1024n

/** Keeps eight segments. */
const settings = { wal_keep_size: '8MB', restore_command: 'false' }

const segno = (name: string): bigint => BigInt(`0x${name.slice(8, 16)}`) * 4096n + BigInt(`0x${name.slice(16)}`)

/** The first byte of the oldest segment in the server's pg_wal; those that it is to write later are newer. */
function oldestOf(server: TestPostgres): Lsn {
  const names = readdirSync(server.pgWal()).filter((name) => /^[0-9A-F]{24}$/.test(name))
  const [oldest = 0n] = names.map(segno).sort((a, b) => Number(a - b))
  return toLsn(oldest * segmentSize)
}

/** One past the last segment of the archive. */
function archiveEnd(world: GapWorld): Lsn {
  return toLsn((segno(archivedSegments(world.archive).at(-1) ?? '') + 1n) * segmentSize)
}

for (const [how, flags, user] of [
  ['without a slot, by a superuser', ['--slotless'], undefined],
  ['without a slot, by a role that may do nothing but replicate', ['--slotless'], 'replicator'],
  ['after the slot was dropped', [], 'replicator'],
] as const) {
  test(`WAL that the server still has is received ${how}`, { timeout }, async () => {
    await using world = await GapWorld.open({ major: 17, settings, flags })
    if (user !== undefined) {
      await world.server.sql(`create role ${user} login replication`)
      world.conninfo = world.server.conninfo(user)
    }
    if (flags.length === 0) await world.server.sql(`select pg_drop_replication_slot('walrx')`)
    await world.lose(25)
    await world.removed()
    const [from, oldest] = [archiveEnd(world), oldestOf(world.server)]
    assert.ok(oldest - from >= 10n * segmentSize, 'many segments are lost')
    const [end] = await world.server.sql<{ lsn: string }>('select pg_current_wal_lsn()::text as lsn')
    assert.ok(parseLsn(end?.lsn ?? '') - oldest >= 7n * segmentSize, 'and many are kept')
    await using receiver = world.receive()
    await world.recorded(receiver)
    const found = receiver.lines.filter(({ msg }) => msg.includes('found the oldest that it still has'))
    assert.deepEqual(
      found.map((line) => line['oldest']),
      [formatLsn(oldest)],
    )
    assert.ok(Number(found[0]?.['requests']) <= 6, JSON.stringify(found))
    const { startLsn, endLsn } = await world.gap()
    assert.deepEqual(
      [formatLsn(((startLsn / segmentSize) * segmentSize) as Lsn), formatLsn(endLsn)],
      [from, oldest].map(formatLsn),
    )
    await world.check(receiver, flags.length === 0 ? /slot was missing/ : /nothing kept it/)
    assert.equal((await receiver.stop()).status, 0)
  })
}

test('WAL that the server still has is received across a switch of timelines', { timeout }, async () => {
  await using world = await GapWorld.open({ major: 17, settings, flags: ['--slotless'] })
  const { server } = world
  const from = archiveEnd(world)
  await world.lose(20)
  await server.stop('fast')
  const signal = join(server.dataDir, 'recovery.signal')
  await writeFile(signal, '')
  await giveToServer(signal)
  await server.start()
  await server.recovered()
  await world.lose(4)
  const oldest = oldestOf(server)
  await using receiver = world.receive()
  await receiver.logged(({ msg, timeline }) => msg === 'streaming' && timeline === 2)
  await world.archived(receiver)
  assert.deepEqual(
    (await world.gaps()).map(({ endLsn, startLsn, timeline }) => [
      timeline,
      startLsn / segmentSize,
      endLsn / segmentSize,
    ]),
    [[1, from / segmentSize, oldest / segmentSize]],
  )
  const archived = archivedSegments(world.archive).filter((name) => segno(name) >= oldest / segmentSize)
  assert.ok(
    archived.some((name) => name.startsWith('00000001')),
    'some of timeline 1 was still there',
  )
  const numbers = [...new Set(archived.map(segno))]
  assert.deepEqual(
    numbers,
    numbers.map((_, index) => oldest / segmentSize + BigInt(index)),
    'and all from there on is archived',
  )
  assert.equal((await receiver.stop()).status, 0)
})
