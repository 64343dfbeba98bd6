/**
 * pgbench's own record of how long each transaction took, from its first statement until its commit was acknowledged,
 * and how long the commit alone.
 */
import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { TestPostgres } from '../test/harness/postgres/postgres.ts'
import { runPgbench } from './pgbench-wal.ts'
import { quantile } from './statistics.ts'
import type { WorkDirectory } from './work-directory.ts'

/** Seconds of each run that don't count: connections, prepared statements, the first round of everything. */
const warmUpSeconds = 1

/** What some clients saw of their commits. */
export interface CommitTimes {
  readonly clients: number
  readonly transactions: number
  readonly perSecond: number
  /** Of the statement END alone, the warm-up included. */
  readonly commitMs: number
  /** Of whole transactions, as the two that follow. */
  readonly meanMs: number
  readonly p50Ms: number
  readonly p99Ms: number
}

/** Runs pgbench's simple-update script (`-N`) with prepared statements. @param seconds that count */
export async function runCommitLoad(
  server: TestPostgres,
  work: WorkDirectory,
  clients: number,
  seconds: number,
): Promise<CommitTimes> {
  const directory = await work.emptied('commit-log')
  const flags = [
    '--no-vacuum',
    '--skip-some-updates',
    '--protocol',
    'prepared',
    '--random-seed',
    '42',
    '--log',
    '--report-per-command',
  ]
  const sizes = ['--client', clients, '--jobs', Math.min(clients, 2), '--time', warmUpSeconds + seconds].map(String)
  const report = await runPgbench(server, [...flags, ...sizes], directory)
  const lines: string[] = []
  for (const name of await readdir(directory)) {
    lines.push(...(await readFile(join(directory, name), 'latin1')).trimEnd().split('\n'))
  }
  await work.remove('commit-log')
  // From version 15 on the number of failures stands between.
  const commitMs = Number(/^\s*([\d.]+)\s+(?:\d+\s+)?END;$/m.exec(report)?.[1])
  if (Number.isNaN(commitMs)) throw new Error(`pgbench reported no commit times: ${report}`)
  return { ...commitTimes(lines, clients, seconds), commitMs }
}

/** What the lines of `--log` say: client, number, duration in µs, script, time of the end in s and µs. */
function commitTimes(lines: readonly string[], clients: number, seconds: number): Omit<CommitTimes, 'commitMs'> {
  const all = lines.map((line) => {
    const [, , durationUs, , endSeconds, endUs] = line.split(' ').map(Number)
    return { ms: (durationUs ?? NaN) / 1000, end: (endSeconds ?? NaN) + (endUs ?? NaN) / 1e6 }
  })
  const begin = all.reduce((least, { end, ms }) => Math.min(least, end - ms / 1000), Infinity) + warmUpSeconds
  const counted = all.filter(({ end }) => end >= begin && end < begin + seconds).map(({ ms }) => ms)
  return {
    clients,
    transactions: counted.length,
    perSecond: counted.length / seconds,
    meanMs: counted.reduce((sum, ms) => sum + ms, 0) / counted.length,
    p50Ms: quantile(counted, 0.5),
    p99Ms: quantile(counted, 0.99),
  }
}
