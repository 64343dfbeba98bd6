/** The results of the bench of commits that wait for the archive, for people and for programs. */
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { CommitTimes } from './commit-load.ts'
import type { Machine } from './machine.ts'
import { markdownTable } from './markdown.ts'
import { describeNoise, type Noise } from './noise-meter.ts'

/** A synchronous standby, and the times of commits that wait for it. */
export interface RpoRow {
  readonly name: string
  readonly version: string
  /** Added latency of the store; undefined where there is no store. */
  readonly latencyMs?: number
  /** Median of a small PUT into that store, all in all. */
  putMs?: number
  /** One for each number of clients. */
  readonly cells: CommitTimes[]
  /** What others had of the CPU just before. */
  noise?: Noise
  /** Why there is nothing (more), or undefined. */
  reason?: string | undefined
}

/** Everything that is reported. */
export interface RpoReport {
  readonly machine: Machine
  readonly store: string
  readonly scale: number
  readonly seconds: number
  readonly clients: readonly number[]
  readonly rows: readonly RpoRow[]
}

/** The aim for 32 clients: a commit takes at most so many PUTs, and so many milliseconds on top. */
const commitAim = { clients: 32, puts: 1.3, ms: 5 }
/** The aim for 200 clients and a store that takes 30 ms. */
const rateAim = { clients: 200, latencyMs: 30, perSecond: 3000 }

/** Writes `rpo.md` and `rpo.json`. */
export async function writeRpoReport(report: RpoReport, directory: string, say: (text: string) => void): Promise<void> {
  const text = renderRpoReport(report)
  const path = join(directory, 'rpo')
  await mkdir(directory, { recursive: true })
  await writeFile(`${path}.md`, text)
  await writeFile(`${path}.json`, `${JSON.stringify(report, null, 2)}\n`)
  say(`\n${text}\nwritten to ${path}.md and .json`)
}

/** The report as Markdown. */
export function renderRpoReport(report: RpoReport): string {
  const { clients, machine, rows, scale, seconds, store } = report
  const versions = [...new Set(rows.map(({ version }) => version).filter(Boolean))]
  const noises = rows.flatMap(({ noise }) => (noise ? [noise] : []))
  const missing = rows.filter(({ reason }) => reason !== undefined)
  const parts = [
    '# Commits that wait until the archive has them',
    `${machine.date}. ${machine.cpu}, ${machine.memory} memory, ${machine.kernel}, ${machine.disk}; load before the run ` +
      `${machine.loadBefore}.${describeNoise(noises).replace('During the runs', 'In the second before each row')}\n` +
      `Node ${machine.node}, ${machine.postgres}. ${versions.join('; ')}.`,
    `pgbench -N -M prepared, scale ${scale}, ${seconds} s for each cell, all of it on this machine: server, clients, store ` +
      'and receiver. The server flushes to its own disk too (fsync is on). "Commit" is the mean of the statement END alone, ' +
      'as `pgbench --report-per-command` has it; mean, p50 and p99 are of whole transactions, five statements and five ' +
      'round trips, as `pgbench --log` has them. Without a synchronous standby a commit waits for the ' +
      "server's disk only, with pg_receivewal for that of a directory as well, with walrx until the bucket has it. The " +
      `store is ${store}; a proxy delays each of its answers by what the row says. "PUT" is the median of ` +
      '8 kB through that proxy, measured in the same run while nothing else went on.',
    ...clients.map((count) => `${count === 1 ? '1 client' : `${count} clients`}:\n\n${table(rows, count)}`),
  ]
  const aims = listAims(rows)
  if (aims.length > 0) parts.push(`Aims:\n\n${aims.map((aim) => `- ${aim}`).join('\n')}`)
  if (missing.length > 0) parts.push(missing.map((row) => `- ${label(row)}: n/a, ${row.reason}`).join('\n'))
  return `${parts.join('\n\n')}\n`
}

function table(rows: readonly RpoRow[], clients: number): string {
  const heading = ['', 'PUT ms', 'commit ms', 'mean ms', 'p50 ms', 'p99 ms', 'commits/s', 'commit / PUT']
  const body = rows.map((row) => {
    const put = row.putMs === undefined ? '' : row.putMs.toFixed(1)
    const cell = row.cells.find((each) => each.clients === clients)
    if (!cell) return [label(row), put, ...Array.from({ length: 6 }, () => 'n/a')]
    const { commitMs, meanMs, p50Ms, p99Ms, perSecond } = cell
    const ratio = row.putMs === undefined ? '' : `${(commitMs / row.putMs).toFixed(2)} ×`
    return [
      label(row),
      put,
      ...[commitMs, meanMs, p50Ms, p99Ms].map((ms) => ms.toFixed(1)),
      perSecond.toFixed(0),
      ratio,
    ]
  })
  return markdownTable([heading, ...body])
}

function listAims(rows: readonly RpoRow[]): string[] {
  return rows.flatMap((row) => {
    const { cells, latencyMs, putMs } = row
    const aims: string[] = []
    const few = cells.find(({ clients }) => clients === commitAim.clients)
    if (few && putMs !== undefined) {
      const bound = commitAim.puts * putMs + commitAim.ms
      aims.push(
        `${label(row)}, ${few.clients} clients: a commit takes ${few.commitMs.toFixed(1)} ms, at most ${commitAim.puts} PUTs and ` +
          `${commitAim.ms} ms, which is ${bound.toFixed(1)} ms: ${verdict(few.commitMs <= bound)}`,
      )
    }
    const many = cells.find(({ clients }) => clients === rateAim.clients)
    if (many && latencyMs === rateAim.latencyMs) {
      aims.push(
        `${label(row)}, ${many.clients} clients: ${many.perSecond.toFixed(0)} commits/s, at least ${rateAim.perSecond}: ` +
          verdict(many.perSecond >= rateAim.perSecond),
      )
    }
    return aims
  })
}

function verdict(isReached: boolean): string {
  return isReached ? 'reached' : '**not reached**'
}

function label({ latencyMs, name }: RpoRow): string {
  return latencyMs === undefined ? name : `${name}, store + ${latencyMs} ms`
}
