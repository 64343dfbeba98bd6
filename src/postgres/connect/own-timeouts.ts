/**
 * Timeouts that a server sets for all its sessions, and that walrx turns off in its own: they are meant for
 * applications. A walsender is idle, for example, while a slow storage lists the archive before the stream begins. What
 * walrx itself waits for has limits of its own.
 */
import { ServerError, sqlstates } from '../protocol/server-error.ts'

/** Those that every supported version has: an unknown one in the startup message would end the login. */
const startupTimeouts = [
  'idle_session_timeout',
  'statement_timeout',
  'idle_in_transaction_session_timeout',
  'lock_timeout',
] as const

/**
 * Command-line options for the session. A walsender for physical replication takes them no other way: it has no SET.
 * They outrank the settings of the server, the database and the role.
 * @param options those of the connection string, which outrank these
 */
export function sessionOptions(options: string | undefined): string {
  const own = startupTimeouts.map((name) => `-c ${name}=0`).join(' ')
  return options === undefined ? own : `${own} ${options}`
}

/**
 * True when something on the way refused the options themselves, as a connection pooler does that does not know them
 * (PgBouncer: "unsupported startup parameter"). PostgreSQL has no such errors at a login where the options are right.
 */
export function refusesOptions(error: unknown): boolean {
  const refusals: readonly string[] = [
    sqlstates.protocolViolation,
    sqlstates.undefinedObject,
    sqlstates.featureNotSupported,
  ]
  return error instanceof ServerError && refusals.includes(error.sqlstate)
}

/**
 * A query that turns them off in an ordinary session, also those that only newer versions have (transaction_timeout
 * since 17), and also where the options were refused.
 */
export const turnOffTimeouts = `select pg_catalog.set_config(name, '0', false) from pg_catalog.pg_settings
  where name in (${[...startupTimeouts, 'transaction_timeout'].map((name) => `'${name}'`).join(', ')})
  and source <> 'client' and setting <> '0'`
