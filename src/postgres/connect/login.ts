/**
 * Logging in: `pg` writes the startup message and answers the server's demands (md5, SCRAM with and without channel
 * binding); we own the socket, watch every message, and enforce what libpq enforces and pg does not.
 *
 * pg sees a stand-in for a socket, through its `stream` option, and of the server's messages only authentication. It
 * relies on, and this file relies on of pg: `stream` is called once; `connect()` of the stream is followed by its event
 * `connect`; then pg writes the startup message; each AuthenticationXxx given as a `data` event is answered by `write`;
 * a failure reaches the callback of `Client.connect` before that `data` event returns, or, where pg computes in
 * between, later. So `package.json` names one version of pg, and `pinned-pg.test.ts` fails when one of these changes.
 */
import { EventEmitter } from 'node:events'
import type { Duplex } from 'node:stream'
import { Client, type ClientConfig } from 'pg'
import { WalrxError } from '../../primitives/errors.ts'
import { parseErrorFields } from '../protocol/frames.ts'
import { loginError } from '../protocol/server-error.ts'
import type { Transport } from '../protocol/transport.ts'
import type { Message, Wire } from '../protocol/wire.ts'
import type { AuthMethod, Conninfo } from './conninfo.ts'

/** Who logs in to what. */
export interface LoginOptions {
  readonly conninfo: Pick<Conninfo, 'user' | 'applicationName' | 'options' | 'authMethods' | 'channelBinding'>
  /** Undefined for a replication connection. */
  readonly database: string | undefined
  /** Finds the password when the server asks for one; undefined when there is none. */
  readonly password: () => Promise<string | undefined>
  /** Where a password could be put, for the hint. */
  readonly passwordHint: string
  readonly signal: AbortSignal
}

/** What the server told at login, apart from the parameters that {@link Wire} keeps. */
export interface LoggedIn {
  /** Process id of our walsender. */
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
 * @throws ServerError with a remedy, WALRX_AUTH_FAILED for what we refuse ourselves, the signal's reason
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

  /** Everything that pg would otherwise take from the process's environment is said here. */
  #clientConfig(): ClientConfig & { replication?: string } {
    const { conninfo, database } = this.#options
    const { encrypted } = this.#wire.transport
    return {
      stream: () => this.#stream as unknown as Duplex,
      ssl: false,
      sslnegotiation: 'postgres',
      host: 'localhost',
      port: 5432,
      user: conninfo.user,
      // A walsender for physical replication has no database; this is the name that pgpass knows it by.
      database: database ?? 'replication',
      ...(database === undefined && { replication: 'true' }),
      application_name: conninfo.applicationName,
      // Never empty: pg would look for PGOPTIONS.
      options: conninfo.options ?? ' ',
      password: () => this.#password(),
      connectionTimeoutMillis: 0,
      enableChannelBinding: encrypted && conninfo.channelBinding !== 'disable',
    }
  }

  async #password(): Promise<string> {
    const password = await this.#options.password()
    if (password !== undefined && password !== '') return password
    throw new WalrxError(
      'WALRX_AUTH_FAILED',
      `${this.#wire.host} asks for the password of role "${this.#options.conninfo.user}", and none was given`,
      { hint: this.#options.passwordHint },
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
    this.#stream.receive(whole)
    if (code === authSaslFinal && !this.#failure) this.#serverProved = true
  }

  /** Why this demand of the server's is not met, before anything that derives from the password leaves us. */
  #methodRefusal(code: number, body: Buffer): string | undefined {
    const { authMethods, channelBinding } = this.#options.conninfo
    const method = authNames.get(code)
    if (method === undefined || method === 'gss' || method === 'sspi') {
      return `asks for the login method ${method ?? code}, which walrx does not know`
    }
    if (!authMethods.has(method)) return `asks for the login method ${method}, which require_auth does not allow`
    const mechanisms = method === 'scram-sha-256' ? body.toString('latin1', 4).split('\0').filter(Boolean) : []
    if (method === 'scram-sha-256' && !mechanisms.some((mechanism) => mechanism.startsWith('SCRAM-SHA-256'))) {
      return `offers the login mechanisms ${mechanisms.join(', ')} only, which walrx does not know`
    }
    if (channelBinding !== 'require') return undefined
    if (!this.#wire.transport.encrypted) return 'is connected without TLS, so there is no channel to bind to'
    if (!mechanisms.includes('SCRAM-SHA-256-PLUS')) return 'offers no channel binding, which channel_binding requires'
    return undefined
  }

  #onAuthenticated(): void {
    const { authMethods, channelBinding } = this.#options.conninfo
    if (!this.#serverProved) return this.#refuse('did not finish SCRAM: it has not shown that it knows the password')
    if (this.#method === undefined) {
      if (!authMethods.has('none')) return this.#refuse('asks for no login at all, which require_auth does not allow')
      if (channelBinding === 'require') return this.#refuse('asks for no login, so channel binding was not done')
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
      passwordHint,
    })
  }

  /** Ends the attempt. Synchronous, so that no message behind the one that failed is believed. */
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

/** What pg takes for its socket. */
class LoginStream extends EventEmitter {
  readonly #transport: Transport
  #isDetached = false

  constructor(transport: Transport) {
    super()
    this.#transport = transport
  }

  get writable(): boolean {
    return !this.#isDetached
  }

  /** From here on pg reaches nothing any more. */
  detach(): void {
    this.#isDetached = true
    this.removeAllListeners()
    this.on('error', () => {})
  }

  /** Hands pg one message. */
  receive(message: Buffer): void {
    // pg keeps no part of it, but it may hold on to the bytes until its SCRAM answer is computed.
    try {
      this.emit('data', Buffer.from(message))
    } catch (error) {
      this.emit('error', error)
    }
  }

  connect(): this {
    // The real socket is connected already.
    process.nextTick(() => this.emit('connect'))
    return this
  }

  write(bytes: Uint8Array): boolean {
    if (!this.#isDetached) this.#transport.write(Uint8Array.from(bytes))
    return true
  }

  getPeerCertificate(): unknown {
    return this.#transport.peerCertificate
  }

  setNoDelay(): this {
    return this
  }

  setKeepAlive(): this {
    return this
  }

  ref(): this {
    return this
  }

  unref(): this {
    return this
  }

  end(): this {
    return this
  }

  destroy(): this {
    return this
  }
}
