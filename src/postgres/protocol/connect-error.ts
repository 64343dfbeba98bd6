/** Translates connection failures into messages with a remedy, and combines several failures into one. */
import { type ErrorCode, WalrxError, type WalrxErrorOptions } from '../../primitives/errors.ts'
import { TlsError } from './transport.ts'

interface Reading {
  readonly says: string
  readonly hint?: string
}

const unreachable: Reading = {
  says: 'is not reachable',
  hint: 'check the address, the routes and the firewalls on the way to the server',
}

/** By errno of the socket or of the name lookup. */
const readings: Readonly<Record<string, Reading>> = {
  ECONNREFUSED: {
    says: 'accepts no connections',
    hint: 'check that the server is running, and that host and port match its listen_addresses and port',
  },
  ENOENT: {
    says: 'does not exist',
    hint: 'check that the server is running, and that the directory is one of its unix_socket_directories',
  },
  EACCES: { says: 'may not be used by this user', hint: "check the socket's permissions (unix_socket_permissions)" },
  EPERM: { says: 'may not be used by this user' },
  ENOTFOUND: { says: 'has an unknown host name', hint: 'check the spelling and the name servers' },
  EAI_AGAIN: { says: 'cannot be looked up now: no name server answers' },
  ETIMEDOUT: unreachable,
  EHOSTUNREACH: unreachable,
  ENETUNREACH: unreachable,
  ECONNRESET: { says: 'closed the connection' },
  EPIPE: { says: 'closed the connection' },
}

/**
 * An error of opening a socket, as a WalrxError.
 * @param label the host's name in messages: `host:port`, or the socket's path
 */
export function connectError(error: unknown, label: string, sslMode: string): WalrxError {
  if (error instanceof WalrxError) return error
  if (error instanceof TlsError) return error.isUnavailable ? noTls(error, label, sslMode) : tlsError(error, label)
  const { code, message } = error as NodeJS.ErrnoException
  const reading: Reading = readings[code ?? ''] ?? { says: `cannot be reached: ${message}` }
  return new WalrxError('WALRX_CONNECT_FAILED', `${label} ${reading.says}${code === undefined ? '' : ` (${code})`}`, {
    cause: error,
    ...(reading.hint !== undefined && { hint: reading.hint }),
  })
}

/** Codes of OpenSSL's verification (X509_V_ERR_…) that mean an unknown authority. */
const unknownAuthority =
  /^(DEPTH_ZERO_SELF_SIGNED_CERT|SELF_SIGNED_CERT_IN_CHAIN|UNABLE_TO_(GET_ISSUER_CERT(_LOCALLY)?|VERIFY_LEAF_SIGNATURE))$/

function noTls(error: TlsError, label: string, sslMode: string): WalrxError {
  return new WalrxError('WALRX_TLS_FAILED', `${label} does not offer TLS, which sslmode=${sslMode} requires`, {
    cause: error,
    hint: 'set ssl = on on the server, or choose a weaker sslmode',
  })
}

/** A failure of TLS on a connection to `label`. */
export function tlsError(error: TlsError, label: string): WalrxError {
  const code = (error.cause as NodeJS.ErrnoException | undefined)?.code
  return new WalrxError(
    'WALRX_TLS_FAILED',
    `TLS with ${label} failed: ${readableReason(error.message)}${code === undefined ? '' : ` (${code})`}`,
    {
      cause: error,
      hint: tlsHint(code ?? ''),
      // The server may have shut down during the handshake.
      ...((code === 'ECONNRESET' || code === 'EPIPE') && { transient: true }),
    },
  )
}

/**
 * The reason out of OpenSSL's `…:error:0A000418:SSL routines:ssl3_read_bytes:tlsv1 alert unknown ca:rec_layer_s3.c:…`.
 */
function readableReason(message: string): string {
  const reason = /error:[0-9A-F]+:[^:]*:[^:]*:([^:\n]+)/.exec(message)?.[1] ?? message
  return reason.slice(0, 1).toLowerCase() + reason.slice(1).trim().replace(/\.$/, '')
}

function tlsHint(code: string): string {
  if (unknownAuthority.test(code)) return "name the file with the certificate of the server's authority in sslrootcert"
  if (code === 'ERR_TLS_CERT_ALTNAME_INVALID') {
    return 'connect to a name in the certificate, or have it issued for this name; sslmode=verify-ca skips the check'
  }
  if (code === 'CERT_HAS_EXPIRED') return "renew the server's certificate"
  if (code === 'CERT_REVOKED') return "the authority has revoked the server's certificate: find out why"
  return "the server's log says more: it may not accept our certificate, or the two share no version of TLS"
}

/** Codes, the most specific first; a host that is only down must not hide the wrong password of another. */
const mostSpecificFirst: readonly ErrorCode[] = [
  'WALRX_AUTH_FAILED',
  'WALRX_NO_PRIVILEGE',
  'WALRX_TLS_FAILED',
  'WALRX_SERVER_UNSUPPORTED',
  'WALRX_NO_WALSENDER',
  'WALRX_SOURCE_IN_RECOVERY',
  'WALRX_SERVER_STARTING',
  'WALRX_SERVER_ERROR',
  'WALRX_PROTOCOL',
  'WALRX_CONNECTION_LOST',
  'WALRX_CONNECT_FAILED',
]

/**
 * Several failed attempts as one error that lists every reason. Code and hint are those of the most specific one; the
 * error is transient if one of them is.
 * @param failures at least one
 */
export function combineFailures(failures: readonly WalrxError[], introduction: string): WalrxError {
  // A code that is not listed is walrx's own refusal (for example a usage error): it comes first.
  const rank = (error: WalrxError) => mostSpecificFirst.indexOf(error.code)
  const chosen = failures.reduce((best, error) => (rank(error) < rank(best) ? error : best))
  const reasons = [...new Set(failures.map((error) => error.message))]
  if (reasons.length === 1) return chosen
  const options: WalrxErrorOptions = {
    cause: new AggregateError(failures),
    transient: failures.some((error) => error.transient),
    ...(chosen.hint !== undefined && { hint: chosen.hint }),
  }
  return new WalrxError(chosen.code, `${introduction}: ${reasons.join('; ')}`, options)
}
