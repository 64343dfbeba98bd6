/** What is known of this machine and of this process. */
import { readFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import process from 'node:process'
import type { Clock } from '../../primitives/clock.ts'
import type { ListenAddress } from '../../status/server.ts'
import { askStatusPage, reachable } from '../../status/status-client.ts'
import { ifSoon } from '../attempt.ts'

/** Who has the address of the status page. */
export type PortState =
  | { readonly kind: 'free' }
  /** A walrx, with the clusters that its metrics name. */
  | { readonly kind: 'walrx'; readonly clusters: readonly string[] }
  | { readonly kind: 'taken' }
  /** It cannot be listened at: the errno. */
  | { readonly kind: 'refused'; readonly code: string }

/** See the file's header. */
export interface MachineFacts {
  /** `24.1.0` */
  readonly nodeVersion: string
  /** Soft limit of open files; undefined where /proc does not say it. */
  readonly openFilesMax: number | undefined
  /** Bytes that a control group allows; undefined for no limit. */
  readonly memoryMaxBytes: number | undefined
  /** Undefined for --status-listen off. */
  readonly port: PortState | undefined
}

/** Reads them. Never throws. @param listen undefined for no status page */
export async function readMachine(listen: ListenAddress | undefined, clock: Clock): Promise<MachineFacts> {
  const limits = await readFile('/proc/self/limits', 'latin1').catch(() => '')
  const constrained = process.constrainedMemory()
  return {
    nodeVersion: process.versions.node,
    openFilesMax: parseOpenFiles(limits),
    // No limit is 0, or a number of all bits.
    memoryMaxBytes: constrained > 0 && constrained < 2 ** 50 ? constrained : undefined,
    port: listen && (await portState(listen, clock)),
  }
}

/** The soft limit in the text of /proc/PID/limits (proc_pid_limits(5)); Infinity for `unlimited`. */
export function parseOpenFiles(limits: string): number | undefined {
  const soft = /^Max open files +(\S+)/m.exec(limits)?.[1]
  if (soft === 'unlimited') return Infinity
  return soft === undefined ? undefined : Number(soft)
}

const answerMs = 2_000

async function portState(listen: ListenAddress, clock: Clock): Promise<PortState> {
  // Port 0 chooses a free one.
  if (listen.port === 0) return { kind: 'free' }
  // A name server may be asked for it.
  const code = (await ifSoon(listenOnce(listen), clock)) ?? 'its name is not resolved'
  if (code === 'done') return { kind: 'free' }
  if (code !== 'EADDRINUSE') return { kind: 'refused', code }
  try {
    const { body } = await askStatusPage(reachable(listen), '/metrics', answerMs)
    if (!body.includes('walrx_build_info')) return { kind: 'taken' }
    const clusters = [...body.matchAll(/^walrx_receive_connected\{cluster="((?:[^"\\]|\\.)*)"/gm)].map(
      ([, name = '']) => name,
    )
    return { kind: 'walrx', clusters }
  } catch {
    return { kind: 'taken' }
  }
}

/** Listens, and stops at once. @returns `done`, or the errno where that is refused */
function listenOnce({ host, port }: ListenAddress): Promise<string> {
  const { promise, resolve } = Promise.withResolvers<string>()
  const server = createServer()
  server.once('error', (error: NodeJS.ErrnoException) => resolve(error.code ?? error.message))
  server.listen({ host, port, exclusive: true }, () => server.close(() => resolve('done')))
  return promise
}
