/** Findings of the connections: whether they can be made, over what, and as which role. */
import { hbaName, ServerError, sqlstates } from '../../postgres/protocol/server-error.ts'
import type { WalrxError } from '../../primitives/errors.ts'
import type { CheckWish } from '../check-wish.ts'
import {
  failed,
  failure,
  type Finding,
  note,
  ok,
  setting,
  skipped,
  sql,
  type Step,
  warning,
  words,
} from '../finding.ts'
import { hbaLine, sqlName } from './remedies.ts'
import type { HostFacts, ServerFacts } from './server-facts.ts'

/** Findings from `server.hosts` to `server.privileges`. */
export function connectionFindings(facts: ServerFacts, wish: CheckWish, nowMs: number): Finding[] {
  return [
    hostsFinding(facts.hosts),
    connectionFinding(facts, wish),
    sqlFinding(facts, wish),
    ...sessionFindings(facts, wish),
    roleFinding(facts, wish, nowMs),
    privilegesFinding(facts, wish),
  ]
}

function hostsFinding(hosts: readonly HostFacts[]): Finding {
  if (hosts.length === 0) return skipped('server.hosts', 'one host is named')
  const states = hosts.map(
    ({ label, state }) => `${label} ${state === undefined ? 'does not answer' : `is a ${state}`}`,
  )
  const late = hosts.filter(({ failure: why }) => why !== undefined)
  if (late.length === 0) return ok('server.hosts', states.join(', '))
  const reasons = late.map(({ failure: why, label }) => `${label}: ${why?.message ?? ''}`)
  return warning(
    'server.hosts',
    `${states.join(', ')} (${reasons.join('; ')})`,
    ...late.flatMap((host) => hintOf(host.failure)),
  )
}

function hintOf(error: WalrxError | undefined): Step[] {
  return error?.hint === undefined ? [] : [words(error.hint)]
}

function connectionFinding(facts: ServerFacts, wish: CheckWish): Finding {
  const { error, value } = facts.session
  if (!error) {
    const host = value.host.startsWith('/') ? `the socket ${value.host}` : value.host
    return ok('server.connection', `role ${sqlName(wish.conninfo.user)} is logged in at ${host} for replication`)
  }
  const id = 'server.connection'
  const refusals = serverErrors(error)
  const has = (state: string) => refusals.some(({ sqlstate }) => sqlstate === state)
  if (has(sqlstates.insufficientPrivilege)) {
    return failed(id, error, sql(`ALTER ROLE ${sqlName(wish.conninfo.user)} WITH REPLICATION;`))
  }
  if (has(sqlstates.invalidAuthorization)) return failed(id, error, ...loginSteps(facts, wish, 'replication', error))
  if (has(sqlstates.tooManyConnections)) return failed(id, error, ...connectionLimitSteps(facts, wish))
  return failed(id, error)
}

/** Every refusal of a server in an error that may be made of several. */
function serverErrors(error: WalrxError): ServerError[] {
  if (error instanceof ServerError) return [error]
  const { cause } = error
  return cause instanceof AggregateError ? cause.errors.filter((each) => each instanceof ServerError) : []
}

/**
 * The server does not say by a SQLSTATE whether the role is missing, may not log in, or has no line in pg_hba.conf. An
 * ordinary connection that works leaves only the last.
 */
function loginSteps(facts: ServerFacts, { conninfo }: CheckWish, database: string, error: WalrxError): Step[] {
  const { user } = conninfo
  const name = sqlName(user)
  const text = `'${user.replaceAll("'", "''")}'`
  const line = hintedLine(error) ?? `host ${hbaName(database)} ${hbaName(user)} samenet scram-sha-256`
  const role = sql(
    `DO $$ BEGIN IF EXISTS (SELECT FROM pg_roles WHERE rolname = ${text}) THEN ALTER ROLE ${name} WITH LOGIN REPLICATION; ` +
      `ELSE CREATE ROLE ${name} WITH LOGIN REPLICATION; END IF; END $$;`,
  )
  const hasPassword = conninfo.password !== undefined
  const login = words(
    `give the role a password with \\password ${name} in psql, and walrx the same in PGPASSWORD or ~/.pgpass`,
  )
  return [...(facts.sql.value ? [] : [role]), ...hbaLine(line, facts.settings), ...(hasPassword ? [] : [login])]
}

/** The line of pg_hba.conf that the error's hint shows, with the address that we come from. */
function hintedLine({ hint }: WalrxError): string | undefined {
  return /a line such as: ((?:local|host|hostssl) .+)$/.exec(hint ?? '')?.[1]
}

function connectionLimitSteps({ settings, sql: { value } }: ServerFacts, { conninfo }: CheckWish): Step[] {
  if (value && value.connectionLimit >= 0 && value.connectionLimit < 3) {
    return [sql(`ALTER ROLE ${sqlName(conninfo.user)} CONNECTION LIMIT -1;`)]
  }
  const max = Number(settings.get('max_wal_senders') ?? NaN)
  if (Number.isNaN(max)) return []
  return [words(`max_wal_senders is ${max}: see server.max_wal_senders and server.wal_level`)]
}

function sqlFinding(facts: ServerFacts, wish: CheckWish): Finding {
  const { error } = facts.sql
  const database = wish.conninfo.database ?? 'postgres'
  if (!error) return ok('server.sql', `an ordinary connection to database ${sqlName(database)} works`)
  const text = `there is no ordinary connection, so the slot, the clock and other receivers are not seen: ${error.message}`
  const states = serverErrors(error).map(({ sqlstate }) => sqlstate)
  if (states.includes(sqlstates.insufficientPrivilege)) {
    return note(
      'server.sql',
      text,
      sql(`GRANT CONNECT ON DATABASE ${sqlName(database)} TO ${sqlName(wish.conninfo.user)};`),
    )
  }
  // Where the replication connection fails too, its finding has the remedy.
  if (!facts.session.value) return skipped('server.sql', error.message)
  if (states.includes(sqlstates.invalidAuthorization)) {
    return note(
      'server.sql',
      text,
      ...hbaLine(
        hintedLine(error) ?? `host ${hbaName(database)} ${hbaName(wish.conninfo.user)} samenet scram-sha-256`,
        facts.settings,
      ),
    )
  }
  if (states.includes(sqlstates.undefinedDatabase)) {
    return note('server.sql', text, words('set PGDATABASE to a database that exists, for instance postgres'))
  }
  return note('server.sql', text, ...hintOf(error))
}

function sessionFindings({ session: { error, value } }: ServerFacts, wish: CheckWish): Finding[] {
  if (error) {
    const reason = 'there is no replication connection'
    return [skipped('server.version', reason), skipped('server.standby', reason), skipped('server.tls', reason)]
  }
  const { host, inRecovery, isEncrypted, isLocal, version } = value
  const major = Math.floor(version / 10_000)
  const shown = `PostgreSQL ${major}.${version % 10_000}`
  const state = inRecovery ? 'a standby' : 'a primary'
  return [
    ok('server.version', `${host} is ${shown}`),
    inRecovery && !wish.allowStandby
      ? failure(
          'server.standby',
          3,
          `${host} is a standby, and must be a primary unless --allow-standby is given`,
          words('give the address of the primary, or:'),
          setting('--allow-standby'),
        )
      : ok('server.standby', `${host} is ${state}`),
    isEncrypted || isLocal
      ? ok('server.tls', isEncrypted ? 'the connection is encrypted' : 'the connection does not leave this machine')
      : note(
          'server.tls',
          `the connection to ${host} is not encrypted, and all data of the cluster goes over it`,
          words('set ssl = on on the server, and sslmode=verify-full with sslrootcert in the connection string'),
        ),
  ]
}

const dayMs = 86_400_000
/** A password that ends within this time is warned of. */
const validityMs = 14 * dayMs

function roleFinding({ sql: { value } }: ServerFacts, { conninfo }: CheckWish, nowMs: number): Finding {
  const id = 'server.role'
  if (!value) return skipped(id, 'it takes an ordinary connection')
  const name = sqlName(conninfo.user)
  const { connectionLimit, isSuperuser, mayReplicate, validUntilMs } = value
  if (!mayReplicate && !isSuperuser) {
    return failure(
      id,
      3,
      `role ${name} has no REPLICATION, and must have it`,
      sql(`ALTER ROLE ${name} WITH REPLICATION;`),
    )
  }
  if (validUntilMs !== undefined && validUntilMs - nowMs < validityMs) {
    const until = new Date(validUntilMs).toISOString()
    const text = `the password of role ${name} is valid until ${until}, less than ${validityMs / dayMs} days`
    return warning(id, text, sql(`ALTER ROLE ${name} VALID UNTIL 'infinity';`))
  }
  if (connectionLimit >= 0 && connectionLimit < 3) {
    const text = `role ${name} may have ${connectionLimit} connections, and needs 3: two for a receiver, one for a backup`
    return warning(id, text, sql(`ALTER ROLE ${name} CONNECTION LIMIT -1;`))
  }
  return ok(id, `role ${name} has REPLICATION${isSuperuser ? ', and is a superuser, which walrx does not need' : ''}`)
}

function privilegesFinding({ sql: { value } }: ServerFacts, { conninfo }: CheckWish): Finding {
  const id = 'server.privileges'
  if (!value) return skipped(id, 'it takes an ordinary connection')
  if (value.seesEverything) return ok(id, `role ${sqlName(conninfo.user)} has the privileges of pg_monitor`)
  const text = `role ${sqlName(conninfo.user)} is no member of pg_monitor: the data directory and who uses a slot stay hidden`
  return note(id, text, sql(`GRANT pg_monitor TO ${sqlName(conninfo.user)};`))
}
