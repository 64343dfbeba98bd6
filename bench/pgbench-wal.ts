/** WAL as pgbench's own load makes it. */
import { type ChildProcess, spawn } from 'node:child_process'
import { accessSync, constants } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import type { Client } from 'pg'
import type { TestPostgres } from '../test/harness/postgres/postgres.ts'

/** 5 million accounts, 750 MB: large enough that most updates after a checkpoint touch a page for the first time. */
export const pgbenchScale = 50

/** The load's clients. */
const clients = 4

/** The seed of pgbench's own random numbers. */
const seed = '42'

/** pgbench of `PG_BIN`, else of PATH. */
export function findPgbench(): string {
  const directories = process.env['PG_BIN'] ? [process.env['PG_BIN']] : (process.env['PATH'] ?? '').split(':')
  for (const directory of directories) {
    const path = join(directory, 'pgbench')
    try {
      accessSync(path, constants.X_OK)
      return path
    } catch {
      continue
    }
  }
  throw new Error('pgbench was not found: name the directory of PostgreSQL client programs in PG_BIN')
}

function startPgbench(server: TestPostgres, args: readonly string[], directory?: string): ChildProcess {
  return spawn(findPgbench(), [...args, 'postgres'], {
    cwd: directory,
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { PATH: process.env['PATH'], PGHOST: '127.0.0.1', PGPORT: String(server.port), PGUSER: 'postgres' },
  })
}

/** Returns the last of what it printed. */
async function ended(child: ChildProcess): Promise<string> {
  let stdout = ''
  let stderr = ''
  child.stdout?.setEncoding('utf8').on('data', (text: string) => (stdout = (stdout + text).slice(-10_000)))
  child.stderr?.setEncoding('utf8').on('data', (text: string) => (stderr = (stderr + text).slice(-2000)))
  const { promise, resolve, reject } = Promise.withResolvers<void>()
  child.once('error', reject)
  child.once('close', (code, signal) => {
    if (code === 0 || signal !== null) resolve()
    else reject(new Error(`pgbench ended with status ${code}: ${stderr}`))
  })
  await promise
  return stdout
}

/** Makes pgbench's tables. @param scale 100,000 accounts each */
export async function initPgbench(server: TestPostgres, scale: number = pgbenchScale): Promise<void> {
  await ended(startPgbench(server, ['--initialize', '--quiet', '--scale', String(scale)]))
}

/**
 * Runs pgbench to its end.
 * @param directory where it writes its logs
 * @returns its report
 */
export async function runPgbench(server: TestPostgres, args: readonly string[], directory: string): Promise<string> {
  return ended(startPgbench(server, args, directory))
}

/** A running load. */
export interface PgbenchLoad {
  stop(): Promise<void>
}

/**
 * Starts pgbench's TPC-B-like load.
 * @param transactionsPerSecond undefined for as fast as it goes
 */
export function startPgbenchLoad(server: TestPostgres, transactionsPerSecond?: number): PgbenchLoad {
  const args = ['--no-vacuum', '--client', String(clients), '--jobs', '1', '--time', '86400', '--random-seed', seed]
  if (transactionsPerSecond !== undefined) args.push('--rate', String(transactionsPerSecond))
  const child = startPgbench(server, args)
  const end = ended(child)
  end.catch(() => {})
  return {
    async stop() {
      child.kill('SIGTERM')
      await end
    },
  }
}

/**
 * Runs the load until so many segments from `startLsn` on are full.
 * @returns the boundary after the last one, `X/X`
 */
export async function fillSegments(
  server: TestPostgres,
  client: Client,
  startLsn: string,
  segments: number,
): Promise<string> {
  const load = startPgbenchLoad(server)
  try {
    // The last segment is ended by a switch, so that the range ends where a segment does.
    const enough = `select pg_current_wal_lsn() - $1::pg_lsn >= ($2::numeric - 0.5) * 16777216 as done`
    while (!(await client.query<{ done: boolean }>(enough, [startLsn, segments])).rows[0]?.done) await delay(50)
  } finally {
    await load.stop()
  }
  // pg_switch_wal gives the end of the switch record; its segment is over from there on.
  const { rows } = await client.query<{ lsn: string }>(
    `select ('0/0'::pg_lsn + ceil((pg_switch_wal() - '0/0'::pg_lsn) / 16777216) * 16777216)::text as lsn`,
  )
  return rows[0]?.lsn ?? ''
}
