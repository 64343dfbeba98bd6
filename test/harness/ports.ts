/** Ports for servers of the tests. */
import { createServer } from 'node:net'

/** Below the range from which Linux takes ports for outgoing connections, so that none of those is in the way. */
const portMin = 20_000
const portMax = 32_000

const handedOut = new Set<number>()

/** True when a server could listen on `127.0.0.1:port` now. */
export function isPortFree(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const probe = createServer()
    probe.once('error', () => resolve(false))
    probe.listen({ port, host: '127.0.0.1', exclusive: true }, () => probe.close(() => resolve(true)))
  })
}

/** A port on which nothing listens, drawn at random so that test processes rarely meet, and never handed out twice. */
export async function freePort(): Promise<number> {
  for (;;) {
    const port = portMin + Math.floor(Math.random() * (portMax - portMin))
    if (handedOut.has(port) || !(await isPortFree(port))) continue
    handedOut.add(port)
    return port
  }
}
