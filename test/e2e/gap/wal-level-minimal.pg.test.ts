/**
 * The server ran with wal_level=minimal for a while: all WAL is archived, and no recovery from an older backup passes that
 * (PostgreSQL's documentation of wal_level, commit 4d807bbc4b).
 */
import assert from 'node:assert/strict'
import { join } from 'node:path'
import { test } from 'node:test'
import { formatLsn } from '../../../src/postgres/lsn.ts'
import type { PgMajor } from '../../harness/postgres/postgres.ts'
import { runWalrx, type WalrxProcess } from '../../harness/walrx/walrx-process.ts'
import { GapWorld } from './gap-world.ts'

const timeout = 300_000
const recorded = 'the server ran with wal_level=minimal: no recovery passes that, take a new base backup'

/** Stops the server, lets it run with wal_level=minimal, and with its own level again. */
async function runMinimal({ server }: GapWorld): Promise<void> {
  // A server that summarizes WAL does not start with minimal.
  const level = (walLevel: string, senders: string) => {
    const summaries = server.major >= 17 && { summarize_wal: walLevel === 'minimal' ? 'off' : 'on' }
    return server.configure({ settings: { wal_level: walLevel, max_wal_senders: senders, ...summaries } })
  }
  await server.stop('fast')
  await level('minimal', '0')
  await server.start()
  await server.sql('create table loaded as select generate_series(1, 1000) as id')
  await server.stop('fast')
  await level('replica', '10')
  await server.start()
}

async function fetch(world: GapWorld, ...args: string[]) {
  const prefix = ['--file-prefix', world.archive]
  return runWalrx(['backup-fetch', join(world.archive, 'nowhere'), ...args, '--dry-run', ...prefix])
}

async function stopped(receiver: WalrxProcess): Promise<void> {
  assert.equal((await receiver.stop()).status, 0)
}

for (const major of [14, 17, 18] satisfies PgMajor[]) {
  test(`WAL of wal_level=minimal is a break for older backups, on PostgreSQL ${major}`, { timeout }, async () => {
    const settings = { wal_keep_size: '1GB', ...(major >= 17 && { summarize_wal: 'on' }) }
    await using world = await GapWorld.open({ major, settings, flags: ['--slotless'] })
    const listed = await runWalrx(['backup-list', '--json', '--file-prefix', world.archive])
    const [oldest] = JSON.parse(listed.stdout) as { backup_name: string }[]
    const older = oldest?.backup_name ?? ''
    await runMinimal(world)
    await world.mark('after')
    await using receiver = world.receive()
    await receiver.logged('streaming')
    await world.archived(receiver)
    await receiver.logged((line) => line.msg === recorded && line.outcome === 'created')
    const { endLsn, reason, startLsn, timeline } = await world.gap()
    assert.deepEqual([endLsn - startLsn, timeline], [1n, 1])
    assert.match(reason, /wal_level=minimal/)

    const text = (await runWalrx(['wal-show', '--file-prefix', world.archive])).stdout
    assert.match(text, new RegExp(`the server ran with wal_level=minimal from ${formatLsn(startLsn)} on timeline 1 on`))
    const json = (await runWalrx(['wal-show', '--json', '--file-prefix', world.archive])).stdout
    const [shown] = JSON.parse(json) as { missing_segments: string[]; gaps: { kind: string }[] }[]
    assert.deepEqual([shown?.missing_segments, shown?.gaps.map(({ kind }) => kind)], [[], ['break']])

    for (const target of [['--recover'], world.target('after')]) {
      const { status, stderr } = await fetch(world, older, ...target)
      assert.equal(status, 2, `${target.join()}: ${stderr}`)
      assert.match(stderr, /ran with wal_level=minimal/)
    }
    assert.equal((await fetch(world, older, ...world.target('before'))).status, 0, 'before it all is well')

    if (major >= 17) {
      const plan = await runWalrx(
        ['backup-push', '--dry-run', '--json', '--dbname', world.conninfo, '--file-prefix', world.archive],
        { env: { WALG_DELTA_MAX_STEPS: '5' } },
      )
      assert.equal(plan.status, 0, plan.stderr)
      const { full_because: why } = JSON.parse(plan.stdout) as { full_because: { code: string } | null }
      assert.equal(why?.code, 'summaries', 'no delta leads across it')
    }

    await stopped(receiver)
    // A receiver that is to take a backup finds the record of an earlier one.
    await using careful = world.receive('--backup-after-gap')
    await careful.logged((line) => line.msg === 'the base backup after a gap is complete' && line.status === 0)
    await world.mark('last')
    await world.archived(careful)
    assert.equal((await fetch(world, 'LATEST', ...world.target('last'))).status, 0)
    await world.assertRestored()
    await stopped(careful)
  })
}
