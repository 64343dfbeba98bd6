/** An HTTP proxy on loopback that fails on demand, to stand between walrx and a bucket. */
import { once } from 'node:events'
import { type IncomingMessage, type ServerResponse, createServer, request as httpRequest } from 'node:http'
import type { AddressInfo } from 'node:net'
import { buffer } from 'node:stream/consumers'
import { setTimeout as delay } from 'node:timers/promises'

/**
 * What happens to a request:
 * - `pass`: it is forwarded, and its answer comes back.
 * - `503`, `403`: it is answered so, in S3's form, and not forwarded.
 * - `stall`: it is read, and neither forwarded nor answered.
 * - `cut`: it is forwarded; half of the answer's body comes back, then the connection breaks.
 * - `lost`: it is forwarded and carried out; then the connection breaks before the answer.
 * - `mute`: it is forwarded and carried out, and not answered. It is in the log when it has been carried out.
 * - `refuse`: the connection breaks at once.
 */
export type FaultMode = 'pass' | '503' | '403' | 'stall' | 'cut' | 'lost' | 'mute' | 'refuse'

/** A request as a rule of the proxy sees it. */
export interface ProxiedRequest {
  readonly method: string
  /** Path with query, as sent. */
  readonly url: string
}

/** See {@link startFaultyProxy}. */
export interface FaultyProxy extends AsyncDisposable {
  /** URL to use in place of the target's. */
  readonly endpoint: string
  /** For every request that no rule of `fail` is left for. */
  mode: FaultMode
  /** Milliseconds by which answers of the target come later; 0 at the start. */
  delayMs: number
  /** Requests so far, each with what was done to it, oldest first; a test may empty it. */
  readonly log: (ProxiedRequest & { readonly mode: FaultMode })[]
  /** Lets the next `count` (default 1) requests that match fail in this way, then all is as `mode` says. */
  fail(mode: FaultMode, options?: { count?: number; when?: (request: ProxiedRequest) => boolean }): void
  /** Passes everything from now on: no rules, no mode, an empty log. */
  reset(): void
  /** Breaks the connections of all requests that wait for an answer in vain. */
  breakStalled(): void
  /** Resolves when a request has got this treatment; also when one has since the log was emptied. */
  saw(mode: FaultMode): Promise<void>
}

interface Rule {
  readonly mode: FaultMode
  readonly when: (request: ProxiedRequest) => boolean
  left: number
}

/** Options of {@link startFaultyProxy}. */
export interface FaultyProxyOptions {
  /**
   * True forwards a request only when it is there to its last byte: for a store that keeps what came of one that broke
   * off, which S3 never does. Default false.
   */
  readonly whole?: boolean
}

/** Starts a proxy for the HTTP server at `target` (a URL without a path). The Host header goes through unchanged: it is
 * signed. */
export async function startFaultyProxy(
  target: string,
  { whole = false }: FaultyProxyOptions = {},
): Promise<FaultyProxy> {
  const rules: Rule[] = []
  const waiting: { mode: FaultMode; resolve: () => void }[] = []
  const stalled = new Set<IncomingMessage>()
  const server = createServer((request, response) => {
    const seen = { method: request.method ?? '', url: request.url ?? '' }
    const rule = rules.find(({ left, when }) => left > 0 && when(seen))
    if (rule) rule.left--
    const mode = rule?.mode ?? proxy.mode
    if (mode === 'stall' || mode === 'mute') stalled.add(request)
    const note = () => {
      proxy.log.push({ ...seen, mode })
      for (const waiter of waiting.splice(0)) {
        if (waiter.mode === mode) waiter.resolve()
        else waiting.push(waiter)
      }
    }
    // Nothing else would report that it has been carried out.
    if (mode !== 'mute') note()
    void treat(mode, () => answer(request), request, response).then(
      () => mode === 'mute' && note(),
      () => response.destroy(),
    )
  })
  const answer = async (request: IncomingMessage) => {
    const answered = await forward(target, request, whole)
    if (proxy.delayMs > 0) await delay(proxy.delayMs)
    return answered
  }
  server.keepAliveTimeout = 60_000
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const proxy: FaultyProxy = {
    endpoint: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    mode: 'pass',
    delayMs: 0,
    log: [],
    fail: (mode, { count = 1, when = () => true } = {}) => void rules.push({ mode, when, left: count }),
    reset: () => {
      rules.length = 0
      proxy.log.length = 0
      proxy.mode = 'pass'
    },
    breakStalled: () => {
      for (const { socket } of stalled) socket.destroy()
      stalled.clear()
    },
    saw: (mode) => {
      if (proxy.log.some((entry) => entry.mode === mode)) return Promise.resolve()
      const { promise, resolve } = Promise.withResolvers<void>()
      waiting.push({ mode, resolve })
      return promise
    },
    async [Symbol.asyncDispose]() {
      const closed = once(server, 'close')
      server.close()
      server.closeAllConnections()
      await closed
    },
  }
  return proxy
}

async function treat(
  mode: FaultMode,
  forwarded: () => Promise<IncomingMessage>,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  if (mode === 'refuse') {
    request.socket.destroy()
    return
  }
  if (mode === 'stall') {
    request.resume()
    return
  }
  if (mode === '503' || mode === '403') {
    request.resume()
    await once(request, 'end')
    response.writeHead(Number(mode), { 'content-type': 'application/xml' })
    response.end(errorBody(mode === '503' ? 'SlowDown' : 'AccessDenied', 'by the proxy'))
    return
  }
  const answer = await forwarded()
  if (mode === 'lost' || mode === 'mute') {
    await buffer(answer)
    if (mode === 'lost') request.socket.destroy()
  } else if (mode === 'cut') {
    const body = await buffer(answer)
    response.writeHead(answer.statusCode ?? 502, answer.rawHeaders)
    // An empty body has no half: then it is the headers that come, and no more.
    response.write(body.subarray(0, Math.floor(body.length / 2)), () => request.socket.destroy())
  } else {
    response.writeHead(answer.statusCode ?? 502, answer.rawHeaders)
    answer.pipe(response)
    answer.on('error', () => response.destroy())
    response.on('close', () => answer.destroy())
  }
}

async function forward(target: string, request: IncomingMessage, whole: boolean): Promise<IncomingMessage> {
  const { hostname, port } = new URL(target)
  const body = whole ? await buffer(request) : undefined
  const { promise, resolve, reject } = Promise.withResolvers<IncomingMessage>()
  const onward = httpRequest({ hostname, port, method: request.method, path: request.url, headers: request.rawHeaders })
  onward.on('response', resolve).on('error', reject)
  if (body) {
    onward.end(body)
  } else {
    request.pipe(onward)
    request.on('aborted', () => onward.destroy())
  }
  return await promise
}

/** The XML of an S3 error. */
export function errorBody(code: string, message: string): string {
  return `<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>${code}</Code><Message>${message}</Message></Error>`
}
