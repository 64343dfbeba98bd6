/** The queries of an ordinary connection. Each may be refused alone. */
import type { SqlConnection, TextRow } from '../../postgres/connect/sql-connection.ts'
import { ServerError } from '../../postgres/protocol/server-error.ts'
import { WalrxError } from '../../primitives/errors.ts'
import type { ArchiverFacts, SlotUser, SqlFacts } from './server-facts.ts'

/** Settings as SHOW writes them, without those that the role may not see. */
export async function readSqlSettings(
  sql: SqlConnection,
  names: readonly string[],
  settings: Map<string, string>,
  signal: AbortSignal,
): Promise<void> {
  const list = names.map((name) => `'${name}'`).join(', ')
  const rows = sql.stream(`select name, current_setting(name) from pg_settings where name in (${list})`, signal)
  for await (const [name, value] of rows) if (name !== undefined && value !== undefined) settings.set(name, value)
}

const roleQuery = `select r.rolsuper, r.rolreplication, r.rolconnlimit,
  case when isfinite(r.rolvaliduntil) then extract(epoch from r.rolvaliduntil) end,
  pg_has_role(current_user, 'pg_monitor', 'usage'),
  (select count(*) from pg_stat_replication), (select count(*) from pg_replication_slots)
  from pg_roles r where r.rolname = current_user`

/**
 * Reads them all.
 * @throws what the connection says; WALRX_PROTOCOL for a server that does not know our own role
 */
export async function readSqlFacts(
  sql: SqlConnection,
  slot: string | undefined,
  signal: AbortSignal,
): Promise<SqlFacts> {
  const role = await firstRow(sql, roleQuery, signal)
  if (!role) throw new WalrxError('WALRX_PROTOCOL', 'the server does not list the role that is logged in')
  const [isSuper, mayReplicate, limit, validUntil, seesAll, walsenders, slots] = role
  return {
    isSuperuser: isSuper === 't',
    mayReplicate: mayReplicate === 't',
    seesEverything: seesAll === 't',
    connectionLimit: Number(limit ?? -1),
    validUntilMs: validUntil === undefined ? undefined : Number(validUntil) * 1000,
    walsenders: Number(walsenders ?? 0),
    slots: Number(slots ?? 0),
    ...(await readClock(sql, signal)),
    slot: slot === undefined ? undefined : await sql.readSlotHealth(slot),
    slotUser: slot === undefined ? undefined : await readSlotUser(sql, slot, signal),
    archiver: await readArchiver(sql, signal),
  }
}

async function firstRow(sql: SqlConnection, query: string, signal: AbortSignal): Promise<TextRow | undefined> {
  let first: TextRow | undefined
  for await (const row of sql.stream(query, signal)) first ??= row
  return first
}

/** The difference of the clocks, from the shortest of three ways there and back. */
async function readClock(
  sql: SqlConnection,
  signal: AbortSignal,
): Promise<{ clockAheadMs: number; clockErrorMs: number }> {
  let best = { clockAheadMs: 0, clockErrorMs: Infinity }
  for (let trial = 0; trial < 3; trial++) {
    const before = Date.now()
    const [now] = (await firstRow(sql, 'select extract(epoch from clock_timestamp()) * 1000', signal)) ?? []
    const after = Date.now()
    const clockErrorMs = (after - before) / 2
    if (clockErrorMs < best.clockErrorMs) best = { clockAheadMs: Number(now) - (before + after) / 2, clockErrorMs }
  }
  return best
}

async function readSlotUser(sql: SqlConnection, slot: string, signal: AbortSignal): Promise<SlotUser | undefined> {
  const row = await firstRow(
    sql,
    `select s.active_pid, r.application_name, r.usename, coalesce(host(r.client_addr), case when r.client_port = -1 then 'a unix socket' end)
     from pg_replication_slots s left join pg_stat_replication r on r.pid = s.active_pid
     where s.slot_name = '${slot}' and s.active`,
    signal,
  )
  if (!row) return undefined
  const [pid, applicationName, role, address] = row
  return { pid: Number(pid ?? 0), applicationName, role, address }
}

async function readArchiver(sql: SqlConnection, signal: AbortSignal): Promise<ArchiverFacts | undefined> {
  try {
    const row = await firstRow(
      sql,
      `select failed_count, last_failed_wal, last_failed_time > coalesce(last_archived_time, '-infinity') from pg_stat_archiver`,
      signal,
    )
    const [failed, lastFailedWal, isFailing] = row ?? []
    return row && { failed: Number(failed ?? 0), lastFailedWal, isFailing: isFailing === 't' }
  } catch (error) {
    if (error instanceof ServerError) return undefined
    throw error
  }
}
