/**
 * The login: `pg` writes the startup message and answers requests for a password, in clear text or by md5. walrx owns the
 * socket, reads every message, enforces libpq's rules that pg does not, and does SCRAM itself: pg limits the iterations,
 * and cannot hash a password that SASLprep refuses.
 *
 * pg gets a fake socket through its `stream` option, and of the server's messages only the authentication. This file
 * relies on these facts: pg calls `stream` once; after `connect()` of the stream comes its event `connect`; then pg
 * writes the startup message; pg answers each AuthenticationXxx, given as a `data` event, by `write`; a failure reaches
 * the callback of `Client.connect` before that `data` event returns, or later where pg computes in between.
 * So `package.json` names one version of pg, and `pinned-pg.test.ts` fails when one of these changes.
 */
import { createHash } from 'node:crypto'
import { createRequire } from 'node:module'
import type { Duplex } from 'node:stream'
import { Client, type ClientConfig } from 'pg'
import { WalrxError } from '../../primitives/errors.ts'
import { parseErrorFields } from '../protocol/frames.ts'
import { loginError } from '../protocol/server-error.ts'
import { ScramClient, scramPlain, scramPlus } from '../protocol/scram.ts'
import type { Message, Wire } from '../protocol/wire.ts'
import type { AuthMethod, Conninfo } from './conninfo.ts'
import { LoginStream } from './login-stream.ts'

/** pg reads the name of the hash, such as `SHA-256`, out of a certificate. It has no types for this. */
const { signatureAlgorithmHashFromCertificate: signatureHash } = createRequire(import.meta.url)(
  'pg/lib/crypto/cert-signatures',
) as { readonly signatureAlgorithmHashFromCertificate: (certificate: Buffer) => string }

/** The options of a login. */
export interface LoginOptions {
  readonly conninfo: Pick<Conninfo, 'user' | 'applicationName' | 'options' | 'authMethods' | 'channelBinding'>
  /** Undefined for a replication connection. */
  readonly database: string | undefined
  /** Gets the password when the server asks for one; undefined when there is none. */
  readonly password: () => Promise<string | undefined>
  /** Where to put a password, for the hint. */
  readonly passwordHint: () => string
  readonly signal: AbortSignal
}

/** What the server sent at login, without the parameters that {@link Wire} keeps. */
export interface LoggedIn {
  /** Process id of the walsender. */
  readonly backendPid: number
}

/** AuthenticationXxx by their number (protocol-message-formats). */
const authOk = 0
const authSasl = 10
const authSaslContinue = 11
const authSaslFinal = 12
const authNames: ReadonlyMap<number, AuthMethod> = new Map([
  [3, 'password'],
  [5, 'md5'],
  [7, 'gss'],
  [9, 'sspi'],
  [authSasl, 'scram-sha-256'],
])

/**
 * Logs in on a fresh connection. When it returns, the server waits for a command.
 * @throws ServerError with a remedy, WALRX_AUTH_FAILED for walrx's own refusals, the signal's reason
 */
export function logIn(wire: Wire, options: LoginOptions): Promise<LoggedIn> {
  return new Login(wire, options).run()
}

class Login {
  readonly #wire: Wire
  readonly #options: LoginOptions
  readonly #stream: LoginStream
  readonly #done = Promise.withResolvers<LoggedIn>()
  #method: AuthMethod | undefined
  /** False between the beginning of SCRAM and the server's proof that it knows the password too. */
  #serverProved = true
  #scram: ScramClient | undefined
  #isAuthenticated = false
  #backendPid = 0
  #failure: Error | undefined

  constructor(wire: Wire, options: LoginOptions) {
    this.#wire = wire
    this.#options = options
    this.#stream = new LoginStream(wire.transport)
  }

  async run(): Promise<LoggedIn> {
    const { signal } = this.#options
    const onAbort = () => this.#fail(signal.reason as Error)
    signal.addEventListener('abort', onAbort, { once: true })
    this.#wire.beginLogin(
      (message) => this.#onMessage(message),
      (error) => this.#fail(error),
    )
    const client = new Client(this.#clientConfig())
    client.on('error', (error) => this.#fail(error))
    client.connect((error: Error | null | undefined) => {
      if (error) this.#fail(error)
    })
    if (signal.aborted) onAbort()
    try {
      return await this.#done.promise
    } finally {
      signal.removeEventListener('abort', onAbort)
      this.#stream.detach()
    }
  }

  /** Sets every option that pg would otherwise take from the process's environment. */
  #clientConfig(): ClientConfig & { replication?: string } {
    const { conninfo, database } = this.#options
    return {
      stream: () => this.#stream as unknown as Duplex,
      ssl: false,
      sslnegotiation: 'postgres',
      host: 'localhost',
      port: 5432,
      user: conninfo.user,
      // A walsender for physical replication has no database; this is its name in pgpass.
      database: database ?? 'replication',
      ...(database === undefined && { replication: 'true' }),
      application_name: conninfo.applicationName,
      // Never empty: pg would look for PGOPTIONS.
      options: conninfo.options ?? ' ',
      password: () => this.#password(),
      connectionTimeoutMillis: 0,
    }
  }

  async #password(): Promise<string> {
    const password = await this.#options.password()
    if (password !== undefined && password !== '') return password
    throw new WalrxError(
      'WALRX_AUTH_FAILED',
      `${this.#wire.host} asks for the password of role "${this.#options.conninfo.user}", but none was given`,
      { hint: this.#options.passwordHint() },
    )
  }

  #onMessage(message: Message): void {
    const { body, type } = message
    switch (type) {
      case 'R':
        return this.#onAuthentication(message)
      case 'E':
        return this.#fail(this.#serverError(body))
      case 'K':
        this.#backendPid = body.readInt32BE(0)
        return
      case 'Z':
        if (!this.#isAuthenticated) return this.#refuse('became ready without a login')
        this.#wire.endLogin()
        return this.#done.resolve({ backendPid: this.#backendPid })
      case 'S': // ParameterStatus, which the wire keeps
      case 'N': // NoticeResponse
        return
      default:
        return this.#fail(
          new WalrxError('WALRX_PROTOCOL', `${this.#wire.host} sent a message of type "${type}" during the login`),
        )
    }
  }

  #onAuthentication({ body, whole }: Message): void {
    const code = body.readInt32BE(0)
    if (code === authOk) return this.#onAuthenticated()
    if (code !== authSaslContinue && code !== authSaslFinal) {
      this.#method = authNames.get(code)
      const refusal = this.#methodRefusal(code, body)
      if (refusal !== undefined) return this.#refuse(refusal)
      this.#serverProved = code !== authSasl
    }
    if (code === authSasl) return this.#beginScram(mechanismsOf(body))
    if (code === authSaslContinue) return void this.#continueScram(body.toString('utf8', 4))
    if (code === authSaslFinal) {
      if (this.#scram?.isProof(body.toString('utf8', 4)) !== true) return this.#refuse('does not know the password')
      this.#serverProved = true
      return
    }
    this.#stream.receive(whole)
  }

  #beginScram(mechanisms: readonly string[]): void {
    const { encrypted } = this.#wire.transport
    const canBind = encrypted && this.#options.conninfo.channelBinding !== 'disable'
    const isBound = canBind && mechanisms.includes(scramPlus)
    if (!isBound && !mechanisms.includes(scramPlain))
      return this.#refuse(`offers only ${scramPlus}, without TLS for it`)
    const kind = canBind ? 'not offered' : 'none'
    const binding = isBound ? { kind: 'bound' as const, certificateHash: this.#certificateHash() } : ({ kind } as const)
    const scram = new ScramClient(binding)
    this.#scram = scram
    const first = Buffer.from(scram.first)
    const length = Buffer.alloc(4)
    length.writeInt32BE(first.length)
    this.#answer(Buffer.concat([Buffer.from(`${isBound ? scramPlus : scramPlain}\0`), length, first]))
  }

  async #continueScram(serverFirst: string): Promise<void> {
    try {
      const scram = this.#scram
      if (!scram) return this.#refuse('sent a message of SCRAM out of turn')
      const last = await scram.last(serverFirst, await this.#password())
      if (!this.#failure) this.#answer(Buffer.from(last))
    } catch (error) {
      this.#fail(error as Error)
    }
  }

  /** Sends a PasswordMessage, SASLInitialResponse or SASLResponse: all have this type. */
  #answer(body: Buffer): void {
    const header = Buffer.from('p\0\0\0\0', 'latin1')
    header.writeInt32BE(4 + body.length, 1)
    this.#wire.transport.write(Buffer.concat([header, body]))
  }

  /** With the hash of the certificate's signature, and SHA-256 instead of older ones (RFC 5929). */
  #certificateHash(): Buffer {
    const { raw } = this.#wire.transport.peerCertificate as { raw: Buffer }
    const name = signatureHash(raw)
    const hash = name === 'MD5' || name === 'SHA-1' ? 'sha256' : name.replace('-', '').toLowerCase()
    return createHash(hash).update(raw).digest()
  }

  /** Why walrx refuses this request of the server, before it sends anything derived from the password. */
  #methodRefusal(code: number, body: Buffer): string | undefined {
    const { authMethods, channelBinding } = this.#options.conninfo
    const method = authNames.get(code)
    if (method === undefined || method === 'gss' || method === 'sspi') {
      return `asks for the login method ${method ?? code}, which walrx does not support`
    }
    if (!authMethods.has(method)) return `asks for the login method ${method}, which require_auth does not allow`
    const mechanisms = method === 'scram-sha-256' ? mechanismsOf(body) : []
    if (method === 'scram-sha-256' && !mechanisms.some((mechanism) => mechanism.startsWith('SCRAM-SHA-256'))) {
      return `offers only the login mechanisms ${mechanisms.join(', ')}, which walrx does not support`
    }
    if (channelBinding !== 'require') return undefined
    if (!this.#wire.transport.encrypted) return 'is connected without TLS, so channel_binding=require is impossible'
    if (!mechanisms.includes('SCRAM-SHA-256-PLUS')) return 'offers no channel binding, which channel_binding requires'
    return undefined
  }

  #onAuthenticated(): void {
    const { authMethods, channelBinding } = this.#options.conninfo
    if (!this.#serverProved) return this.#refuse('did not finish SCRAM: it has not proved that it knows the password')
    if (this.#method === undefined) {
      if (!authMethods.has('none')) return this.#refuse('asks for no login at all, which require_auth does not allow')
      if (channelBinding === 'require') return this.#refuse('asks for no login, but channel_binding is require')
    }
    this.#isAuthenticated = true
  }

  #refuse(why: string): void {
    this.#fail(new WalrxError('WALRX_AUTH_FAILED', `${this.#wire.host} ${why}`))
  }

  #serverError(body: Buffer): Error {
    const { conninfo, database, passwordHint } = this.#options
    const { encrypted, localAddress } = this.#wire.transport
    return loginError(parseErrorFields(body), {
      host: this.#wire.host,
      user: conninfo.user,
      database: database ?? 'replication',
      clientAddress: localAddress,
      encrypted,
      passwordHint: passwordHint(),
    })
  }

  /** Ends the attempt. Synchronous, so that no message after the failed one has an effect. */
  #fail(error: Error): void {
    if (this.#failure) return
    this.#failure = error
    const named =
      error instanceof WalrxError || this.#options.signal.aborted
        ? error
        : new WalrxError('WALRX_AUTH_FAILED', `the login to ${this.#wire.host} failed: ${error.message}`, {
            cause: error,
          })
    this.#done.reject(named)
    this.#wire.endLogin()
    this.#wire.fail(named instanceof WalrxError ? named : new WalrxError('WALRX_CONNECTION_LOST', 'aborted'))
    this.#wire.transport.destroy()
  }
}

/** The mechanisms that an AuthenticationSASL offers. */
function mechanismsOf(body: Buffer): string[] {
  return body.toString('latin1', 4).split('\0').filter(Boolean)
}
