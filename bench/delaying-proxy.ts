/** A TCP proxy on loopback that delays answers: it simulates a store with this latency. */
import { once } from 'node:events'
import { type AddressInfo, connect, createServer, type Socket } from 'node:net'

/** See {@link startDelayingProxy}. */
export interface DelayingProxy extends AsyncDisposable {
  /** URL to use in place of the store's. */
  readonly endpoint: string
  /** Milliseconds by which everything that the store sends comes later; what it is sent goes through at once. */
  delayMs: number
}

/** Starts a proxy for the store at `target`, an http URL. Nothing is parsed or changed, so that it costs little CPU. */
export async function startDelayingProxy(target: string): Promise<DelayingProxy> {
  const { hostname, port, protocol } = new URL(target)
  if (protocol !== 'http:') throw new Error(`the store at ${target} must be reached by http: it goes through a proxy`)
  const sockets = new Set<Socket>()
  const server = createServer({ noDelay: true }, (near) => {
    const far = connect({ host: hostname, port: Number(port || 80), noDelay: true })
    for (const [socket, other] of [
      [near, far],
      [far, near],
    ] as const) {
      sockets.add(socket)
      socket.on('error', () => other.destroy()).on('close', () => sockets.delete(socket))
    }
    near.pipe(far)
    deliverLate(far, near, () => proxy.delayMs)
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const proxy: DelayingProxy = {
    endpoint: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    delayMs: 0,
    async [Symbol.asyncDispose]() {
      const closed = once(server, 'close')
      server.close()
      for (const socket of sockets) socket.destroy()
      await closed
    },
  }
  return proxy
}

function deliverLate(from: Socket, to: Socket, delayMs: () => number): void {
  // In the order of their arrival, also when the delay changes in between: a timer delivers the oldest.
  const late: (() => void)[] = []
  const deliver = (action: () => void) => {
    const ms = delayMs()
    if (ms === 0 && late.length === 0) return action()
    late.push(action)
    setTimeout(() => late.shift()?.(), ms)
  }
  from.on('data', (chunk) => deliver(() => void (to.destroyed || to.write(chunk))))
  from.on('end', () => deliver(() => void to.end()))
}
