/**
 * An ordinary connection in addition to the replication connection. walrx works without one; where pg_hba.conf allows
 * it, it reports more about the slot's health than a walsender.
 */
import { isAbort, type WalrxError } from '../../primitives/errors.ts'
import { orAborted } from '../../primitives/wait.ts'
import { connectError } from '../protocol/connect-error.ts'
import type { Row } from '../protocol/frames.ts'
import { type Lsn, parseLsn } from '../lsn.ts'
import type { SlotReading } from '../protocol/session.ts'
import type { SummarizerState, WalSummary } from '../wal/wal-summaries.ts'
import type { Wire } from '../protocol/wire.ts'
import { type ConnectionSettings, openConnection } from './open-connection.ts'
import { turnOffTimeouts } from './own-timeouts.ts'
import { parseServerVersion, refuseSlotName } from './pg-session.ts'
import type { Target } from './target.ts'

/** The connection, or the reason why there is none. */
export type SqlOpening =
  | { readonly sql: SqlConnection; readonly reason?: undefined }
  | { readonly sql?: undefined; readonly reason: WalrxError }

/** A slot, from pg_replication_slots. */
export interface SlotHealth {
  readonly kind: 'physical' | 'logical'
  /** True while a walsender uses it. */
  readonly isActive: boolean
  readonly activePid: number | undefined
  readonly restartLsn: Lsn | undefined
  /** `reserved`, `extended`, `unreserved` or `lost`; undefined when it holds no WAL. */
  readonly walStatus: string | undefined
  /** Bytes of WAL that can be written before the slot may be lost; undefined without max_slot_wal_keep_size. */
  readonly safeWalBytes: bigint | undefined
  /** As the server writes it, with its time zone; undefined before 17 and while it is used. */
  readonly inactiveSince: string | undefined
  /** `wal_removed`, `idle_timeout` …; undefined before 17 and while it is valid. */
  readonly invalidationReason: string | undefined
  /** The server's end of WAL when it answered: the flush position, on a standby the received or replayed position. */
  readonly serverEnd: Lsn | undefined
  /**
   * idle_replication_slot_timeout in seconds: how long the slot stays valid without walrx. Undefined before 18, and
   * where it is off.
   */
  readonly idleTimeoutSeconds: number | undefined
}

/**
 * Opens an ordinary connection to a host, to the database of the connection string, else `postgres`. A refusal is a
 * result, not an error.
 * @throws only the signal's reason
 */
export async function tryOpenSql(
  target: Target,
  settings: ConnectionSettings,
  signal: AbortSignal = new AbortController().signal,
): Promise<SqlOpening> {
  try {
    const database = settings.conninfo.database ?? 'postgres'
    const { wire } = await openConnection(target, database, settings, signal)
    try {
      await orAborted(wire.query(turnOffTimeouts, 'SELECT'), signal)
    } catch (error) {
      wire.transport.destroy()
      throw error
    }
    return { sql: new SqlConnection(wire) }
  } catch (error) {
    if (isAbort(error) || signal.aborted) throw error
    return { reason: connectError(error, target.label, settings.conninfo.tls.mode) }
  }
}

/** Reads a slot and closes the connection. */
export async function readSlotBySql(sql: SqlConnection, slot: string): Promise<SlotReading> {
  try {
    const health = await sql.readSlotHealth(slot)
    if (!health) return { kind: 'missing' }
    if (health.kind === 'logical') return { kind: 'logical' }
    const restartLsn = health.walStatus === 'lost' ? undefined : health.restartLsn
    return { kind: 'physical', restartLsn, restartTimeline: undefined }
  } finally {
    await sql.close()
  }
}

const serverEnd = `case when pg_catalog.pg_is_in_recovery()
  then coalesce(pg_catalog.pg_last_wal_receive_lsn(), pg_catalog.pg_last_wal_replay_lsn())
  else pg_catalog.pg_current_wal_flush_lsn() end`

/** In seconds, the unit of 18; its betas used minutes. */
const idleTimeout = `(select setting::bigint * case unit when 'min' then 60 else 1 end
  from pg_catalog.pg_settings where name = 'idle_replication_slot_timeout')`

/** A row of {@link SqlConnection.stream}: undefined for NULL. */
export type TextRow = readonly (string | undefined)[]

/** Rows of one fetch: some hundred kilobytes. */
const fetchRows = 2_000

/** How long the server may work until the next rows come: it may have to read gigabytes of its own files. */
const fetchTimeoutMs = 15 * 60_000

/** An open ordinary connection. */
export class SqlConnection {
  readonly #wire: Wire
  readonly #serverVersion: number

  constructor(wire: Wire) {
    this.#wire = wire
    this.#serverVersion = parseServerVersion(wire.parameters.get('server_version') ?? '')
  }

  /** server_version_num. */
  get serverVersion(): number {
    return this.#serverVersion
  }

  /** True once the connection is unusable: open another one. */
  get isBroken(): boolean {
    return this.#wire.failure !== undefined
  }

  /**
   * Reads one slot; undefined when it does not exist.
   * @throws ServerError, WALRX_CONNECTION_LOST
   */
  async readSlotHealth(slot: string): Promise<SlotHealth | undefined> {
    refuseSlotName(slot)
    const since17 = this.#serverVersion >= 170_000 ? 'inactive_since::text, invalidation_reason' : 'null, null'
    const [row] = await this.#wire.query(
      `select slot_type, active, active_pid, restart_lsn, wal_status, safe_wal_size, ${serverEnd}, ${idleTimeout},
       ${since17} from pg_catalog.pg_replication_slots where slot_name = '${slot}'`,
      'SELECT',
    )
    if (!row) return undefined
    const columns = row.map((column) => column?.toString('utf8'))
    const [kind, active, pid, restartLsn, walStatus, safeBytes, end, idleTimeoutText, inactiveSince, reason] = columns
    const idleTimeoutSeconds = Number(idleTimeoutText ?? 0)
    return {
      kind: kind === 'logical' ? 'logical' : 'physical',
      isActive: active === 't',
      activePid: pid === undefined ? undefined : Number(pid),
      restartLsn: restartLsn === undefined ? undefined : parseLsn(restartLsn),
      walStatus,
      safeWalBytes: safeBytes === undefined ? undefined : BigInt(safeBytes),
      inactiveSince,
      invalidationReason: reason,
      serverEnd: end === undefined ? undefined : parseLsn(end),
      idleTimeoutSeconds: idleTimeoutSeconds > 0 ? idleTimeoutSeconds : undefined,
    }
  }

  /**
   * sync_state of a walsender: `async`, `potential`, `sync` or `quorum`. Undefined when no walsender has this process
   * id, or when the role may not see it (that needs pg_monitor, even for the role's own walsender).
   */
  async readSyncState(backendPid: number): Promise<string | undefined> {
    const [row] = await this.#wire.query(
      `select sync_state from pg_catalog.pg_stat_replication where pid = ${Math.trunc(backendPid)}`,
      'SELECT',
    )
    return row?.[0]?.toString('utf8')
  }

  /** The WAL summaries of the server (17 and later), in no order. */
  async readWalSummaries(): Promise<WalSummary[]> {
    const rows = await this.#wire.query(
      'select tli, start_lsn, end_lsn from pg_catalog.pg_available_wal_summaries()',
      'SELECT',
    )
    return rows.map((row) => {
      const [timeline, start, end] = row.map((column) => column?.toString('latin1') ?? '')
      return { timeline: Number(timeline), startLsn: parseLsn(start ?? ''), endLsn: parseLsn(end ?? '') }
    })
  }

  /** The position of the WAL summarizer (17 and later). */
  async readSummarizer(): Promise<SummarizerState> {
    const [row] = await this.#wire.query(
      `select summarized_tli, summarized_lsn, summarizer_pid, ${serverEnd} from pg_catalog.pg_get_wal_summarizer_state()`,
      'SELECT',
    )
    const [timeline, lsn, pid, end] = (row ?? []).map((column) => column?.toString('latin1'))
    return {
      timeline: Number(timeline ?? 0),
      summarizedLsn: parseLsn(lsn ?? '0/0'),
      pid: pid === undefined ? undefined : Number(pid),
      serverEnd: end === undefined ? undefined : parseLsn(end),
    }
  }

  /**
   * The rows of a query as text, some at a time: neither side ever holds them all. Run one query at a time, and no
   * other command until the last row is taken or the loop is left.
   * @param text a `select` in which names need no schema: the search_path is pg_catalog
   * @throws ServerError, also for a query that takes too long; WALRX_CONNECTION_LOST; the signal's reason
   */
  async *stream(text: string, signal: AbortSignal): AsyncGenerator<TextRow, undefined> {
    // A server that works on a query does not notice by itself that the client has gone.
    const statements = [
      'begin isolation level repeatable read, read only',
      'set local search_path = pg_catalog',
      `set local client_encoding = 'UTF8'`,
      `set local statement_timeout = ${fetchTimeoutMs - 5_000}`,
      `set local client_connection_check_interval = '5s'`,
      `declare walrx_rows no scroll cursor for ${text}`,
    ]
    const run = (statement: string, name: string): Promise<Row[]> =>
      orAborted(this.#wire.query(statement, name, fetchTimeoutMs), signal)
    try {
      for (const statement of statements) await run(statement, 'SELECT')
      for (;;) {
        const rows = await run(`fetch forward ${fetchRows} from walrx_rows`, 'SELECT')
        for (const row of rows) yield row.map((column) => column?.toString('utf8'))
        if (rows.length < fetchRows) return
      }
    } finally {
      if (signal.aborted) this.#wire.transport.destroy()
      else if (!this.isBroken) await this.#wire.query('rollback', 'SELECT')
    }
  }

  /** Closes the connection. May be called twice. */
  async close(): Promise<void> {
    await this.#wire.close()
  }
}
