/** TLS to the server with libpq's files and rules (initialize_SSL in fe-secure-openssl.c). */
import { readFile, stat } from 'node:fs/promises'
import { isIP } from 'node:net'
import { join } from 'node:path'
import { createSecureContext, getCACertificates, type SecureContextOptions } from 'node:tls'
import type { Logger } from '../../observe/log.ts'
import { WalrxError } from '../../primitives/errors.ts'
import { hostMismatch } from '../protocol/certificate-name.ts'
import type { TlsRequest } from '../protocol/transport.ts'
import type { Conninfo, TlsSettings } from './conninfo.ts'

/**
 * Reads certificates and keys. It reads them again for every connection, so that renewed ones take effect.
 * @param host the host as the user names it, for verify-full and SNI; undefined when only an address was given
 * @throws WALRX_TLS_FAILED naming the file that is missing, unreadable or malformed
 */
export async function prepareTls(
  conninfo: Pick<Conninfo, 'tls' | 'postgresHome'>,
  host: string | undefined,
  log: Logger,
): Promise<TlsRequest> {
  const { tls } = conninfo
  const files = new TlsFiles(tls, conninfo.postgresHome, log)
  const authorities = await files.authorities()
  const verifyChain = authorities !== undefined
  if (tls.mode === 'verify-full' && host === undefined) {
    throw new WalrxError('WALRX_USAGE', 'sslmode=verify-full needs the name of the host, not only its address', {
      hint: 'add host= to the connection string: the certificate is checked against it',
    })
  }
  const options: SecureContextOptions = {
    minVersion: tls.minVersion,
    ...(tls.maxVersion && { maxVersion: tls.maxVersion }),
    ...authorities,
    ...(await files.clientCertificate()),
  }
  return {
    negotiation: tls.negotiation,
    context: makeContext(options, files),
    serverName: tls.sni && host !== undefined && isIP(host) === 0 ? host : undefined,
    verifyChain,
    verifyName: (_, certificate) => (tls.mode === 'verify-full' ? hostMismatch(host ?? '', certificate) : undefined),
  }
}

function makeContext(options: SecureContextOptions, files: TlsFiles): TlsRequest['context'] {
  try {
    return createSecureContext(options)
  } catch (error) {
    const which = files.used.join(', ')
    throw new WalrxError('WALRX_TLS_FAILED', `cannot use ${which}: ${(error as Error).message}`, {
      cause: error,
      hint: 'check that certificate and key are PEM files that belong together, and that sslpassword is the password of the key',
    })
  }
}

/** The files of one connection. */
class TlsFiles {
  /** Paths that were read. */
  readonly used: string[] = []
  readonly #tls: TlsSettings
  readonly #home: string | undefined
  readonly #log: Logger

  constructor(tls: TlsSettings, home: string | undefined, log: Logger) {
    this.#tls = tls
    this.#home = home
    this.#log = log
  }

  /**
   * Authorities and revocations, or undefined when the server's certificate is not to be checked. As in libpq, a file
   * that exists makes even sslmode=require check the chain, and only the verify modes insist on one.
   */
  async authorities(): Promise<SecureContextOptions | undefined> {
    const { mode, rootCert } = this.#tls
    // Node's built-in list is Mozilla's at the time of the release; libpq uses the system's list.
    if (rootCert === 'system') return { ca: getCACertificates('system'), ...(await this.#revocations()) }
    const path = rootCert ?? this.#inHome('root.crt')
    const ca = path === undefined ? undefined : await this.#readIfThere(path)
    if (ca !== undefined) return { ca, ...(await this.#revocations()) }
    if (mode === 'verify-ca' || mode === 'verify-full') {
      throw new WalrxError('WALRX_TLS_FAILED', `root certificate file ${path ?? 'root.crt'} does not exist`, {
        hint: `sslmode=${mode} needs the certificate of the authority: name its file in sslrootcert, or sslrootcert=system`,
      })
    }
    if (rootCert !== undefined) {
      this.#log.warn('the root certificate file does not exist: not verifying the server', { path: rootCert })
    }
    return undefined
  }

  async #revocations(): Promise<SecureContextOptions> {
    const named = this.#tls.crl
    const path = named ?? this.#inHome('root.crl')
    const crl = path === undefined ? undefined : await this.#readIfThere(path)
    // libpq continues without it; walrx must not skip a list that was named.
    if (crl === undefined && named !== undefined) {
      throw new WalrxError('WALRX_TLS_FAILED', `revocation list ${named} does not exist`)
    }
    return crl === undefined ? {} : { crl }
  }

  async clientCertificate(): Promise<SecureContextOptions> {
    const tls = this.#tls
    if (!tls.sendCert) return {}
    const certPath = tls.cert ?? this.#inHome('postgresql.crt')
    const cert = certPath === undefined ? undefined : await this.#readIfThere(certPath)
    if (cert === undefined) {
      if (tls.cert !== undefined) {
        this.#log.warn('the client certificate file does not exist: sending none', { path: tls.cert })
      }
      return {}
    }
    const keyPath = tls.key ?? this.#inHome('postgresql.key') ?? 'postgresql.key'
    const key = await this.#readIfThere(keyPath)
    if (key === undefined) {
      throw new WalrxError('WALRX_TLS_FAILED', `client certificate ${certPath} exists, but its key ${keyPath} does not`)
    }
    await refuseOpenKey(keyPath)
    return { cert, key, ...(tls.keyPassword !== undefined && { passphrase: tls.keyPassword }) }
  }

  #inHome(name: string): string | undefined {
    return this.#home === undefined ? undefined : join(this.#home, name)
  }

  async #readIfThere(path: string): Promise<string | undefined> {
    try {
      const text = await readFile(path, 'utf8')
      this.used.push(path)
      return text
    } catch (error) {
      const { code, message } = error as NodeJS.ErrnoException
      if (code === 'ENOENT' || code === 'ENOTDIR') return undefined
      throw new WalrxError('WALRX_TLS_FAILED', `cannot read ${path}: ${message}`, { cause: error })
    }
  }
}

/** libpq's rule for keys: 0600, or 0640 when root owns the file. */
async function refuseOpenKey(path: string): Promise<void> {
  const { mode, uid } = await stat(path)
  const tooOpen = uid === 0 ? 0o037 : 0o077
  if ((mode & tooOpen) === 0) return
  throw new WalrxError('WALRX_TLS_FAILED', `other users may read the private key ${path}`, {
    hint: 'run chmod 0600 on it (0640 where root owns it)',
  })
}
