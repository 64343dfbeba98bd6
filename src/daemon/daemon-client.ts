/** One request to a daemon, walrx's, WAL-G's or WAL-RUS's. */
import { connect } from 'node:net'
import { WalrxError } from '../primitives/errors.ts'
import { systemErrorText, isSystemError } from '../primitives/system-error.ts'
import type { ReplyType } from './frames.ts'
import { checkSocketPath } from './socket-file.ts'

/** A request. */
export interface DaemonRequest {
  readonly socketPath: string
  readonly frame: Buffer
  /** Limit for connecting, in milliseconds; 0 for none. */
  readonly connectTimeoutMs: number
  /** Limit for the request and its answer, in milliseconds; 0 for none. */
  readonly timeoutMs: number
  readonly signal: AbortSignal
}

const startIt = 'is walrx daemon running, and is this its socket?'

/**
 * Sends the request, and reads the first byte of the answer.
 * @throws WALRX_DAEMON_FAILED where there is no answer, or none that the protocol knows; the signal's reason
 */
export function askDaemon({
  connectTimeoutMs,
  frame,
  signal,
  socketPath,
  timeoutMs,
}: DaemonRequest): Promise<ReplyType> {
  checkSocketPath(socketPath)
  return new Promise((resolve, reject) => {
    const socket = connect(socketPath)
    let timer: NodeJS.Timeout | undefined
    const finish = (settle: () => void) => {
      clearTimeout(timer)
      signal.removeEventListener('abort', onAbort)
      socket.destroy()
      settle()
    }
    const fail = (problem: string, cause?: unknown, hint?: string) =>
      finish(() => reject(new WalrxError('WALRX_DAEMON_FAILED', problem, { cause, ...(hint && { hint }) })))
    const limit = (ms: number, what: string) => {
      clearTimeout(timer)
      if (ms > 0) timer = setTimeout(() => fail(`the daemon at ${socketPath} ${what} within ${ms / 1000} s`), ms)
    }
    const onAbort = () => finish(() => reject(signal.reason as Error))
    signal.addEventListener('abort', onAbort, { once: true })
    limit(connectTimeoutMs, 'took no connection')
    socket.once('connect', () => {
      limit(timeoutMs, 'has not answered')
      socket.write(frame)
    })
    socket.once('data', (answer: Buffer) => {
      const type = String.fromCharCode(answer[0] ?? 0)
      if (type === 'O' || type === 'E' || type === 'N') finish(() => resolve(type))
      else fail(`the daemon at ${socketPath} has answered ${JSON.stringify(type)}`)
    })
    socket.once('end', () => fail(`the daemon at ${socketPath} has closed the connection without an answer`))
    socket.once('error', (error) => {
      const text = isSystemError(error) ? systemErrorText(error) : error.message
      fail(`the daemon at ${socketPath} cannot be asked: ${text}`, error, startIt)
    })
    if (signal.aborted) onAbort()
  })
}
