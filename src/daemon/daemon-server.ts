/**
 * The socket of the daemon. As in WAL-G's (daemon_handler.go, ProcessConnection), a connection stays open after a check, and
 * is closed after any other request, and after an error.
 */
import { createServer, type Server, type Socket } from 'node:net'
import type { Logger } from '../observe/log.ts'
import type { Clock, Timer } from '../primitives/clock.ts'
import { toWalrxError, WalrxError } from '../primitives/errors.ts'
import { orAborted } from '../primitives/wait.ts'
import { type Frame, FrameReader, type ReplyType, replyFrame } from './frames.ts'
import { listenAt } from './socket-file.ts'

/**
 * Does what a request asks for.
 * @param signal aborts when nobody waits for the answer any more
 * @throws whatever made it fail: the reply is an error then
 */
export type RequestHandler = (frame: Frame, signal: AbortSignal) => Promise<ReplyType>

/** What {@link DaemonServer} needs. */
export interface DaemonServerOptions {
  readonly handle: RequestHandler
  readonly clock: Clock
  readonly log: Logger
}

/** Connections at a time: each may hold two frames, and wait for its upload. The server's archiver needs one. */
const connectionsMax = 100
/** How long a frame may take to come, once it has begun. */
const frameTimeoutMs = 60_000
/** Of one connection, while a request is under way. */
const pendingBytesMax = 2 * 0xffff

/** See the file's header. */
export class DaemonServer {
  readonly #options: DaemonServerOptions
  readonly #server: Server
  readonly #connections = new Set<Connection>()

  constructor(options: DaemonServerOptions) {
    this.#options = options
    // A client that has said all that it has to say still wants an answer.
    this.#server = createServer({ allowHalfOpen: true }, (socket) => this.#accept(socket))
    this.#server.maxConnections = connectionsMax
  }

  /** Opens the socket. Throws WALRX_USAGE, WALRX_SYSTEM. */
  listen(path: string): Promise<void> {
    return listenAt(this.#server, path)
  }

  /**
   * Closes the socket and removes its file. Requests under way are finished, unless the signal aborts: then they are given up.
   */
  async close(now: AbortSignal): Promise<void> {
    const closed = new Promise<void>((resolve) => this.#server.close(() => resolve()))
    for (const connection of this.#connections) connection.finish()
    await orAborted(closed, now).catch(() => {})
    for (const connection of this.#connections) connection.destroy()
    await closed
  }

  #accept(socket: Socket): void {
    const connection = new Connection(socket, this.#options)
    this.#connections.add(connection)
    socket.once('close', () => this.#connections.delete(connection))
  }
}

/** One client. */
class Connection {
  readonly #socket: Socket
  readonly #options: DaemonServerOptions
  readonly #frames = new FrameReader()
  readonly #gone = new AbortController()
  #isBusy = false
  #isEnded = false
  #isFinishing = false
  #timer: Timer | undefined

  constructor(socket: Socket, options: DaemonServerOptions) {
    this.#socket = socket
    this.#options = options
    socket.on('data', (piece: Buffer) => this.#onData(piece))
    socket.on('end', () => this.#onEnd())
    socket.on('error', (error) => options.log.debug('a client has gone', { error: error.message }))
    socket.on('close', () => {
      this.#timer?.cancel()
      this.#gone.abort()
    })
  }

  /** Closes the connection once its request is answered. */
  finish(): void {
    this.#isFinishing = true
    if (!this.#isBusy) this.#socket.destroy()
  }

  destroy(): void {
    this.#socket.destroy()
  }

  #onData(piece: Buffer): void {
    this.#frames.add(piece)
    if (this.#frames.pendingBytes > pendingBytesMax) this.#socket.pause()
    if (!this.#isBusy) void this.#serve()
  }

  /** A client that waits for a file closes its end only when it has given up: the file must not appear later. */
  #onEnd(): void {
    this.#isEnded = true
    this.#gone.abort()
    if (!this.#isBusy) this.#leave()
  }

  #leave(): void {
    if (this.#frames.pendingBytes > 0) this.#fail(new WalrxError('WALRX_PROTOCOL', 'a request ends in the middle'))
    else this.#socket.end()
  }

  async #serve(): Promise<void> {
    this.#isBusy = true
    try {
      for (let frame = this.#frames.next(); frame; frame = this.#frames.next()) {
        const reply = await this.#options.handle(frame, this.#gone.signal)
        if (this.#socket.destroyed) return
        this.#socket.write(replyFrame(reply))
        if (frame.type !== 'C' || this.#isFinishing) {
          this.#socket.destroySoon()
          return
        }
      }
      this.#isBusy = false
    } catch (error) {
      this.#fail(toWalrxError(error))
      return
    }
    this.#timer?.cancel()
    this.#timer = undefined
    if (this.#isEnded) this.#leave()
    else if (this.#isFinishing) this.#socket.destroy()
    else this.#awaitRest()
  }

  #awaitRest(): void {
    this.#socket.resume()
    if (this.#frames.pendingBytes === 0) return
    this.#timer = this.#options.clock.setTimer(frameTimeoutMs, () => {
      this.#fail(new WalrxError('WALRX_PROTOCOL', `a request did not end within ${frameTimeoutMs / 1000} s`))
    })
  }

  #fail(error: WalrxError): void {
    this.#isBusy = true
    this.#options.log.error('a request has failed', { error })
    if (this.#socket.destroyed) return
    this.#socket.write(replyFrame('E'))
    this.#socket.destroySoon()
  }
}
