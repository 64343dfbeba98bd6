/**
 * A relation of more than a segment in a chain of deltas: it grows past a GiB, changes in the second segment alone,
 * shrinks to one, grows again, changes all over, and is truncated. And what a delta of it takes of memory.
 */
import assert from 'node:assert/strict'
import { mkdir, readFile } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { describe, test } from 'node:test'
import { clientTool } from '../../harness/postgres/client-tools.ts'
import { isFullRun, isInDepth } from '../../harness/extent.ts'
import { startPostgres, type TestPostgres } from '../../harness/postgres/postgres.ts'
import { startWalrx } from '../../harness/walrx/walrx-process.ts'
import { archivedAll, RecordedChain } from './delta-chain.ts'
import { assertRecovered, assertSound, filesBelow, momentOf } from './delta-proofs.ts'

/** Four of them fill a page, and leave no room for a fifth. */
const row = (from: number, to: number) =>
  `insert into big select g, rpad(g::text, 1900, 'x') from generate_series(${from}, ${to}) g`

/** Blocks of a segment. */
const segment = 131_072

/** What is done before each delta, and what the relation's segments are then, in blocks. */
const steps: readonly { readonly what: string; readonly sql: readonly string[]; readonly blocks: readonly number[] }[] =
  [
    { what: 'grows past a GiB', sql: [row(500_001, 540_000)], blocks: [segment, 3928] },
    {
      what: 'changes in its second segment alone',
      sql: [`update big set text = rpad('changed', 1900, 'y') where ctid >= '(${segment},0)' and id % 20 = 0`],
      // 786 of its 15,712 rows come again after them.
      blocks: [segment, 4125],
    },
    {
      what: 'shrinks to one segment, and leaves an empty one',
      sql: [`delete from big where ctid >= '(120000,0)'`, 'vacuum big'],
      blocks: [120_000, 0],
    },
    { what: 'grows again', sql: [row(600_001, 660_000)], blocks: [segment, 3928] },
    { what: 'changes in every second page', sql: ['delete from big where id % 8 = 0'], blocks: [segment, 3928] },
    { what: 'is truncated', sql: ['truncate big', row(1, 1000)], blocks: [250] },
  ]

/** Blocks of the relation's segments in a data directory. */
async function segmentsOf(data: string, path: string): Promise<number[]> {
  const files = await filesBelow(join(data, dirname(path)))
  const sizes: number[] = []
  for (let number = 0; ; number++) {
    const size = files.get(basename(path) + (number === 0 ? '' : `.${number}`))
    if (size === undefined) return sizes
    sizes.push(size / 8192)
  }
}

async function pathOf(server: TestPostgres): Promise<string> {
  const [row] = await server.sql<{ path: string }>(`select pg_relation_filepath('big') as path`)
  return row?.path ?? ''
}

/** Takes a backup by a process of its own. Returns the most that was ever resident of it, in MB. */
async function peakOfPush(server: TestPostgres, args: readonly string[]): Promise<number> {
  await using walrx = startWalrx(['backup-push', '--no-wait', '--json', '--dbname', server.conninfo(), ...args])
  let peak = 0
  const timer = setInterval(() => {
    void readFile(`/proc/${walrx.child.pid}/status`, 'latin1').then(
      (status) => (peak = Math.max(peak, Number(/^VmHWM:\s+(\d+) kB$/m.exec(status)?.[1] ?? 0) / 1000)),
      () => {},
    )
  }, 20)
  const { status, stderr } = await walrx.ended
  clearInterval(timer)
  assert.equal(status, 0, stderr)
  assert.ok(peak > 0)
  return peak
}

const skip = !isFullRun && 'it writes many GB; WALRX_TEST_ALL=1'

for (const major of [17, 18] as const) {
  if (!isInDepth(major)) continue
  describe(`PostgreSQL ${major}`, () => {
    test('a relation of more than a GiB', { skip, timeout: 1_200_000 }, async (t) => {
      const combine = await clientTool('pg_combinebackup', major)
      if (combine === undefined) t.diagnostic(`no pg_combinebackup of PostgreSQL ${major}: its rule is used alone`)
      const chain = await RecordedChain.open(`segments${major}`)
      await using server = await startPostgres({
        major,
        settings: { summarize_wal: 'on', autovacuum: 'off', max_wal_size: '4GB', wal_compression: 'on' },
      })
      await using receiver = startWalrx(['wal-receive', ...chain.prefix, '--dbname', server.conninfo()])
      await receiver.logged('streaming')
      await server.sql('create table big (id int, text text)')
      await server.sql(row(1, 500_000))
      await server.sql('create index on big (id)')
      // Else the first to read a page would write to it.
      await server.sql('vacuum freeze big')
      await chain.push(server)
      const paths: string[] = []
      const beside = join(chain.root, 'beside')
      await mkdir(beside)
      const peaks: number[] = []
      for (const [index, { blocks, sql, what }] of steps.entries()) {
        if (index === 4) peaks.push(await peakOfPush(server, ['--file-prefix', beside]))
        for (const statement of sql) await server.sql(statement)
        const delta = await chain.push(server)
        assert.equal(delta.sentinel.delta?.count, index + 1, delta.full?.message)
        t.diagnostic(`${what}: ${(delta.sentinel.uncompressedSize / 1e6).toFixed(0)} MB`)
        paths.push(await pathOf(server))
        assert.deepEqual(await segmentsOf(server.dataDir, paths.at(-1) ?? ''), blocks, what)
        if (index === 4) {
          const rules = ['--delta-max-steps', '9', '--require-incremental']
          peaks.push(await peakOfPush(server, ['--file-prefix', beside, ...rules]))
        }
      }
      const [peakOfFull = 0, peakOfDelta = 0] = peaks
      t.diagnostic(
        `at most ${peakOfFull.toFixed(0)} MB resident for the full one, ${peakOfDelta.toFixed(0)} for the delta`,
      )
      assert.ok(peakOfDelta < peakOfFull * 1.2, `${peakOfDelta} and ${peakOfFull} MB`)
      const moment = await momentOf(server)
      await server.sql('delete from big')
      await archivedAll(server, receiver)
      await receiver.stop()
      await server.stop('immediate')
      await chain.verify('every')

      for (const [index, { blocks, what }] of steps.entries()) {
        await chain.assertCombines(combine, index + 1, [], async ({ data }) => {
          assert.deepEqual(await segmentsOf(data, paths[index] ?? ''), blocks, what)
        })
      }

      await using fromFull = await chain.recover(chain.backups[0]?.name ?? '', moment.lsn, server)
      for (const index of [5, 6]) {
        await using fromChain = await chain.recover(chain.backups[index]?.name ?? '', moment.lsn, server)
        await assertRecovered(fromChain, fromFull, moment)
        await assertSound(fromChain)
      }
      await chain.dropRecordings()
    })
  })
}
