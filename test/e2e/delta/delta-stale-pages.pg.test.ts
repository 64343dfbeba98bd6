/**
 * Pages that were cut off and came back as zeros without a trace in the WAL. A COPY leaves such pages: it extends a
 * relation by many at once, and those that it does not need stay as they are. Of a cut before the same delta PostgreSQL
 * leaves them out of its increment, and what is restored has the parent's; of a cut before the delta before,
 * pg_combinebackup takes the full backup's, for it goes by the length in the newest increment alone
 * (docs/walg-format.md, 6.8). Rows that were deleted come back. That the segment of each cut comes whole keeps
 * everybody from both.
 */
import assert from 'node:assert/strict'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, type TestContext, test } from 'node:test'
import { clientTool } from '../../harness/postgres/client-tools.ts'
import { isFullRun, isInDepth } from '../../harness/extent.ts'
import { startPostgres, type TestPostgres } from '../../harness/postgres/postgres.ts'
import { startWalrx } from '../../harness/walrx/walrx-process.ts'
import { archivedAll, RecordedChain } from './delta-chain.ts'
import { assertRecovered, assertSound, momentOf } from './delta-proofs.ts'

const pageBytes = 8192
const zeros = Buffer.alloc(pageBytes)

/** The case is there: pages of zeros after the last row, where the full backup has 400 pages with rows. */
async function assertHasZeros(t: TestContext, path: string): Promise<void> {
  const file = await readFile(path)
  const blocks = Array.from({ length: file.length / pageBytes }, (_, block) => block)
  const empty = blocks.filter((block) => file.subarray(block * pageBytes, (block + 1) * pageBytes).equals(zeros))
  t.diagnostic(`blocks ${empty[0]} to ${empty.at(-1)} of ${blocks.length} are zeros`)
  assert.ok(empty.length > 0 && (empty[0] ?? 0) >= 200 && (empty.at(-1) ?? 0) < 400)
}

/** A relation that was cut at its end and that a COPY has grown again, before the last backup of a chain. */
async function growAgain(server: TestPostgres, chain: RecordedChain, deltaBetween: boolean): Promise<string> {
  await server.sql('create table t (text text)')
  // Four fill a page to the last bytes: what is copied goes after them.
  await server.sql(`insert into t select repeat('old ', 501) from generate_series(1, 1600)`)
  await server.sql('vacuum freeze t')
  await chain.push(server)
  await server.sql(`delete from t where ctid >= '(200,0)'`)
  await server.sql('vacuum t')
  if (deltaBetween) await chain.push(server)
  await server.sql(`copy t from program 'seq 1 20000'`)
  await chain.push(server)
  const [relation] = await server.sql<{ path: string; rows: number }>(
    `select pg_relation_filepath('t') as path, count(*)::int as rows from t`,
  )
  assert.equal(relation?.rows, 20_800)
  return relation.path
}

const skip = !isFullRun && 'a rare case; WALRX_TEST_ALL=1'

for (const major of [17, 18] as const) {
  if (!isInDepth(major)) continue
  describe(`PostgreSQL ${major}: pages of zeros where others were cut off`, { skip, timeout: 600_000 }, () => {
    for (const deltaBetween of [true, false]) {
      test(deltaBetween ? 'before another delta' : 'before the same delta', async (t) => {
        const combine = await clientTool('pg_combinebackup', major)
        if (combine === undefined) t.diagnostic(`no pg_combinebackup of PostgreSQL ${major}: its rule is used alone`)
        const chain = await RecordedChain.open(`stale${major}`)
        await using server = await startPostgres({ major, settings: { summarize_wal: 'on', autovacuum: 'off' } })
        await using receiver = startWalrx(['wal-receive', ...chain.prefix, '--dbname', server.conninfo()])
        await receiver.logged('streaming')
        const path = await growAgain(server, chain, deltaBetween)
        const moment = await momentOf(server)
        await archivedAll(server, receiver)
        await receiver.stop()
        await server.stop('fast')

        const last = chain.backups.length - 1
        await chain.assertCombines(combine, last, [], ({ data }) => assertHasZeros(t, join(data, path)))
        await using fromFull = await chain.recover(chain.backups[0]?.name ?? '', moment.lsn, server)
        await using fromChain = await chain.recover(chain.backups[last]?.name ?? '', moment.lsn, server)
        await assertRecovered(fromChain, fromFull, moment)
        await assertSound(fromChain)
      })
    }
  })
}
