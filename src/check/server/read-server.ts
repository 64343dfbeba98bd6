/** Asks the server for all facts: over a replication connection, and beside it over an ordinary one, whichever is allowed. */
import { stat, statfs } from 'node:fs/promises'
import type { Logger } from '../../observe/log.ts'
import { PgServer } from '../../postgres/connect/connection.ts'
import type { Conninfo } from '../../postgres/connect/conninfo.ts'
import type { PgSession } from '../../postgres/connect/pg-session.ts'
import type { SqlConnection } from '../../postgres/connect/sql-connection.ts'
import { hostLabel } from '../../postgres/connect/target.ts'
import type { Clock } from '../../primitives/clock.ts'
import { hasCode, WalrxError } from '../../primitives/errors.ts'
import { attempt, type Attempt, type AttemptOptions, ifSoon, type Lateness } from '../attempt.ts'
import type { CheckWish } from '../check-wish.ts'
import type { HostFacts, ServerDisk, ServerFacts, SessionFacts, SqlFacts } from './server-facts.ts'
import { readSqlFacts, readSqlSettings } from './sql-facts.ts'

/** Settings that are looked at. One that a version does not have is left out. */
export const shownSettings = [
  ...['wal_level', 'max_wal_senders', 'max_replication_slots', 'wal_sender_timeout', 'wal_segment_size'],
  ...['max_slot_wal_keep_size', 'wal_keep_size', 'idle_replication_slot_timeout', 'min_wal_size', 'max_wal_size'],
  ...['summarize_wal', 'wal_summary_keep_time', 'full_page_writes', 'fsync', 'data_checksums'],
  ...['synchronous_standby_names', 'synchronous_commit'],
  ...['archive_mode', 'archive_command', 'archive_library'],
  ...['statement_timeout', 'idle_session_timeout', 'transaction_timeout', 'data_directory', 'hba_file'],
] as const

/** Those that are not of the session that reads them. */
const sharedSettings = shownSettings.filter((name) => !/^(statement|idle_session|transaction)_timeout$/.test(name))

/** How the server is asked. */
export interface ReadServerOptions extends AttemptOptions {
  readonly log: Logger
}

/** See the file's header. Throws only the signal's reason. */
export async function readServer(wish: CheckWish, options: ReadServerOptions): Promise<ServerFacts> {
  const { conninfo } = wish
  const server = new PgServer({ ...serverOptions(conninfo, options), acceptStandby: wish.allowStandby })
  const settings = new Map<string, string>()
  const hosts =
    conninfo.hosts.length > 1 ? await Promise.all(conninfo.hosts.map((host) => lookAt(host, wish, options))) : []
  let session: PgSession | undefined
  try {
    const opened = await attempt(options, lateness('the server', 'a login'), async (signal) => {
      const made = await server.connect(signal)
      // One that comes after its time is nobody's.
      if (signal.aborted) await made.close()
      return made
    })
    session = opened.value
    const facts = opened.error
      ? opened
      : await attempt(options, lateness(opened.value.host, 'a question'), () =>
          readSession(opened.value, wish, settings),
        )
    const sql = await attempt(options, lateness('the server', 'an ordinary connection'), (signal) =>
      readBySql(server, session, { wish, settings, signal }),
    )
    return { hosts, session: facts, sql, settings, disk: await diskOf(facts, settings, options.clock) }
  } finally {
    const open = session
    if (open) await attempt({ ...options, stepMs: 2_000 }, lateness(open.host, 'a goodbye'), () => open.close())
  }
}

function serverOptions(conninfo: Conninfo, { clock, log, stepMs }: ReadServerOptions) {
  return { conninfo, log, clock, connectTimeoutMs: Math.min(10_000, stepMs), commandTimeoutMs: stepMs }
}

function lateness(who: string, what: string): Lateness {
  const hint =
    'the server may be overloaded or stopped, or a firewall drops what is sent: connect with psql from this machine'
  return { code: 'WALRX_CONNECT_FAILED', what: `${who}, asked for ${what},`, hint }
}

/** One host of several: what it is, or why it does not answer. */
async function lookAt(
  host: Conninfo['hosts'][number],
  { conninfo }: CheckWish,
  options: ReadServerOptions,
): Promise<HostFacts> {
  const label = hostLabel(host)
  const alone = new PgServer({ ...serverOptions({ ...conninfo, hosts: [host] }, options), anyHost: true })
  const answer = await attempt(options, lateness(label, 'a login'), async (signal) => {
    const session = await alone.connect(signal)
    const state = session.inRecovery ? ('standby' as const) : ('primary' as const)
    await session.close()
    return state
  })
  return { label, state: answer.value, failure: answer.error }
}

async function readSession(session: PgSession, wish: CheckWish, settings: Map<string, string>): Promise<SessionFacts> {
  for (const name of shownSettings) {
    const value = await showOrNothing(session, name)
    if (value !== undefined) settings.set(name, value)
  }
  const { systemId, timeline } = await session.identifySystem()
  return {
    host: session.host,
    version: session.serverVersion,
    inRecovery: session.inRecovery,
    isEncrypted: session.isEncrypted,
    isLocal: isLocal(session.host),
    systemId,
    timeline,
    slot: wish.slot === undefined ? undefined : await session.readSlot(wish.slot),
  }
}

async function showOrNothing(session: PgSession, name: string): Promise<string | undefined> {
  try {
    return await session.show(name)
  } catch (error) {
    // Hidden from the role, or unknown to the version.
    if (hasCode(error, 'WALRX_NO_PRIVILEGE') || hasCode(error, 'WALRX_SERVER_ERROR')) return undefined
    throw error
  }
}

/** A unix socket, or the loopback. */
function isLocal(host: string): boolean {
  return /^(\/|@|localhost:|127\.|\[::1\])/.test(host)
}

/** Over the same host as the session, where there is one. */
async function readBySql(
  server: PgServer,
  session: PgSession | undefined,
  {
    settings,
    signal,
    wish,
  }: { readonly wish: CheckWish; readonly settings: Map<string, string>; readonly signal: AbortSignal },
): Promise<SqlFacts> {
  const opening = session ? await server.trySql(session, signal) : await server.openSql(signal)
  if (!opening.sql) throw opening.reason
  const { sql } = opening
  try {
    if (settings.size === 0) await readSqlSettings(sql, sharedSettings, settings, signal)
    return await readSqlFacts(sql, wish.slot, signal)
  } finally {
    await closeQuietly(sql)
  }
}

async function closeQuietly(sql: SqlConnection): Promise<void> {
  try {
    await sql.close()
  } catch (error) {
    if (!(error instanceof WalrxError)) throw error
  }
}

/** The file system of the data directory, where the server is on this machine and the path leads to it. */
async function diskOf(
  session: Attempt<SessionFacts>,
  settings: ReadonlyMap<string, string>,
  clock: Clock,
): Promise<ServerDisk | undefined> {
  const directory = settings.get('data_directory')
  if (session.value?.isLocal !== true || directory === undefined) return undefined
  // A server's data directory is closed to others: they see only the file system that it lies on.
  for (const path of [`${directory}/pg_wal`, directory]) {
    const space = await ifSoon(statfs(path), clock)
    if (!space) continue
    const { dev } = (await ifSoon(stat(path), clock)) ?? {}
    return { path, freeBytes: space.bavail * space.bsize, totalBytes: space.blocks * space.bsize, device: dev }
  }
  return undefined
}
