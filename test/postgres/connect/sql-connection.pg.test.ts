import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { parseConninfo } from '../../../src/postgres/connect/conninfo.ts'
import { PgServer } from '../../../src/postgres/connect/connection.ts'
import { encodeQuery } from '../../../src/postgres/protocol/frames.ts'
import { parseLsn } from '../../../src/postgres/lsn.ts'
import type { PgSession } from '../../../src/postgres/connect/pg-session.ts'
import type { SqlConnection } from '../../../src/postgres/connect/sql-connection.ts'
import { isInDepth } from '../../harness/extent.ts'
import { type PgMajor, startPostgres, type TestPostgres } from '../../harness/postgres/postgres.ts'
import { generateWal } from '../../harness/made/wal-load.ts'

async function open(server: TestPostgres, user: string): Promise<{ session: PgSession; sql: SqlConnection }> {
  const postgres = new PgServer({ conninfo: parseConninfo(server.conninfo(user), { env: {} }) })
  const session = await postgres.connect()
  const { reason, sql } = await postgres.trySql(session)
  if (!sql) throw reason
  return { session, sql }
}

describe('the ordinary connection', () => {
  for (const major of [14, 16, 17, 18] as const satisfies PgMajor[]) {
    if (!isInDepth(major)) continue
    test(`reports the health of a slot on PostgreSQL ${major}, until the slot is lost`, async () => {
      await using server = await startPostgres({
        major,
        segmentSizeMb: 1,
        settings: {
          max_slot_wal_keep_size: '4MB',
          max_wal_size: '2MB',
          min_wal_size: '2MB',
          ...(major >= 18 && { idle_replication_slot_timeout: '2h' }),
        },
      })
      await server.sql('create role repl login replication')
      const { session, sql } = await open(server, 'repl')
      assert.equal(await sql.readSlotHealth('walrx'), undefined)
      await session.createSlot('walrx')
      const healthy = await sql.readSlotHealth('walrx')
      const [row] = await server.sql<{ lsn: string; safe: string; end: string }>(
        `select restart_lsn::text as lsn, safe_wal_size::text as safe, pg_current_wal_flush_lsn()::text as end
         from pg_replication_slots where slot_name = 'walrx'`,
      )
      assert.deepEqual(
        { ...healthy, inactiveSince: undefined },
        {
          kind: 'physical',
          isActive: false,
          activePid: undefined,
          restartLsn: parseLsn(row?.lsn ?? ''),
          walStatus: 'reserved',
          safeWalBytes: BigInt(row?.safe ?? ''),
          inactiveSince: undefined,
          invalidationReason: undefined,
          serverEnd: parseLsn(row?.end ?? ''),
          idleTimeoutSeconds: major >= 18 ? 7_200 : undefined,
        },
      )
      if (major >= 17) assert.match(healthy?.inactiveSince ?? '', /^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d/)
      else assert.equal(healthy?.inactiveSince, undefined)

      await generateWal(server, { segments: 12 })
      await server.checkpoint()
      const lost = await sql.readSlotHealth('walrx')
      assert.equal(lost?.walStatus, 'lost')
      assert.equal(lost.restartLsn, undefined)
      assert.equal(lost.safeWalBytes, undefined)
      assert.equal(lost.invalidationReason, major >= 17 ? 'wal_removed' : undefined)
      // The only sign of it without SQL: READ_REPLICATION_SLOT knows no status.
      const reading = await session.readSlot('walrx')
      assert.deepEqual(reading, { kind: 'physical', restartLsn: undefined, restartTimeline: undefined })
      await session.close()
      await sql.close()
      await sql.close()
      assert.equal(sql.isBroken, true)
    })
  }

  test('reports the process that uses a slot, and whether walrx is chosen for synchronous replication where the role may see it', async () => {
    await using server = await startPostgres({ major: 17, settings: { synchronous_standby_names: '*' } })
    await server.sql('set synchronous_commit = local; create role repl login replication')
    await server.sql('set synchronous_commit = local; create role seeing login replication in role pg_monitor')
    const { session, sql } = await open(server, 'seeing')
    await session.createSlot('walrx')
    assert.equal(await sql.readSyncState(session.backendPid), 'async')
    assert.equal(await sql.readSyncState(1), undefined)
    const blind = await open(server, 'repl')
    assert.equal(await blind.sql.readSyncState(blind.session.backendPid), undefined)
    const socket = session.takeOver()
    await new Promise<void>((resolve) => {
      socket.start({ onBytes: () => resolve(), onClose: () => resolve() })
      socket.write(encodeQuery('START_REPLICATION SLOT "walrx" PHYSICAL 0/1000000 TIMELINE 1'))
    })
    const health = await blind.sql.readSlotHealth('walrx')
    assert.deepEqual([health?.isActive, health?.activePid], [true, session.backendPid])
    for (const each of [session, sql, blind.session, blind.sql]) await each.close()
  })

  test('is optional: pg_hba.conf lines for replication alone serve the session, and the reason is given', async () => {
    await using server = await startPostgres({ major: 17, hba: 'host replication all 127.0.0.1/32 trust' })
    const postgres = new PgServer({ conninfo: parseConninfo(server.conninfo(), { env: {} }) })
    const session = await postgres.connect()
    const { reason, sql } = await postgres.trySql(session)
    assert.equal(sql, undefined)
    assert.equal(reason?.code, 'WALRX_AUTH_FAILED')
    assert.match(reason.message, /no pg_hba\.conf entry/)
    assert.match(reason.hint ?? '', /: host postgres postgres 127\.0\.0\.1\/32 scram-sha-256$/)
    await session.identifySystem()
    await session.close()
  })

  test('goes to the database of the connection string', async () => {
    await using server = await startPostgres({ major: 17 })
    const conninfo = parseConninfo(`${server.conninfo()} dbname=nowhere`, { env: {} })
    const postgres = new PgServer({ conninfo })
    const session = await postgres.connect()
    const { reason } = await postgres.trySql(session)
    assert.match(reason?.message ?? '', /database "nowhere" does not exist/)
    await session.close()
  })

  test('notices that the server is gone', async () => {
    await using server = await startPostgres({ major: 17 })
    const { session, sql } = await open(server, 'postgres')
    await server.stop('immediate')
    await assert.rejects(sql.readSlotHealth('walrx'), { code: 'WALRX_CONNECTION_LOST' })
    await assert.rejects(session.identifySystem(), { code: 'WALRX_CONNECTION_LOST' })
    assert.equal(sql.isBroken, true)
    await session.close()
    await sql.close()
  })
})
