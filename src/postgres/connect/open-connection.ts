/** Opens one connection to one address, encrypted according to sslmode, and logs in. */
import type { Logger } from '../../observe/log.ts'
import type { Clock } from '../../primitives/clock.ts'
import { hasCode, WalrxError } from '../../primitives/errors.ts'
import { combineFailures, connectError } from '../protocol/connect-error.ts'
import { ServerError } from '../protocol/server-error.ts'
import { openTransport, TlsError } from '../protocol/transport.ts'
import { Wire } from '../protocol/wire.ts'
import type { Conninfo, SslMode } from './conninfo.ts'
import { logIn } from './login.ts'
import { refusesOptions, sessionOptions } from './own-timeouts.ts'
import { passwordFileLine, passwordFromFile, type PasswordKey } from './pgpass.ts'
import type { Target } from './target.ts'
import { prepareTls } from './tls.ts'

/** The settings that all connections of a server share. */
export interface ConnectionSettings {
  readonly conninfo: Conninfo
  readonly log: Logger
  readonly clock: Clock
  /** For each address, including the login; 0 waits forever. */
  readonly connectTimeoutMs: number
  /** After this time without an answer to a command the connection is dead. */
  readonly commandTimeoutMs: number
  /** Silence before the first TCP keepalive; 0 sends none. */
  readonly keepAliveIdleMs: number
}

/** A logged-in connection. */
export interface OpenConnection {
  readonly wire: Wire
  readonly backendPid: number
}

/**
 * Connects to `target` and logs in.
 * @param database undefined for a replication connection
 * @throws WalrxError that names the target; the signal's reason when it aborts
 */
export async function openConnection(
  target: Target,
  database: string | undefined,
  settings: ConnectionSettings,
  signal: AbortSignal,
): Promise<OpenConnection> {
  const failures: WalrxError[] = []
  const plan = encryptionPlan('path' in target.address, settings.conninfo.tls.mode)
  for (const [index, useTls] of plan.entries()) {
    try {
      return await openWithoutTimeouts(target, database, useTls, settings, signal)
    } catch (error) {
      signal.throwIfAborted()
      const failure = connectError(error, target.label, settings.conninfo.tls.mode)
      const triesAgain = index + 1 < plan.length && mayTryOtherEncryption(failure)
      // A server without TLS is not a failure while sslmode allows a plain connection.
      if (!(triesAgain && failure.cause instanceof TlsError && failure.cause.isUnavailable)) failures.push(failure)
      if (!triesAgain) break
    }
  }
  throw combineFailures(failures, 'neither with TLS nor without it')
}

/** The order in which TLS (true) and plain (false) are tried. Unix sockets are never encrypted, with any sslmode. */
function encryptionPlan(isUnixSocket: boolean, mode: SslMode): boolean[] {
  if (isUnixSocket || mode === 'disable') return [false]
  if (mode === 'allow') return [false, true]
  if (mode === 'prefer') return [true, false]
  return [true]
}

/**
 * libpq tries the other way when TLS failed or the server refused the login, because pg_hba.conf may distinguish the
 * two; it does not when the address did not answer.
 */
function mayTryOtherEncryption(failure: WalrxError): boolean {
  return failure instanceof ServerError || hasCode(failure, 'WALRX_TLS_FAILED')
}

async function openWithoutTimeouts(
  target: Target,
  database: string | undefined,
  useTls: boolean,
  settings: ConnectionSettings,
  signal: AbortSignal,
): Promise<OpenConnection> {
  const { options } = settings.conninfo
  try {
    const own = { ...settings, conninfo: { ...settings.conninfo, options: sessionOptions(options) } }
    return await openOnce(target, database, useTls, own, signal)
  } catch (error) {
    signal.throwIfAborted()
    if (!refusesOptions(error)) throw error
    settings.log.debug('timeouts of the server stay on: the options of the session were refused', { error })
    return await openOnce(target, database, useTls, settings, signal)
  }
}

async function openOnce(
  target: Target,
  database: string | undefined,
  useTls: boolean,
  settings: ConnectionSettings,
  signal: AbortSignal,
): Promise<OpenConnection> {
  signal.throwIfAborted()
  const { clock, connectTimeoutMs, conninfo, log } = settings
  const deadline = new AbortController()
  const onAbort = () => deadline.abort(signal.reason)
  signal.addEventListener('abort', onAbort, { once: true })
  const onTimeout = () => deadline.abort(timeoutError(target.label, connectTimeoutMs))
  const timer = connectTimeoutMs > 0 ? clock.setTimer(connectTimeoutMs, onTimeout) : undefined
  try {
    const tls = useTls ? await prepareTls(conninfo, target.host.host, log) : undefined
    const transport = await openTransport({
      address: target.address,
      tls,
      keepAliveIdleMs: conninfo.keepAlive ? settings.keepAliveIdleMs : 0,
      signal: deadline.signal,
    })
    const wire = new Wire(transport, { host: target.label, clock, commandTimeoutMs: settings.commandTimeoutMs })
    const { backendPid } = await logIn(wire, {
      conninfo,
      database,
      ...passwordSource(target, database, settings),
      signal: deadline.signal,
    })
    return { wire, backendPid }
  } finally {
    timer?.cancel()
    signal.removeEventListener('abort', onAbort)
  }
}

function timeoutError(label: string, connectTimeoutMs: number): WalrxError {
  return new WalrxError('WALRX_CONNECT_FAILED', `${label} did not answer within ${connectTimeoutMs / 1000} s`, {
    hint: 'check the address, the routes and the firewalls on the way to the server; connect_timeout sets the time limit',
  })
}

/** The given password, else the one from the password file, read when the server asks. */
function passwordSource(
  target: Target,
  database: string | undefined,
  { conninfo, log }: ConnectionSettings,
): { password: () => Promise<string | undefined>; passwordHint: () => string } {
  const { passFile, password, user } = conninfo
  const { host, hostaddr, port } = target.host
  if (password !== undefined) {
    return {
      password: () => Promise.resolve(password),
      passwordHint: () => 'it came from PGPASSWORD, a service or the connection string',
    }
  }
  const key: PasswordKey = { host: host ?? hostaddr, port, database: database ?? 'replication', user }
  const inFile = passFile === undefined ? '' : `, or put the line ${passwordFileLine(key)} into ${passFile} (mode 0600)`
  let isFromFile = false
  return {
    async password() {
      const found = passFile === undefined ? undefined : await passwordFromFile(passFile, key, log)
      isFromFile = found !== undefined
      return found
    },
    passwordHint: () =>
      isFromFile
        ? `it came from ${passFile}, from the first line that matches ${passwordFileLine(key)}`
        : `set PGPASSWORD${inFile}`,
  }
}
