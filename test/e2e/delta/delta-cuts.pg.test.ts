/**
 * Relations that were cut, and have grown again before another checkpoint: PostgreSQL leaves the new blocks out of an
 * increment where its directory happens to list the summary of the growth before that of the cut.
 */
import assert from 'node:assert/strict'
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, test } from 'node:test'
import { majorsFor } from '../../harness/extent.ts'
import { makeServerDirectory } from '../../harness/postgres/postgres-files.ts'
import { startPostgres, type TestPostgres } from '../../harness/postgres/postgres.ts'
import { startRecovering } from '../../harness/postgres/restored-server.ts'
import { newServerDirectory } from '../../harness/walrx/test-workspace.ts'
import { runWalrx, startWalrx } from '../../harness/walrx/walrx-process.ts'
import { archivedAll } from './delta-chain.ts'
import { summarize } from './delta-load.ts'
import { contentsOf } from './delta-proofs.ts'

/** Each is cut and grows in summaries of its own. Their order is chance: with so many it is wrong for some. */
const tables = ['a', 'b', 'c', 'd', 'e', 'f', 'g', 'h'] as const

/** LSNs of the summaries that begin in a stretch of WAL, as the directory lists them. */
async function listed(server: TestPostgres): Promise<bigint[]> {
  const rows = await server.sql<{ start: string }>(
    `select (start_lsn - '0/0')::text as start from pg_available_wal_summaries()`,
  )
  return rows.map(({ start }) => BigInt(start))
}

describe('a delta', () => {
  for (const major of majorsFor([17]).filter((each) => each >= 17)) {
    test(`has what a relation of PostgreSQL ${major} has grown by after a cut`, { timeout: 300_000 }, async (t) => {
      const root = newServerDirectory('delta-cuts')
      await makeServerDirectory(root, 0o755)
      const archive = join(root, 'archive')
      await mkdir(archive)
      const prefix = ['--file-prefix', archive]
      await using server = await startPostgres({ major, settings: { summarize_wal: 'on', autovacuum: 'off' } })
      await using receiver = startWalrx(['wal-receive', ...prefix, '--dbname', server.conninfo()])
      await receiver.logged('streaming')
      for (const table of tables) {
        await server.sql(
          `create table ${table} as select g as id, repeat('x', 900) as text from generate_series(1, 800) g`,
        )
        await server.sql(`vacuum ${table}`)
      }
      const push = ['backup-push', ...prefix, '-d', server.conninfo(), '--no-wait', '--json', '--delta-max-steps', '1']
      const full = await runWalrx(push)
      assert.equal(full.status, 0, full.stderr)
      const pairs: bigint[][] = []
      for (const table of tables) {
        const before = await listed(server)
        await server.sql(`delete from ${table} where id > 400`)
        await server.sql(`vacuum ${table}`)
        await summarize(server)
        const between = await listed(server)
        await server.sql(`insert into ${table} select g, repeat('y', 900) from generate_series(10001, 10400) g`)
        await summarize(server)
        const after = await listed(server)
        const added = (all: readonly bigint[], old: readonly bigint[]) =>
          all.find((start) => !old.includes(start)) ?? 0n
        pairs.push([added(between, before), added(after, between)])
      }
      const order = await listed(server)
      const wrong = pairs.filter(([cut = 0n, grown = 0n]) => order.indexOf(cut) > order.indexOf(grown))
      t.diagnostic(`the directory lists ${wrong.length} of ${pairs.length} growths before the cut`)
      const pushed = await runWalrx([...push, '--require-incremental'])
      assert.equal(pushed.status, 0, pushed.stderr)
      const expected = await contentsOf(server)
      await archivedAll(server, receiver)
      await receiver.stop()

      const directory = newServerDirectory('delta-cuts-restored')
      await makeServerDirectory(directory, 0o755)
      const data = join(directory, 'data')
      const fetched = await runWalrx(['backup-fetch', data, 'LATEST', ...prefix])
      assert.equal(fetched.status, 0, fetched.stderr)
      await using restored = await startRecovering(directory, major, prefix)
      assert.deepEqual(await contentsOf(restored), expected)
    })
  }
})
