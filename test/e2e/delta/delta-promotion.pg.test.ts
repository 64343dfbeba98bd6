/** Chains of deltas over a promotion and of a standby, and the parent that no server may build on: one that straddles. */
import assert from 'node:assert/strict'
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, type TestContext, test } from 'node:test'
import { parseLsn } from '../../../src/postgres/lsn.ts'
import { clientTool } from '../../harness/postgres/client-tools.ts'
import { isFullRun, isInDepth } from '../../harness/extent.ts'
import { startStandby, untilReplayed } from '../../harness/postgres/postgres-copies.ts'
import { makeServerDirectory } from '../../harness/postgres/postgres-files.ts'
import { startPostgres, type TestPostgres } from '../../harness/postgres/postgres.ts'
import { newServerDirectory } from '../../harness/walrx/test-workspace.ts'
import { currentLsn } from '../../harness/made/wal-load.ts'
import { runWalrx, startWalrx } from '../../harness/walrx/walrx-process.ts'
import { archivedAll, RecordedChain } from './delta-chain.ts'
import { assertIndexesAnswer, DeltaLoad, makeRelations } from './delta-load.ts'
import { assertRecovered, assertSound, type Moment, momentOf } from './delta-proofs.ts'

/** Tablespaces in place: a standby on the same machine has its own folders then. */
const settings = { summarize_wal: 'on', autovacuum: 'off', allow_in_place_tablespaces: 'on', wal_keep_size: '1GB' }

/** A chain's files and contents, at a position after its last backup. */
async function prove(t: TestContext, chain: RecordedChain, server: TestPostgres, moment: Moment): Promise<void> {
  await chain.verify('every')
  const last = chain.backups.length - 1
  const [full, leaf] = [chain.backups[0]?.name ?? '', chain.backups[last]?.name ?? '']
  const combine = await clientTool('pg_combinebackup', server.major)
  if (combine === undefined) t.diagnostic(`no pg_combinebackup of PostgreSQL ${server.major}: its rule is used alone`)
  t.diagnostic(`${await chain.assertCombines(combine, last)} files are the same`)
  await using fromFull = await chain.recover(full, moment.lsn, server)
  await using fromChain = await chain.recover(leaf, moment.lsn, server)
  await assertRecovered(fromChain, fromFull, moment)
  await assertIndexesAnswer(fromChain)
  t.diagnostic(`${await assertSound(fromChain)} relations are sound`)
}

const skip = !isFullRun && 'such deltas are in delta-fallbacks, a few; WALRX_TEST_ALL=1'

for (const major of [17, 18] as const) {
  if (!isInDepth(major)) continue
  describe(`PostgreSQL ${major}`, { skip, timeout: 900_000 }, () => {
    test('deltas of the primary, and then of the standby that was promoted', async (t) => {
      const chain = await RecordedChain.open(`promotion${major}`)
      await using primary = await startPostgres({ major, dataChecksums: true, settings })
      await primary.sql(`create tablespace ts location ''`)
      await makeRelations(primary, 'ts')
      await using standby = await startStandby(primary, { settings })
      await using first = startWalrx(['wal-receive', ...chain.prefix, '--dbname', primary.conninfo()])
      await first.logged('streaming')
      const before = await DeltaLoad.start(primary, 'ts')
      await chain.push(primary)
      for (const step of [1, 2]) {
        await before.change(step)
        await chain.push(primary)
      }
      await before.stop()
      await untilReplayed(standby, primary)
      await first.stop()
      await primary.stop('fast')
      await standby.promote()
      const slot = ['--slotname', 'standby']
      await using second = startWalrx(['wal-receive', ...chain.prefix, ...slot, '--dbname', standby.conninfo()])
      await second.logged('streaming')
      const later = await DeltaLoad.start(standby, 'ts')
      for (const step of [3, 4, 5]) {
        await later.change(step)
        await chain.push(standby)
      }
      const names = chain.backups.map(({ name }) => name)
      assert.match(names[2] ?? '', /^base_00000001.*_D_00000001/)
      assert.match(names[3] ?? '', /^base_00000002.*_D_00000001/)
      assert.equal(chain.backups.at(-1)?.sentinel.delta?.count, 5)
      await later.quiet()
      const moment = await momentOf(standby)
      await standby.sql('delete from updated')
      await later.stop()
      await archivedAll(standby, second)
      await second.stop()
      await standby.stop('fast')
      await prove(t, chain, standby, moment)
    })

    test('five deltas of a standby, one after each restartpoint', async (t) => {
      const chain = await RecordedChain.open(`standby${major}`)
      await using primary = await startPostgres({ major, dataChecksums: true, settings })
      await primary.sql(`create tablespace ts location ''`)
      await makeRelations(primary, 'ts')
      await using standby = await startStandby(primary, { settings })
      await using receiver = startWalrx(['wal-receive', ...chain.prefix, '--dbname', primary.conninfo()])
      await receiver.logged('streaming')
      const load = await DeltaLoad.start(primary, 'ts')
      await chain.push(standby, primary)
      for (const step of [1, 2, 3, 4, 5]) {
        await load.change(step)
        await primary.checkpoint()
        await untilReplayed(standby, primary)
        const delta = await chain.push(standby, primary)
        assert.equal(delta.sentinel.delta?.count, step, delta.full?.message)
      }
      await load.quiet()
      const moment = await momentOf(primary)
      await primary.sql('delete from updated')
      await load.stop()
      await archivedAll(primary, receiver)
      await receiver.stop()
      await standby.stop('fast')
      await primary.stop('fast')
      await prove(t, chain, primary, moment)
    })

    test('no delta on a backup that starts before the fork and ends after it', async () => {
      const root = newServerDirectory(`straddle${major}`)
      await makeServerDirectory(root, 0o755)
      const archive = join(root, 'archive')
      await mkdir(archive)
      await using primary = await startPostgres({ major, settings })
      await using standby = await startStandby(primary, { settings })
      const push = [
        'backup-push',
        '--file-prefix',
        archive,
        '--no-wait',
        '--json',
        '--delta-max-steps',
        '3',
        '--dbname',
      ]
      await using slow = startWalrx([...push, primary.conninfo(), '--max-rate', '5MB'])
      const begins = await slow.logged('backup begins')
      await primary.sql('create table t as select g as id from generate_series(1, 1000) g')
      await untilReplayed(standby, primary)
      await standby.promote()
      // What the old primary writes from here on is of a history that ends with it.
      await primary.sql('insert into t select g from generate_series(1, 100000) g')
      const parent = await slow.ended
      assert.equal(parent.status, 0, parent.stderr)
      const { backup_name: name, finish_lsn: finishLsn } = JSON.parse(parent.stdout) as {
        backup_name: string
        finish_lsn: number
      }
      const [fork] = await standby.sql<{ lsn: string }>(
        `select split_part(pg_read_file('pg_wal/00000002.history'), E'\\t', 2) as lsn`,
      )
      const forkLsn = parseLsn(fork?.lsn ?? '')
      assert.ok(parseLsn(String(begins['startLsn'])) < forkLsn && BigInt(finishLsn) > forkLsn)
      // After the parent's end, so that positions alone do not show it.
      await standby.sql('create table u as select g as id from generate_series(1, 200000) g')
      await standby.checkpoint()
      assert.ok(parseLsn(await currentLsn(standby)) > BigInt(finishLsn))
      const named = [...push, standby.conninfo(), '--delta-from-name', name]
      const refused = await runWalrx([...named, '--require-incremental'])
      assert.equal(refused.status, 2, refused.stderr)
      assert.match(refused.stderr, /and the server's history left timeline 1 at/)
      const full = await runWalrx(named)
      assert.equal(full.status, 0, full.stderr)
      assert.match(full.stdout, /"delta_from":null,"full_because":{"code":"history"/)
    })
  })
}
