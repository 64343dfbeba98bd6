/** Asks a status page, as {@link StatusServer} is one. */
import { request } from 'node:http'
import type { ListenAddress } from './server.ts'

/** An answer, with a body that is bounded. */
export interface StatusAnswer {
  readonly status: number
  readonly body: string
}

/** A page of metrics of a hundred clusters has a few megabytes. */
const bodyBytesMax = 32 * 1024 * 1024

/** How an address that a server listens at is called from this machine: all addresses are reached by the loopback. */
export function reachable({ host, port }: ListenAddress): ListenAddress {
  if (host === '0.0.0.0') return { host: '127.0.0.1', port }
  return host === '::' ? { host: '::1', port } : { host, port }
}

/**
 * One GET.
 * @param path with its slash
 * @throws the socket's error; an Error for an answer that is too late or too long
 */
export function askStatusPage({ host, port }: ListenAddress, path: string, timeoutMs: number): Promise<StatusAnswer> {
  const { promise, reject, resolve } = Promise.withResolvers<StatusAnswer>()
  const asked = request({ host, port, path, method: 'GET', agent: false }, (answer) => {
    const chunks: Buffer[] = []
    let bytes = 0
    answer.on('data', (chunk: Buffer) => {
      bytes += chunk.length
      if (bytes > bodyBytesMax)
        asked.destroy(new Error(`${host}:${port}${path} answers more than ${bodyBytesMax} bytes`))
      else chunks.push(chunk)
    })
    answer.on('end', () => resolve({ status: answer.statusCode ?? 0, body: Buffer.concat(chunks).toString('utf8') }))
    answer.on('error', reject)
  })
  const timer = setTimeout(
    () => asked.destroy(new Error(`${host}:${port} did not answer within ${timeoutMs / 1000} s`)),
    timeoutMs,
  )
  asked.on('error', reject)
  asked.end()
  return promise.finally(() => clearTimeout(timer))
}
