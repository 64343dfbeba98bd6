/**
 * Translates a server's errors. SQLSTATE and the command decide what an error means to walrx, never the text: texts are
 * translated and change between versions. The SQLSTATEs were observed on PostgreSQL 14 to 18.
 */
import { type ErrorCode, WalrxError, type WalrxErrorOptions } from '../../primitives/errors.ts'

/** An ErrorResponse. `message` names the host and repeats the server's own words. */
export class ServerError extends WalrxError {
  /** Five characters, see errcodes.txt. */
  readonly sqlstate: string
  /** The server's DETAIL, where it sent one. */
  readonly detail: string | undefined

  constructor(code: ErrorCode, message: string, fields: ErrorFields, options: WalrxErrorOptions) {
    super(code, message, options)
    this.name = 'ServerError'
    this.sqlstate = fields['C'] ?? ''
    this.detail = fields['D']
  }
}

/** Fields of an ErrorResponse by their one-letter code: C SQLSTATE, M message, D detail, H hint … */
export type ErrorFields = Readonly<Record<string, string>>

/** SQLSTATEs that this room handles. */
export const sqlstates = {
  protocolViolation: '08P01',
  featureNotSupported: '0A000',
  invalidAuthorization: '28000',
  invalidPassword: '28P01',
  undefinedDatabase: '3D000',
  duplicateObject: '42710',
  undefinedObject: '42704',
  insufficientPrivilege: '42501',
  tooManyConnections: '53300',
  configurationLimitExceeded: '53400',
  notInPrerequisiteState: '55000',
  objectInUse: '55006',
  adminShutdown: '57P01',
  crashShutdown: '57P02',
  cannotConnectNow: '57P03',
  idleSessionTimeout: '57P05',
  undefinedFile: '58P01',
} as const

/** The meaning of a SQLSTATE for any command. */
const meanings: Readonly<Record<string, ErrorCode>> = {
  [sqlstates.invalidAuthorization]: 'WALRX_AUTH_FAILED',
  [sqlstates.invalidPassword]: 'WALRX_AUTH_FAILED',
  [sqlstates.insufficientPrivilege]: 'WALRX_NO_PRIVILEGE',
  [sqlstates.tooManyConnections]: 'WALRX_NO_WALSENDER',
  [sqlstates.objectInUse]: 'WALRX_SLOT_ACTIVE',
  [sqlstates.cannotConnectNow]: 'WALRX_SERVER_STARTING',
  [sqlstates.adminShutdown]: 'WALRX_CONNECTION_LOST',
  [sqlstates.crashShutdown]: 'WALRX_CONNECTION_LOST',
  [sqlstates.idleSessionTimeout]: 'WALRX_CONNECTION_LOST',
}

/** Meaning and remedy of a SQLSTATE that depend on the command. */
interface Reading extends WalrxErrorOptions {
  readonly code: ErrorCode
}

const slotRemedy =
  'drop the slot and let walrx create it again: WAL from its old position on may be missing from the archive, so take ' +
  'a new base backup'

const byCommand: Readonly<Record<string, Readonly<Record<string, Reading>>>> = {
  START_REPLICATION: {
    [sqlstates.undefinedFile]: { code: 'WALRX_WAL_REMOVED' },
    [sqlstates.notInPrerequisiteState]: { code: 'WALRX_SLOT_INVALIDATED', hint: slotRemedy },
    // It existed a moment ago: the next connection creates it again.
    [sqlstates.undefinedObject]: { code: 'WALRX_SLOT_UNUSABLE', transient: true },
    [sqlstates.objectInUse]: {
      code: 'WALRX_SLOT_ACTIVE',
      hint: 'another receiver uses the slot, or a dead connection holds it until wal_sender_timeout: stop it, or wait',
    },
  },
  CREATE_REPLICATION_SLOT: {
    [sqlstates.configurationLimitExceeded]: {
      code: 'WALRX_SLOT_UNUSABLE',
      transient: true,
      hint: 'drop a slot that nobody needs, or raise max_replication_slots and restart the server',
    },
    [sqlstates.notInPrerequisiteState]: {
      code: 'WALRX_SLOT_UNUSABLE',
      hint: 'set wal_level = replica and max_replication_slots above 0, and restart the server',
    },
  },
}

/**
 * An ErrorResponse as a WalrxError.
 * @param host the connection's name in messages
 * @param command the first word of the command (`START_REPLICATION`); undefined for an error without a command, which
 * the server sends before it ends an idle connection
 */
export function serverErrorFromFields(fields: ErrorFields, host: string, command: string | undefined): ServerError {
  const state = fields['C'] ?? ''
  const reading: Reading = byCommand[command ?? '']?.[state] ?? { code: generalMeaning(state) }
  const { code, ...options } = reading
  const did = command === undefined ? 'ended the connection' : `answered ${command}`
  return new ServerError(code, `${host} ${did} with: ${wording(fields)}`, fields, {
    ...(fields['H'] !== undefined && { hint: fields['H'] }),
    ...options,
  })
}

function generalMeaning(state: string): ErrorCode {
  // Class 08 is "connection exception".
  return meanings[state] ?? (state.startsWith('08') ? 'WALRX_CONNECTION_LOST' : 'WALRX_SERVER_ERROR')
}

/** A login attempt: the values that pg_hba.conf matches. */
export interface LoginAttempt {
  readonly host: string
  readonly user: string
  /** `replication`, or the database of an ordinary connection. */
  readonly database: string
  /** The client's address; undefined on a Unix socket. */
  readonly clientAddress: string | undefined
  readonly encrypted: boolean
  /** Where the password came from, or where to put it. */
  readonly passwordHint: string
}

/** An ErrorResponse to a login, with the remedy. */
export function loginError(fields: ErrorFields, attempt: LoginAttempt): ServerError {
  const state = fields['C'] ?? ''
  // A server that is shutting down ends a login with 57P01; that is not a broken connection.
  const code = state === sqlstates.adminShutdown ? 'WALRX_SERVER_STARTING' : generalMeaning(state)
  const hint = loginHint(state, attempt) ?? fields['H']
  const how = attempt.clientAddress === undefined ? '' : attempt.encrypted ? ' (with TLS)' : ' (without TLS)'
  return new ServerError(code, `${attempt.host} refused the login${how}: ${wording(fields)}`, fields, {
    ...(hint !== undefined && { hint }),
  })
}

function loginHint(state: string, attempt: LoginAttempt): string | undefined {
  const { user } = attempt
  switch (state) {
    case sqlstates.invalidPassword:
      return `check the password of role "${user}": ${attempt.passwordHint}`
    case sqlstates.invalidAuthorization:
      return `the role needs LOGIN${attempt.database === 'replication' ? ' and REPLICATION' : ''}, and pg_hba.conf a line such as: ${hbaLine(attempt)}`
    case sqlstates.insufficientPrivilege:
      return `let a superuser run: ALTER ROLE "${user}" REPLICATION`
    case sqlstates.tooManyConnections:
      return (
        'raise max_wal_senders (it is 0 where wal_level is minimal), max_connections or the connection limit of the ' +
        'role, or end a connection that nobody needs'
      )
    default:
      return undefined
  }
}

/**
 * A database or a role as a word of pg_hba.conf: in double quotes where it has more than letters, digits and underscores, or is
 * the keyword `all`. `replication` stays as it is: it stands for our replication connections.
 */
export function hbaName(name: string): string {
  return /^\w+$/.test(name) && name !== 'all' ? name : `"${name.replaceAll('"', '""')}"`
}

/** The line of pg_hba.conf that would allow this login with a password. */
function hbaLine(attempt: LoginAttempt): string {
  const { clientAddress, database, encrypted, user } = attempt
  const names = `${hbaName(database)} ${hbaName(user)}`
  if (clientAddress === undefined) return `local ${names} peer`
  const address = clientAddress.replace(/^::ffff:/, '')
  return `${encrypted ? 'hostssl' : 'host'} ${names} ${address}/${address.includes(':') ? 128 : 32} scram-sha-256`
}

function wording(fields: ErrorFields): string {
  const detail = fields['D'] === undefined ? '' : `; ${fields['D'].replace(/\.$/, '')}`
  return `${fields['M'] ?? 'no message'}${detail} (SQLSTATE ${fields['C'] ?? 'missing'})`
}
