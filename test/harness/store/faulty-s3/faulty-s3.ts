/**
 * An S3 server in memory that fails on demand: any status, body, delay or cut, for each action of S3 and for each nth
 * request, or at random by a seed; with and without conditional puts; with listings that lie. Also a store that allows
 * only some actions, which shows the rights that a command needs.
 */
import { once } from 'node:events'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import type { Bucket } from '../bucket.ts'
import { type S3Answer, s3Error, S3Objects, type S3Traits } from './s3-objects.ts'
import { readRequest, type S3Action, type S3Request } from './s3-request.ts'

/**
 * What happens to a request:
 * - `answer`: it is not carried out, and answered so.
 * - `late`: it is carried out, and answered after `ms`.
 * - `lost`: it is carried out; then the connection breaks before the answer.
 * - `cut`: it is carried out; the first `bytes` of the answer's body come, then the connection breaks.
 * - `hang`: it is neither carried out nor answered.
 * - `refuse`: the connection breaks, and nothing is carried out.
 */
export type S3Fault =
  | {
      readonly kind: 'answer'
      readonly status: number
      readonly body?: string
      readonly headers?: Record<string, string>
    }
  | { readonly kind: 'late'; readonly ms: number }
  | { readonly kind: 'lost' }
  | { readonly kind: 'cut'; readonly bytes: number }
  | { readonly kind: 'hang' }
  | { readonly kind: 'refuse' }

/** Which requests a fault is for, and how many of them. */
export interface S3FaultRule {
  readonly fault: S3Fault
  /** Default all. */
  readonly actions?: readonly S3Action[]
  /** Default all. */
  readonly when?: (request: S3Request) => boolean
  /** How many that match; default 1. */
  readonly count?: number
}

/** One request, with what was done to it. */
export interface S3LogEntry {
  readonly action: S3Action
  readonly key: string
  readonly fault: S3Fault['kind'] | undefined
  /** Of the answer; undefined where none was given. */
  readonly status: number | undefined
}

/** Options of {@link startFaultyS3}. */
export interface FaultyS3Options extends Partial<S3Traits> {
  /**
   * Actions that are allowed, which a test may change; every other answers 403 AccessDenied, and what is missing does so
   * without ListObjectsV2. Default all.
   */
  readonly allowed?: ReadonlySet<S3Action>
}

/** See the file's header. A bucket like any other, except for the faults that a test sets. */
export interface FaultyS3 extends Bucket {
  /** What it holds. */
  readonly store: S3Objects
  /** Requests that are over, oldest first; a test may empty it. */
  readonly log: S3LogEntry[]
  /** Lets requests fail; rules are asked in the order in which they were given. */
  fail(rule: S3FaultRule): void
  /** A fault for each request, or none, after the rules: a seeded schedule. Undefined: no more of them. */
  schedule: ((request: S3Request) => S3Fault | undefined) | undefined
  /** No rules, no schedule, an empty log. */
  reset(): void
  /** Connections that are open. */
  readonly connections: number
}

/** Starts one on a free port of loopback, with an empty bucket. */
export async function startFaultyS3(options: FaultyS3Options = {}): Promise<FaultyS3> {
  const bucket = options.bucket ?? 'walrx-test'
  const store = new S3Objects({ ...options, bucket })
  const log: S3LogEntry[] = []
  const rules: (S3FaultRule & { left: number })[] = []
  const counts = new Map<S3Action, number>()
  const closing = new AbortController()
  const sockets = new Set<object>()
  let index = 0
  const chosen = (request: S3Request): S3Fault | undefined => {
    for (const rule of rules) {
      if (rule.left <= 0 || rule.actions?.includes(request.action) === false) continue
      if (rule.when && !rule.when(request)) continue
      rule.left--
      return rule.fault
    }
    return faulty.schedule?.(request)
  }
  const serve = async (incoming: IncomingMessage, response: ServerResponse) => {
    const read = await readRequest(incoming)
    const nth = counts.get(read.action) ?? 0
    counts.set(read.action, nth + 1)
    const request = { ...read, nth, index: index++ }
    const fault = chosen(request)
    const answer = answerOf(request, fault, store, options.allowed)
    const { action, key } = request
    const isAnswered = fault === undefined || fault.kind === 'answer' || fault.kind === 'late'
    log.push({ action, key, fault: fault?.kind, status: isAnswered ? answer?.status : undefined })
    if (fault?.kind === 'hang') return
    if (fault?.kind === 'late') await delay(fault.ms, undefined, { signal: closing.signal })
    send(incoming, response, answer, fault)
  }
  const server = createServer((incoming, response) => {
    serve(incoming, response).catch(() => incoming.socket.destroy())
  })
  server.on('connection', (socket) => {
    sockets.add(socket)
    socket.once('close', () => sockets.delete(socket))
  })
  server.keepAliveTimeout = 60_000
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const faulty: FaultyS3 = {
    endpoint: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    region: 'us-east-1',
    bucket,
    accessKeyId: 'walrx',
    secretAccessKey: 'walrx-secret',
    store,
    log,
    schedule: undefined,
    get connections() {
      return sockets.size
    },
    fail: (rule) => void rules.push({ ...rule, left: rule.count ?? 1 }),
    reset: () => {
      rules.length = 0
      log.length = 0
      faulty.schedule = undefined
    },
    async [Symbol.asyncDispose]() {
      closing.abort()
      const closed = once(server, 'close')
      server.close()
      server.closeAllConnections()
      await closed
    },
  }
  return faulty
}

/** The answer, after carrying the request out where the fault lets it; undefined for none. */
function answerOf(
  request: S3Request,
  fault: S3Fault | undefined,
  store: S3Objects,
  allowed: ReadonlySet<S3Action> | undefined,
): S3Answer | undefined {
  if (fault?.kind === 'refuse' || fault?.kind === 'hang') return undefined
  if (fault?.kind === 'answer') {
    return { status: fault.status, headers: fault.headers ?? {}, body: Buffer.from(fault.body ?? '') }
  }
  if (allowed && !allowed.has(request.action)) {
    return s3Error(403, 'AccessDenied', `not authorized to perform s3:${request.action}`)
  }
  const answer = store.answer(request)
  const isHidden = allowed && !allowed.has('ListObjectsV2') && answer.status === 404
  return isHidden ? s3Error(403, 'AccessDenied', 'Access Denied') : answer
}

function send(
  incoming: IncomingMessage,
  response: ServerResponse,
  answer: S3Answer | undefined,
  fault: S3Fault | undefined,
): void {
  if (!answer || fault?.kind === 'lost') {
    incoming.socket.destroy()
    return
  }
  const isHead = incoming.method === 'HEAD'
  const headers = { 'content-length': String(answer.body.length), ...answer.headers }
  response.writeHead(answer.status, { date: new Date().toUTCString(), 'x-amz-request-id': 'test', ...headers })
  if (fault?.kind === 'cut') {
    response.flushHeaders()
    response.write(answer.body.subarray(0, fault.bytes), () => incoming.socket.destroy())
    return
  }
  response.end(isHead ? undefined : answer.body)
}
