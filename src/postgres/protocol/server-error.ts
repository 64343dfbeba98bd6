/**
 * Errors that a server answers with. What they mean to walrx is decided by SQLSTATE and the command, never by the
 * text: texts are translated and change between versions. The states were seen on PostgreSQL 14 to 18.
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

/** SQLSTATEs that the code of this room decides by. */
export const sqlstates = {
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

/** What a state means, whatever the command was. */
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

/** Meaning and remedy of a state that depends on the command. */
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
    // It was there, or was made, a moment ago: the next connection makes it again.
    [sqlstates.undefinedObject]: { code: 'WALRX_SLOT_UNUSABLE', transient: true },
    [sqlstates.objectInUse]: {
      code: 'WALRX_SLOT_ACTIVE',
      hint: 'another receiver uses the slot, or a dead one still does until wal_sender_timeout',
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
 * @param host how the connection is named in messages
 * @param command the command that was answered, as its first word (`START_REPLICATION`); undefined when the server spoke
 * unasked, as it does before it ends an idle connection
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

/** Who tried to log in from where: what pg_hba.conf decides by. */
export interface LoginAttempt {
  readonly host: string
  readonly user: string
  /** `replication`, or the database of an ordinary connection. */
  readonly database: string
  /** Our address; undefined on a unix socket. */
  readonly clientAddress: string | undefined
  readonly encrypted: boolean
  /** Where the password came from, or would have to be. */
  readonly passwordHint: string
}

/** An ErrorResponse to a login, with the remedy. */
export function loginError(fields: ErrorFields, attempt: LoginAttempt): ServerError {
  const state = fields['C'] ?? ''
  // A server that begins to shut down ends a login with 57P01; it is not a broken connection.
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

/** The line of pg_hba.conf that would let this login in by password. */
function hbaLine(attempt: LoginAttempt): string {
  const { clientAddress, database, encrypted, user } = attempt
  if (clientAddress === undefined) return `local ${database} ${user} peer`
  const address = clientAddress.replace(/^::ffff:/, '')
  return `${encrypted ? 'hostssl' : 'host'} ${database} ${user} ${address}/${address.includes(':') ? 128 : 32} scram-sha-256`
}

function wording(fields: ErrorFields): string {
  const detail = fields['D'] === undefined ? '' : `; ${fields['D'].replace(/\.$/, '')}`
  return `${fields['M'] ?? 'no message'}${detail} (SQLSTATE ${fields['C'] ?? 'missing'})`
}
