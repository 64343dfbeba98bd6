/** walrx applies nothing, and reports that: a commit with synchronous_commit = remote_apply waits for ever. */
import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { startPostgres } from '../../harness/postgres/postgres.ts'
import { until } from '../../harness/time/until.ts'
import { startWalrx } from '../../harness/walrx/walrx-process.ts'
import { WireTap } from '../../harness/postgres/wire-tap.ts'

test(
  'a commit with remote_apply is never acknowledged, one with remote_write when it is durable',
  { timeout: 120_000 },
  async () => {
    const archive = mkdtempSync(join(tmpdir(), 'walrx-apply-'))
    await using server = await startPostgres({ major: 17 })
    await using tap = await WireTap.open({ host: '127.0.0.1', port: server.port })
    tap.onStatus = ({ apply, flush, write }) => {
      assert.equal(apply, 0n, 'an apply position was reported')
      if (flush !== 0n) assert.equal(write, flush, 'what is in memory only was reported as written')
    }
    try {
      await server.sql('create table t (how text)')
      const conninfo = `${server.conninfo()} port=${tap.port}`
      await using receiver = startWalrx([
        'wal-receive',
        '--synchronous',
        '--file-prefix',
        archive,
        '--dbname',
        conninfo,
      ])
      await receiver.logged('streaming')
      await server.configure({ settings: { synchronous_standby_names: 'walrx' } })
      await server.reload()
      await server.sql(`set synchronous_commit = on; insert into t values ('on')`)

      const waiting = await server.client()
      let isBack = false
      const commit = waiting.query(`set synchronous_commit = remote_apply; insert into t values ('remote_apply')`)
      const ended = commit.then(
        () => (isBack = true),
        () => {},
      )
      const replica = `select flush_lsn::text as flushed, replay_lsn::text as applied,
      flush_lsn >= pg_current_wal_flush_lsn() as "isDurable" from pg_stat_replication where application_name = 'walrx'`
      await until('the commit to wait, all of it durable', async () => {
        const waits = await server.sql(`select 1 from pg_stat_activity where wait_event = 'SyncRep'`)
        const [row] = await server.sql<{ isDurable: boolean | null }>(replica)
        return waits.length === 1 && row?.isDurable
      })
      // All that walrx reports of these comes after its report of the first.
      for (const mode of ['on', 'remote_write']) {
        await server.sql(`set synchronous_commit = ${mode}; insert into t values ('${mode}')`)
      }
      const [row] = await server.sql<{ applied: string | null; flushed: string | null }>(replica)
      assert.equal(row?.applied, null)
      assert.notEqual(row.flushed, null)
      assert.equal(isBack, false, 'a commit that waits for its replay was acknowledged')
      assert.deepEqual(tap.failures, [])
      assert.equal((await receiver.stop()).status, 0)
      await server.stop('immediate')
      await ended
      assert.equal(isBack, false)
    } finally {
      rmSync(archive, { recursive: true, force: true })
    }
  },
)
