/** Beside a real synchronous standby we are never a candidate, and the server's shutdown never waits for us. */
import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, test } from 'node:test'
import { parseLsn } from '../../../src/postgres/lsn.ts'
import { majorsFor, withNext } from '../../harness/extent.ts'
import { majorSkip, startPostgres } from '../../harness/postgres/postgres.ts'
import { startStandby } from '../../harness/postgres/postgres-copies.ts'
import { startWalrx } from '../../harness/walrx/walrx-process.ts'

describe("with synchronous_standby_names = '*'", () => {
  for (const major of withNext(majorsFor([14, 18]))) {
    test(
      `PostgreSQL ${major}: async for us, commits return, a fast shutdown is fast`,
      { timeout: 120_000, skip: majorSkip(major) },
      async () => {
        const archive = mkdtempSync(join(tmpdir(), 'walrx-synchronous-'))
        await using primary = await startPostgres({ major, segmentSizeMb: 1 })
        await using standby = await startStandby(primary, { name: 'zzz_standby' })
        try {
          await using receiver = startWalrx(['wal-receive', '--file-prefix', archive, '--dbname', primary.conninfo()])
          await receiver.logged('streaming')
          await primary.configure({ settings: { synchronous_standby_names: '*', synchronous_commit: 'on' } })
          await primary.reload()
          await primary.sql('create table t (i int)')
          const states = new Set<string>()
          for (let i = 0; i < 40; i++) {
            await primary.sql(
              `insert into t select ${i}; select pg_logical_emit_message(false, 'walrx', repeat('x', 200000))`,
            )
            const rows = await primary.sql<{ application_name: string; sync_state: string }>(
              'select application_name, sync_state from pg_stat_replication',
            )
            for (const row of rows) states.add(`${row.application_name} ${row.sync_state}`)
          }
          assert.deepEqual([...states].sort(), ['walrx async', 'zzz_standby sync'])
          const [row] = await primary.sql<{ count: string }>('select count(*)::text as count from t')
          assert.equal(row?.count, '40')
          await standby.stop('immediate')
          await primary.configure({ settings: { synchronous_standby_names: '' } })
          await primary.reload()
          const stopMs = await primary.stop('fast')
          assert.ok(stopMs < 2_000, `pg_ctl stop -m fast took ${stopMs} ms`)
          await receiver.logged('the server shuts down')
          const durable = receiver.lines.filter(({ msg }) => msg === 'archived').length
          assert.ok(durable > 0)
          await receiver.stop('SIGKILL')
          await primary.start()
          const [slot] = await primary.sql<{ restart_lsn: string; wal_status: string }>(
            `select restart_lsn::text, wal_status from pg_replication_slots where slot_name = 'walrx'`,
          )
          assert.equal(slot?.wal_status, 'reserved')
          const [end] = await primary.sql<{ lsn: string }>('select pg_current_wal_lsn()::text as lsn')
          assert.ok(parseLsn(slot.restart_lsn) < parseLsn(end?.lsn ?? ''), 'the slot holds what is not archived')
        } finally {
          rmSync(archive, { recursive: true, force: true })
        }
      },
    )
  }
})
