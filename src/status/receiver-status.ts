/** What a status page says of the receivers in its process, read from `/readyz` and `/metrics`, and what is wrong there. */
import type { Clock } from '../primitives/clock.ts'
import { sleep } from '../primitives/clock.ts'
import { WalrxError } from '../primitives/errors.ts'
import type { ListenAddress } from './server.ts'
import { askStatusPage, reachable } from './status-client.ts'

/** One receiver. What its page does not say is undefined. */
export interface ReceiverStatus {
  /** Its name, as the metrics have it. */
  readonly cluster: string
  /** WAL is streaming, and a buffer is free for more of it. */
  readonly isReady: boolean
  readonly reason: string | undefined
  readonly state: string | undefined
  /** The server. */
  readonly host: string | undefined
  readonly timeline: number | undefined
  /** LSN up to which all WAL is in the archive. */
  readonly durableLsn: string | undefined
  readonly lastError: string | undefined
  /** Age of the oldest received WAL that is not durable. */
  readonly rpoSeconds: number | undefined
  /** WAL of the server that is not durable. */
  readonly rpoBytes: number | undefined
  /** WAL that came, over the last second. */
  readonly receivedBytesPerSecond: number | undefined
  /** Bytes of the objects that were stored, over the last second. */
  readonly storedBytesPerSecond: number | undefined
  /** WAL that the server keeps for the slot. */
  readonly slotLagBytes: number | undefined
  /** WAL that can be written before the server may invalidate the slot; Infinity without a limit. */
  readonly slotSafeBytes: number | undefined
  readonly slotWalStatus: string | undefined
  readonly isSlotOverBudget: boolean
  /** Gaps since the process began. */
  readonly gaps: number
}

/** Something that is wrong. */
export interface Concern {
  readonly level: 'warning' | 'critical'
  /** One sentence without a full stop. */
  readonly text: string
  /** What to do. */
  readonly advice: string
}

/** Milliseconds for an answer, and between the two readings that a rate takes. */
const answerMs = 5_000
const rateMs = 1_000

/**
 * Asks a page twice, a second apart.
 * @returns a receiver for each cluster of its metrics, by their names
 * @throws WALRX_CONNECT_FAILED where nobody answers, or it is no page of walrx; the signal's reason
 */
export async function readReceivers(
  listen: ListenAddress,
  clock: Clock,
  signal: AbortSignal,
): Promise<ReceiverStatus[]> {
  const { host, port } = reachable(listen)
  const at = `${host.includes(':') ? `[${host}]` : host}:${port}`
  const hint = 'start walrx wal-receive, or name the address of its status page with --status-listen'
  const ask = async (path: string): Promise<string> => {
    try {
      return (await askStatusPage({ host, port }, path, answerMs)).body
    } catch (error) {
      const why = (error as NodeJS.ErrnoException).code ?? (error as Error).message
      throw new WalrxError('WALRX_CONNECT_FAILED', `no receiver answers at ${at}: ${why}`, { hint, cause: error })
    }
  }
  const first = parseMetrics(await ask('/metrics'))
  const beganMs = clock.now()
  const clusters = [...new Set(first.keys())].flatMap((key) => clusterOf('walrx_receive_connected', key))
  if (!(await ask('/healthz')).includes('"status"')) {
    throw new WalrxError('WALRX_CONNECT_FAILED', `what answers at ${at} is no status page of walrx`, { hint })
  }
  await sleep(clock, rateMs, signal)
  const second = parseMetrics(await ask('/metrics'))
  const seconds = (clock.now() - beganMs) / 1000
  const ready = parseReadiness(await ask('/readyz'), clusters)
  return clusters
    .sort()
    .map((cluster) => receiverOf(cluster, { first, second, seconds, ready: ready.get(cluster) ?? {} }))
}

/** A series, as `name{labels}`, and its value. */
type Series = ReadonlyMap<string, number>

/** Reads Prometheus's text format, as far as walrx writes it. */
export function parseMetrics(text: string): Series {
  const lines = [...text.matchAll(/^(walrx_\w+(?:\{[^}]*\})?) (\S+)$/gm)]
  return new Map(
    lines.map(([, key = '', value = '']) => [key, value === '+Inf' ? Infinity : value === 'Nan' ? NaN : Number(value)]),
  )
}

function clusterOf(name: string, key: string): string[] {
  const label = new RegExp(`^${name}\\{cluster="((?:[^"\\\\]|\\\\.)*)"\\}$`).exec(key)?.[1]
  return label === undefined ? [] : [label.replace(/\\(.)/g, '$1')]
}

type Facts = Readonly<Record<string, unknown>>

/** One receiver speaks for itself; of several each has its place under `clusters`. */
function parseReadiness(text: string, clusters: readonly string[]): Map<string, Facts> {
  let page: Facts
  try {
    page = JSON.parse(text) as Facts
  } catch {
    return new Map()
  }
  const { clusters: several } = page
  if (typeof several === 'object' && several !== null) return new Map(Object.entries(several as Record<string, Facts>))
  return new Map(clusters.slice(0, 1).map((cluster) => [cluster, page]))
}

interface Readings {
  readonly first: Series
  readonly second: Series
  readonly seconds: number
  readonly ready: Facts
}

function receiverOf(cluster: string, { first, ready, second, seconds }: Readings): ReceiverStatus {
  const label = `cluster="${cluster.replace(/[\\"]/g, '\\$&')}"`
  const read = (series: Series, name: string) => {
    const value = series.get(`${name}{${label}}`)
    return value === undefined || Number.isNaN(value) ? undefined : value
  }
  const now = (name: string) => read(second, name)
  const rate = (name: string) => {
    const [before, after] = [read(first, name), read(second, name)]
    return before === undefined || after === undefined ? undefined : Math.max(0, after - before) / seconds
  }
  const text = (name: string) => (typeof ready[name] === 'string' ? ready[name] : undefined)
  const status = [...second.keys()].find((key) => key.startsWith('walrx_slot_wal_status{') && key.includes(label))
  return {
    cluster,
    isReady: ready['status'] === 'ready',
    reason: text('reason'),
    state: text('state'),
    host: text('host'),
    timeline: typeof ready['timeline'] === 'number' ? ready['timeline'] : undefined,
    durableLsn: text('durableLsn'),
    lastError: text('lastError'),
    rpoSeconds: now('walrx_rpo_seconds'),
    rpoBytes: now('walrx_rpo_bytes'),
    receivedBytesPerSecond: rate('walrx_receive_received_bytes_total'),
    storedBytesPerSecond: rate('walrx_receive_stored_bytes_total'),
    slotLagBytes: now('walrx_slot_lag_bytes'),
    slotSafeBytes: now('walrx_slot_safe_wal_bytes'),
    slotWalStatus: /\bstatus="(\w+)"/.exec(status ?? '')?.[1],
    isSlotOverBudget: now('walrx_slot_lag_over_budget') === 1,
    gaps: now('walrx_receive_gaps_total') ?? 0,
  }
}

/** WAL that is older, and not in the archive, is warned of: the limit of the alert in docs/monitoring.md. */
const rpoMaxSeconds = 300

/** What is wrong with a receiver. */
export function concernsOf(receiver: ReceiverStatus): Concern[] {
  const { gaps, isReady, isSlotOverBudget, lastError, reason, rpoSeconds = 0, slotWalStatus } = receiver
  const concerns: Concern[] = []
  const add = (level: Concern['level'], text: string, advice: string) => void concerns.push({ level, text, advice })
  if (!isReady) {
    const why = reason ?? lastError ?? 'its page does not say why'
    add('critical', `it is not ready: ${why}`, 'its log has the details; walrx check finds what is wrong around it')
  }
  if (slotWalStatus === 'lost' || slotWalStatus === 'unreserved') {
    add(
      'critical',
      `the slot is ${slotWalStatus}`,
      'the server removes WAL that is not archived: raise max_slot_wal_keep_size',
    )
  }
  if (isSlotOverBudget) {
    add(
      'critical',
      'the slot keeps more WAL than --max-slot-lag',
      "find out in the log why walrx is slow: the server's disk fills up",
    )
  }
  if (rpoSeconds > rpoMaxSeconds) {
    const text = `WAL of the last ${Math.round(rpoSeconds)} s is not archived, and ${rpoMaxSeconds} s should be the most`
    add('warning', text, 'look at the storage: walrx check --deep measures it')
  }
  if (gaps > 0) {
    add(
      'warning',
      `${gaps} ${gaps === 1 ? 'gap has' : 'gaps have'} been recorded since it began`,
      'take a backup: walrx backup-push',
    )
  }
  return concerns
}
