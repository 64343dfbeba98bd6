/**
 * The status page over HTTP: `/metrics` for Prometheus, `/healthz` (is the process alive?) and `/readyz` (does it do
 * its work?). It is given functions and imports no service: it shows only what they return.
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo, Socket } from 'node:net'
import { redactText } from '../observe/redact.ts'
import { WalrxError } from '../primitives/errors.ts'

/** The state of a service. */
export interface Readiness {
  readonly ready: boolean
  /** Why not, in one line; shown with status 503. */
  readonly reason?: string
  /** More facts, as plain JSON; a bigint is shown as text, and passwords in texts are left out. */
  readonly details?: Readonly<Record<string, unknown>>
}

/** Where to listen. */
export interface ListenAddress {
  readonly host: string
  /** 0 chooses a free port. */
  readonly port: number
}

/** Options of {@link StatusServer.open}. */
export interface StatusServerOptions extends ListenAddress {
  /** Asked at every `/readyz`; an error counts as not ready. */
  readonly readiness: () => Readiness | Promise<Readiness>
  /** The text of `/metrics` and its content type. */
  readonly metrics: () => Promise<{ readonly contentType: string; readonly text: string }>
}

/** A client has this long to send its request, and to read the answer. */
const requestTimeoutMs = 10_000

/**
 * Parses `HOST:PORT`, `[::1]:PORT` or `PORT` (on 127.0.0.1); `off` is undefined.
 * @throws WalrxError WALRX_USAGE
 */
export function parseListenAddress(text: string): ListenAddress | undefined {
  if (text.toLowerCase() === 'off') return undefined
  const match = /^(?:(?:\[([^\]]+)\]|([^:[\]]+)):)?(\d{1,5})$/.exec(text)
  const port = Number(match?.[3])
  if (!match || port > 65535) {
    throw new WalrxError('WALRX_USAGE', `--status-listen "${text}" is not an address`, {
      hint: 'write HOST:PORT, for instance 127.0.0.1:8432, or off for no status page',
    })
  }
  return { host: match[1] ?? match[2] ?? '127.0.0.1', port }
}

/** An HTTP server that answers GET and HEAD. Closing it also ends idle connections. */
export class StatusServer {
  readonly #server: Server
  readonly #options: StatusServerOptions
  /** Connections without a request. Node counts one that never sent any as busy until its time is out. */
  readonly #idle = new Set<Socket>()

  private constructor(options: StatusServerOptions) {
    this.#options = options
    this.#server = createServer((request, response) => {
      this.#idle.delete(request.socket)
      void this.#answer(request, response)
    })
    this.#server.on('connection', (socket) => {
      this.#idle.add(socket)
      socket.once('close', () => this.#idle.delete(socket))
    })
    this.#server.requestTimeout = requestTimeoutMs
    this.#server.headersTimeout = requestTimeoutMs
    this.#server.timeout = requestTimeoutMs
    this.#server.maxConnections = 64
  }

  /**
   * Listens.
   * @throws WalrxError WALRX_USAGE when the address is in use, not allowed or not of this machine
   */
  static async open(options: StatusServerOptions): Promise<StatusServer> {
    const status = new StatusServer(options)
    await new Promise<void>((resolve, reject) => {
      status.#server.once('error', (error) => reject(listenError(error, options)))
      status.#server.listen(options.port, options.host, resolve)
    })
    status.#server.removeAllListeners('error')
    status.#server.on('error', () => {})
    return status
  }

  /** The port that it listens at. */
  get port(): number {
    return (this.#server.address() as AddressInfo).port
  }

  /** Where it answers: `http://127.0.0.1:8432`. */
  get url(): string {
    const { host } = this.#options
    return `http://${host.includes(':') ? `[${host}]` : host}:${this.port}`
  }

  /** Answers what is being asked and stops listening. May be called twice. */
  async close(): Promise<void> {
    if (!this.#server.listening) return
    await new Promise<void>((resolve) => {
      this.#server.close(() => resolve())
      for (const socket of this.#idle) socket.destroy()
    })
  }

  /** Stops listening and drops every connection. May be called twice. */
  destroy(): void {
    this.#server.close()
    this.#server.closeAllConnections()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close()
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    request.resume()
    response.setHeader('Cache-Control', 'no-store')
    response.setHeader('Connection', 'close')
    if (request.method !== 'GET' && request.method !== 'HEAD') {
      response.setHeader('Allow', 'GET, HEAD')
      sendJson(response, 405, { error: `${request.method} is not answered here` })
      return
    }
    const path = (request.url ?? '/').split('?', 1)[0]
    if (path === '/healthz') sendJson(response, 200, { status: 'ok' })
    else if (path === '/readyz') await this.#answerReady(response)
    else if (path === '/metrics') await this.#answerMetrics(response)
    else sendJson(response, 404, { error: 'not found', paths: ['/metrics', '/healthz', '/readyz'] })
  }

  async #answerReady(response: ServerResponse): Promise<void> {
    let readiness: Readiness
    try {
      readiness = await this.#options.readiness()
    } catch (error) {
      readiness = { ready: false, reason: error instanceof Error ? error.message : String(error) }
    }
    const { ready, reason, details } = readiness
    const body = {
      status: ready ? 'ready' : 'not ready',
      ...(reason !== undefined && { reason }),
      ...details,
    }
    sendJson(response, ready ? 200 : 503, body)
  }

  async #answerMetrics(response: ServerResponse): Promise<void> {
    try {
      const { contentType, text } = await this.#options.metrics()
      response.writeHead(200, { 'Content-Type': contentType }).end(text)
    } catch (error) {
      sendJson(response, 500, { error: error instanceof Error ? error.message : String(error) })
    }
  }
}

function sendJson(response: ServerResponse, status: number, body: unknown): void {
  const text = JSON.stringify(body, (_, value: unknown) => {
    if (typeof value === 'string') return redactText(value)
    return typeof value === 'bigint' ? value.toString() : value
  })
  response.writeHead(status, { 'Content-Type': 'application/json' }).end(`${text}\n`)
}

function listenError(error: NodeJS.ErrnoException, { host, port }: ListenAddress): WalrxError {
  const reasons: Readonly<Record<string, string>> = {
    EADDRINUSE: 'the port is in use',
    EACCES: 'this user may not listen at this port',
    EADDRNOTAVAIL: 'this machine does not have that address',
    ENOTFOUND: 'there is no such host',
  }
  const why = reasons[error.code ?? ''] ?? error.message
  return new WalrxError('WALRX_USAGE', `the status page cannot listen at ${host}:${port}: ${why}`, {
    hint: 'give another address with --status-listen HOST:PORT or WALRX_STATUS_LISTEN, or off for no status page',
    cause: error,
  })
}
