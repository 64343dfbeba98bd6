/**
 * The one thing in which walrx and WAL-G restore something else than pg_combinebackup does (walg-format.md 6.8, trap 6):
 * pages that were cut off before one delta, and that came back before the next one without a trace in the WAL. A COPY
 * leaves such pages: it extends a relation by many at once, and those that it does not need stay as they are, zeros.
 * Restored step by step they are zeros. pg_combinebackup goes by the newest increment's length alone, does not see that
 * they were gone in between, and takes them from the full backup: rows that were deleted come back.
 */
import assert from 'node:assert/strict'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { clientTool } from '../harness/client-tools.ts'
import { isFullRun, isInDepth } from '../harness/extent.ts'
import { startPostgres } from '../harness/postgres.ts'
import { startWalrx } from '../harness/walrx-process.ts'
import { archivedAll, RecordedChain } from './delta-chain.ts'
import { assertRecovered, assertSameFiles, assertSound, momentOf } from './delta-proofs.ts'

const pageBytes = 8192
const zeros = Buffer.alloc(pageBytes)

/** Numbers of the blocks that differ between files of the same length. */
function differingBlocks(ours: Buffer, theirs: Buffer): number[] {
  assert.equal(ours.length, theirs.length)
  const blocks = Array.from({ length: ours.length / pageBytes }, (_, block) => block)
  return blocks.filter((block) => !blockOf(ours, block).equals(blockOf(theirs, block)))
}

function blockOf(file: Buffer, block: number): Buffer {
  return file.subarray(block * pageBytes, (block + 1) * pageBytes)
}

const skip = !isFullRun && 'it is about pg_combinebackup; WALRX_TEST_ALL=1'

for (const major of [17, 18] as const) {
  if (!isInDepth(major)) continue
  test(`PostgreSQL ${major}: pages of zeros where others were cut off`, { skip, timeout: 300_000 }, async (t) => {
    const combine = await clientTool('pg_combinebackup', major)
    if (combine === undefined) t.diagnostic(`no pg_combinebackup of PostgreSQL ${major}: its rule is used alone`)
    const chain = await RecordedChain.open(`stale${major}`)
    await using server = await startPostgres({ major, settings: { summarize_wal: 'on', autovacuum: 'off' } })
    await using receiver = startWalrx(['wal-receive', ...chain.prefix, '--dbname', server.conninfo()])
    await receiver.logged('streaming')
    await server.sql('create table t (text text)')
    // Four fill a page to the last bytes: what is copied goes behind them.
    await server.sql(`insert into t select repeat('old ', 501) from generate_series(1, 1600)`)
    await server.sql('vacuum freeze t')
    await chain.push(server)
    await server.sql(`delete from t where ctid >= '(200,0)'`)
    await server.sql('vacuum t')
    await chain.push(server)
    await server.sql(`copy t from program 'seq 1 20000'`)
    await chain.push(server)
    const [relation] = await server.sql<{ path: string; rows: number }>(
      `select pg_relation_filepath('t') as path, count(*)::int as rows from t`,
    )
    const { path = '', rows } = relation ?? {}
    assert.equal(rows, 20_800)
    const moment = await momentOf(server)
    await archivedAll(server, receiver)
    await receiver.stop()
    await server.stop('fast')

    const fetched = await chain.fetch(chain.backups[2]?.name ?? '')
    const combined = await chain.combine(combine, 2)
    // Everything else is the same.
    await assertSameFiles(fetched.data, combined.data, new RegExp(`^(backup_manifest|${path})$`))
    const [ours, theirs] = await Promise.all([fetched, combined].map(({ data }) => readFile(join(data, path))))
    if (!ours || !theirs) throw new Error('never')
    const blocks = differingBlocks(ours, theirs)
    t.diagnostic(
      `blocks ${blocks[0]} to ${blocks.at(-1)} of ${ours.length / pageBytes} are zeros, or the full backup's`,
    )
    assert.ok(blocks.length > 0)
    for (const block of blocks) {
      assert.ok(blockOf(ours, block).equals(zeros), `block ${block}`)
      assert.match(blockOf(theirs, block).toString('latin1'), /old old /)
    }

    await using fromFull = await chain.recover(chain.backups[0]?.name ?? '', moment.lsn, server)
    await using fromChain = await chain.recover(chain.backups[2]?.name ?? '', moment.lsn, server)
    await assertRecovered(fromChain, fromFull, moment)
    await assertSound(fromChain)
  })
}
