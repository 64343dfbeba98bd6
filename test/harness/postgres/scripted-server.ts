/** A server that sends exactly the bytes of a test's script: for messages that no real PostgreSQL would send. */
import { createServer, type Server, type Socket } from 'node:net'
import { once } from 'node:events'

/** One connection to a {@link ScriptedServer}. */
export class ScriptedConnection {
  readonly socket: Socket
  #received = Buffer.alloc(0)

  constructor(socket: Socket) {
    this.socket = socket
    socket.on('error', () => {})
    socket.on('data', (chunk: Buffer) => {
      this.#received = Buffer.concat([this.#received, chunk])
    })
  }

  /** The next bytes from the client, as many as asked for. Rejects when the connection ends before. */
  async read(byteCount: number): Promise<Buffer> {
    while (this.#received.length < byteCount) {
      if (this.socket.destroyed || this.socket.readableEnded) throw new Error('the client closed the connection')
      await Promise.race([once(this.socket, 'data'), once(this.socket, 'close')])
    }
    const bytes = this.#received.subarray(0, byteCount)
    this.#received = this.#received.subarray(byteCount)
    return bytes
  }

  /** A message without a type byte (startup, SSLRequest): its body. */
  async readUntyped(): Promise<Buffer> {
    return this.read((await this.read(4)).readUInt32BE(0) - 4)
  }

  /** A message: its type and body. */
  async readMessage(): Promise<{ type: string; body: Buffer }> {
    const header = await this.read(5)
    return { type: header.toString('latin1', 0, 1), body: await this.read(header.readUInt32BE(1) - 4) }
  }

  write(...parts: readonly (Buffer | string)[]): void {
    this.socket.write(Buffer.concat(parts.map((part) => Buffer.from(part as string, 'latin1'))))
  }
}

/** A message with type byte and length. */
export function message(type: string, body: Buffer | string = ''): Buffer {
  const bytes = Buffer.from(body as string, 'latin1')
  const header = Buffer.from(`${type}\0\0\0\0`, 'latin1')
  header.writeUInt32BE(4 + bytes.length, 1)
  return Buffer.concat([header, bytes])
}

/** AuthenticationXxx: int32 code and what belongs to it. */
export function authentication(code: number, rest: string = ''): Buffer {
  return message('R', Buffer.concat([Buffer.from([0, 0, 0, code]), Buffer.from(rest, 'latin1')]))
}

/** What a healthy server sends from AuthenticationOk to ReadyForQuery. */
export function welcome(version: string = '17.1', inHotStandby: string = 'off'): Buffer {
  return Buffer.concat([
    authentication(0),
    message('S', `server_version\0${version}\0`),
    message('S', `in_hot_standby\0${inHotStandby}\0`),
    message('K', Buffer.from([0, 0, 4, 210, 0, 0, 0, 1])),
    message('Z', 'I'),
  ])
}

/** An ErrorResponse. */
export function errorResponse(sqlstate: string, text: string): Buffer {
  return message('E', `SFATAL\0VFATAL\0C${sqlstate}\0M${text}\0\0`)
}

/** Listens on 127.0.0.1 and plays `script` for each connection. */
export class ScriptedServer {
  readonly port: number
  /** Connections so far. */
  connectionCount = 0
  readonly #server: Server
  readonly #sockets = new Set<Socket>()

  private constructor(server: Server, port: number) {
    this.#server = server
    this.port = port
  }

  /** @param script the dialogue of each connection; an error in it closes the connection */
  static async listen(
    script: (connection: ScriptedConnection, number: number) => Promise<void>,
  ): Promise<ScriptedServer> {
    const server = createServer()
    server.listen(0, '127.0.0.1')
    await once(server, 'listening')
    const address = server.address()
    const scripted = new ScriptedServer(server, typeof address === 'object' && address ? address.port : 0)
    server.on('connection', (socket) => {
      scripted.#sockets.add(socket)
      const connection = new ScriptedConnection(socket)
      script(connection, ++scripted.connectionCount).catch(() => socket.destroy())
    })
    return scripted
  }

  conninfo(): string {
    return `host=127.0.0.1 port=${this.port} user=someone sslmode=disable`
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const socket of this.#sockets) socket.destroy()
    this.#server.close()
    await once(this.#server, 'close')
  }
}
