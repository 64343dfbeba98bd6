/** Addresses that stay the same while their servers change, like the hosts of a cluster's connection string. */
import { once } from 'node:events'
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net'

/** One address on the loopback interface. */
export class FixedAddress implements AsyncDisposable {
  /** Port of its server; undefined refuses connections. */
  target: number | undefined
  readonly #server: Server
  readonly #sockets = new Set<Socket>()

  private constructor() {
    this.#server = createServer((client) => this.#forward(client))
  }

  /** Opens one on a free port. */
  static async open(): Promise<FixedAddress> {
    const address = new FixedAddress()
    address.#server.listen(0, '127.0.0.1')
    await once(address.#server, 'listening')
    return address
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port
  }

  /** Cuts the connections that are open. */
  cut(): void {
    for (const socket of this.#sockets) socket.destroy()
  }

  #forward(client: Socket): void {
    if (this.target === undefined) {
      client.destroy()
      return
    }
    const server = connect(this.target, '127.0.0.1')
    for (const [socket, other] of [
      [client, server],
      [server, client],
    ] as const) {
      this.#sockets.add(socket)
      socket.pipe(other)
      socket.on('error', () => other.destroy())
      socket.on('close', () => {
        this.#sockets.delete(socket)
        other.destroy()
      })
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.cut()
    const closed = once(this.#server, 'close')
    this.#server.close()
    await closed
  }
}
