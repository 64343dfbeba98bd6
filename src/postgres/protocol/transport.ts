/**
 * A connected socket, plain or TLS, that passes its bytes to one receiver after another: the login, the session's
 * commands, and last the parser of the WAL stream.
 *
 * A plain socket reads into one buffer again and again (`onread` of Node's sockets): an allocation for each read would
 * be a large part of the cost of receiving WAL. TLS sockets do not support this, so the stream's chunks are passed on.
 */
import { isIP, Socket } from 'node:net'
import { connect as connectTls, type ConnectionOptions, type SecureContext, type TLSSocket } from 'node:tls'
import { WalrxError } from '../../primitives/errors.ts'
import type { ByteSocketHandlers } from './session.ts'

/** The address of a socket. */
export type SocketAddress = { readonly path: string } | { readonly ip: string; readonly port: number }

/** The settings of TLS; `tls.ts` makes them from the connection string. */
export interface TlsRequest {
  /** `direct` starts with TLS at once (PostgreSQL 17); `postgres` sends an SSLRequest first. */
  readonly negotiation: 'postgres' | 'direct'
  readonly context: SecureContext
  /** The server name to send (SNI); undefined sends none. */
  readonly serverName: string | undefined
  /** True to check the chain of the server's certificate. */
  readonly verifyChain: boolean
  /** Returns an error when the certificate does not match the host. */
  readonly verifyName: NonNullable<ConnectionOptions['checkServerIdentity']>
}

/** Options of {@link openTransport}. */
export interface TransportOptions {
  readonly address: SocketAddress
  /** Undefined for a plain socket. */
  readonly tls: TlsRequest | undefined
  /** Silence before the first TCP keepalive in milliseconds; 0 sends none. */
  readonly keepAliveIdleMs: number
  /** Ends the attempt; its reason is thrown. */
  readonly signal: AbortSignal
}

/** Bytes of a plain socket's read buffer: two of a walsender's largest messages fit. */
const readBufferBytes = 256 * 1024

/** A failure of TLS with the server. */
export class TlsError extends Error {
  /** True when the server does not offer TLS at all. */
  readonly isUnavailable: boolean

  constructor(message: string, isUnavailable: boolean, cause?: unknown) {
    super(message, { cause })
    this.isUnavailable = isUnavailable
  }
}

/**
 * Connects.
 * @throws the socket's own error with its errno, {@link TlsError}, or the signal's reason
 */
export async function openTransport(options: TransportOptions): Promise<Transport> {
  const { address, signal, tls } = options
  signal.throwIfAborted()
  if (!tls) {
    const { socket, transport } = plainTransport()
    await connected(socket, address, options)
    return transport
  }
  const socket = new Socket()
  await connected(socket, address, options)
  if (tls.negotiation === 'postgres') await requestTls(socket, signal)
  return new Transport(await startTls(socket, tls, signal), true)
}

function plainTransport(): { socket: Socket; transport: Transport } {
  const buffer = Buffer.allocUnsafeSlow(readBufferBytes)
  const socket: Socket = new Socket({
    onread: {
      buffer,
      callback: (byteCount) => {
        transport.deliver(buffer.subarray(0, byteCount))
        return true
      },
    },
  })
  const transport = new Transport(socket, false)
  return { socket, transport }
}

/**
 * Waits for an event while `signal` allows; destroys the socket when it does not come.
 * @param take makes the result of the event's argument, at once
 */
function eventOf<T>(
  socket: Socket,
  event: 'connect' | 'secureConnect' | 'data',
  signal: AbortSignal,
  take: (argument: Buffer) => T,
): Promise<T> {
  return new Promise((resolve, reject) => {
    const settle = () => {
      signal.removeEventListener('abort', onAbort)
      socket.removeListener(event, onEvent).removeListener('error', onError).removeListener('close', onClose)
    }
    const onEvent = (argument: Buffer) => {
      settle()
      resolve(take(argument))
    }
    const onError = (error: Error) => {
      settle()
      // Later errors of this socket are ignored.
      socket.on('error', () => {})
      socket.destroy()
      reject(error)
    }
    const onClose = () => onError(closedEarly())
    const onAbort = () => onError(signal.reason as Error)
    socket.once(event, onEvent).once('error', onError).once('close', onClose)
    signal.addEventListener('abort', onAbort, { once: true })
    if (signal.aborted) onAbort()
  })
}

function closedEarly(): Error {
  return Object.assign(new Error('the server closed the connection'), { code: 'ECONNRESET' })
}

async function connected(socket: Socket, address: SocketAddress, options: TransportOptions): Promise<void> {
  const opened = eventOf(socket, 'connect', options.signal, () => {})
  if ('path' in address) socket.connect({ path: address.path.replace(/^@/, '\0') })
  else socket.connect({ host: address.ip, port: address.port })
  await opened
  if ('path' in address) return
  socket.setNoDelay(true)
  if (options.keepAliveIdleMs > 0) socket.setKeepAlive(true, options.keepAliveIdleMs)
}

/** SSLRequest: int32 length 8, int32 80877103; the answer is one byte outside the protocol's framing. */
async function requestTls(socket: Socket, signal: AbortSignal): Promise<void> {
  const request = Buffer.alloc(8)
  request.writeInt32BE(8, 0)
  request.writeInt32BE(80_877_103, 4)
  socket.write(request)
  const answer = await eventOf(socket, 'data', signal, (chunk) => {
    // The next bytes belong to TLS.
    socket.pause()
    return chunk
  })
  if (answer.length === 1 && answer[0] === 0x53) return
  socket.destroy()
  if (answer[0] === 0x4e) throw new TlsError('the server does not offer TLS', true)
  if (answer[0] === 0x45) throw new TlsError('the server answered the request for TLS with an error', false)
  // Bytes after the answer were not sent under TLS: an attacker may have inserted them.
  throw new TlsError('the server answered the request for TLS with something other than yes or no', false)
}

async function startTls(socket: Socket, tls: TlsRequest, signal: AbortSignal): Promise<TLSSocket> {
  const secure = connectTls({
    socket,
    secureContext: tls.context,
    rejectUnauthorized: tls.verifyChain,
    checkServerIdentity: tls.verifyName,
    ...(tls.serverName !== undefined && isIP(tls.serverName) === 0 && { servername: tls.serverName }),
    ...(tls.negotiation === 'direct' && { ALPNProtocols: ['postgresql'] }),
  })
  try {
    await eventOf(secure, 'secureConnect', signal, () => {})
  } catch (error) {
    socket.destroy()
    if (signal.aborted) throw error
    throw new TlsError(error instanceof Error ? error.message : String(error), false, error)
  }
  if (tls.negotiation === 'direct' && secure.alpnProtocol !== 'postgresql') {
    secure.destroy()
    throw new TlsError('the server did not agree to speak PostgreSQL under TLS', false)
  }
  return secure
}

/** One open socket. */
export class Transport {
  readonly encrypted: boolean
  /** Resolves when the socket is closed for any reason. */
  readonly closed: Promise<void>
  readonly #socket: Socket
  #handlers: ByteSocketHandlers | undefined
  #error: Error | undefined
  #isClosed = false

  /** @param socket plain ones must deliver through {@link deliver}; a TLS socket's `data` events are taken here */
  constructor(socket: Socket, encrypted: boolean) {
    this.#socket = socket
    this.encrypted = encrypted
    socket.on('error', (error) => {
      this.#error ??= error
    })
    this.closed = new Promise((resolve) => {
      socket.once('close', () => {
        this.#isClosed = true
        this.#handlers?.onClose(this.#error)
        resolve()
      })
    })
    if (encrypted) socket.on('data', (chunk: Buffer) => this.deliver(chunk))
  }

  /** The local address; undefined on a Unix socket, and when the socket is closed. */
  get localAddress(): string | undefined {
    return this.#socket.localAddress
  }

  /** The server's certificate, for channel binding. */
  get peerCertificate(): ReturnType<TLSSocket['getPeerCertificate']> | undefined {
    return this.encrypted ? (this.#socket as TLSSocket).getPeerCertificate() : undefined
  }

  /** Makes `handlers` the receiver from now on. On a closed transport its onClose is called. */
  receiveWith(handlers: ByteSocketHandlers): void {
    this.#handlers = handlers
    if (this.#isClosed) queueMicrotask(() => handlers.onClose(this.#error))
  }

  /** Delivers bytes that were read; valid only during the call. */
  deliver(chunk: Buffer): void {
    if (this.#handlers) this.#handlers.onBytes(chunk)
    // The server sends nothing before the login message, and the login receives before it sends.
    else this.#socket.destroy(new WalrxError('WALRX_PROTOCOL', 'the server sent data before the login'))
  }

  write(bytes: Uint8Array): void {
    if (this.#socket.writable) this.#socket.write(bytes)
  }

  /** Resolves when the socket can take more, or is closed. */
  async drained(): Promise<void> {
    if (!this.#socket.writableNeedDrain) return
    const { promise, resolve } = Promise.withResolvers<void>()
    this.#socket.once('drain', resolve)
    await Promise.race([promise, this.closed])
    this.#socket.removeListener('drain', resolve)
  }

  pause(): void {
    this.#socket.pause()
  }

  resume(): void {
    this.#socket.resume()
  }

  /** Sends the queued bytes and then `last`, and closes. */
  end(last: Uint8Array): void {
    if (this.#socket.writable) this.#socket.end(last)
  }

  destroy(error?: Error): void {
    this.#socket.destroy(error)
  }
}
