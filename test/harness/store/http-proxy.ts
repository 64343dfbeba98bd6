/** A proxy as stands between networks: it forwards requests and tunnels, all to one server, and may ask for a password. */
import { once } from 'node:events'
import { createServer, request as send } from 'node:http'
import { type AddressInfo, connect, type Socket } from 'node:net'

/** See {@link startHttpProxy}. */
export interface HttpProxy extends AsyncDisposable {
  readonly port: number
  /** What was asked for: `GET http://host/path` or `CONNECT host:port`. */
  readonly log: string[]
  /** Answers every request with this status, instead of serving it. */
  refusal: number | undefined
}

/**
 * Starts one on a free port of loopback.
 * @param target port of the server that all hosts stand for
 * @param credentials `user:password` that it asks for; default none
 */
export async function startHttpProxy(target: number, credentials?: string): Promise<HttpProxy> {
  const log: string[] = []
  const sockets = new Set<Socket>()
  const wanted = credentials === undefined ? undefined : `Basic ${Buffer.from(credentials).toString('base64')}`
  const statusFor = (given: string | undefined) => (wanted === undefined || given === wanted ? proxy.refusal : 407)
  const server = createServer((incoming, response) => {
    log.push(`${incoming.method} ${incoming.url}`)
    const status = statusFor(incoming.headers['proxy-authorization'])
    if (status !== undefined) {
      incoming.resume()
      response.writeHead(status, { 'content-type': 'text/html' }).end('<html>proxy</html>')
      return
    }
    const { pathname, search } = new URL(incoming.url ?? '')
    const options = { port: target, method: incoming.method, path: pathname + search, headers: incoming.headers }
    const onward = send({ host: '127.0.0.1', ...options }, (answer) => {
      response.writeHead(answer.statusCode ?? 0, answer.headers)
      answer.pipe(response)
    })
    incoming.pipe(onward)
  })
  server.on('connection', (socket) => sockets.add(socket))
  server.on('connect', (incoming, socket: Socket) => {
    log.push(`CONNECT ${incoming.url}`)
    socket.on('error', () => {})
    const status = statusFor(incoming.headers['proxy-authorization'])
    if (status !== undefined) {
      socket.end(`HTTP/1.1 ${status} refused\r\ncontent-length: 0\r\n\r\n`)
      return
    }
    const onward = connect(target, '127.0.0.1', () => {
      socket.write('HTTP/1.1 200 OK\r\n\r\n')
      socket.pipe(onward).pipe(socket)
    })
    sockets.add(onward)
    onward.on('error', () => socket.destroy())
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const proxy: HttpProxy = {
    port: (server.address() as AddressInfo).port,
    log,
    refusal: undefined,
    async [Symbol.asyncDispose]() {
      for (const socket of sockets) socket.destroy()
      server.close()
      await once(server, 'close')
    },
  }
  return proxy
}
