/**
 * The server that every contender receives from: an embedded PostgreSQL 17 with gigabytes of pgbench WAL, held by a
 * slot that no process uses. Making it takes minutes, so it is kept in the work directory for the next run.
 */
import { access, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Client } from 'pg'
import { formatLsn, type Lsn, parseLsn, segmentStart } from '../src/postgres/lsn.ts'
import { segmentName } from '../src/postgres/wal/wal-file.ts'
import { clusterTemplate, copyTree, makeServerDirectory } from '../test/harness/postgres/postgres-files.ts'
import { openAndStart, type PostgresOptions, type TestPostgres } from '../test/harness/postgres/postgres.ts'
import { fillSegments, initPgbench, pgbenchScale } from './pgbench-wal.ts'
import type { WorkDirectory } from './work-directory.ts'

/** Bytes of a segment here. */
export const segmentBytes = 16 * 1024 * 1024

/** Holds the WAL; every run gets a copy of it. */
const templateSlot = 'walrx_bench_template'

/**
 * Like a real server's, where it matters to the WAL: full-page writes are on, and checkpoints come by the default
 * max_wal_size of 1 GB. fsync is off, because what is measured is not the server's disk.
 */
export const serverOptions: PostgresOptions = {
  major: 17,
  settings: {
    shared_buffers: '256MB',
    full_page_writes: 'on',
    max_wal_size: '1GB',
    autovacuum: 'off',
    max_replication_slots: '20',
    log_checkpoints: 'off',
  },
}

/** The WAL that is to be received. */
export interface WalRange {
  /** First byte of the first segment. */
  readonly startLsn: string
  /** One past the last byte of the last one. */
  readonly endLsn: string
  /** Names of the segments, in order. */
  readonly segments: readonly string[]
}

/** A prepared server that runs. */
export class PreparedServer implements AsyncDisposable {
  readonly server: TestPostgres
  readonly client: Client
  readonly range: WalRange
  /** An offline copy of the data directory without WAL, from just before the load. */
  readonly baseDataDir: string

  private constructor(server: TestPostgres, client: Client, range: WalRange, baseDataDir: string) {
    this.server = server
    this.client = client
    this.range = range
    this.baseDataDir = baseDataDir
  }

  /**
   * Starts the server of the last run, or makes one.
   * @param segmentCount how many segments of 16 MiB
   */
  static async open(work: WorkDirectory, segmentCount: number, say: (text: string) => void): Promise<PreparedServer> {
    const directory = work.at(`pg17-${segmentCount}-segments`)
    const ready = join(directory, 'prepared.json')
    if (!(await exists(ready))) await prepare(directory, segmentCount, ready, say)
    const { startLsn, endLsn } = JSON.parse(await readFile(ready, 'utf8')) as { startLsn: string; endLsn: string }
    const server = await openAndStart(directory, serverOptions)
    const range = { startLsn, endLsn, segments: segmentNames(parseLsn(startLsn), parseLsn(endLsn)) }
    return new PreparedServer(server, await server.client(), range, join(directory, 'base'))
  }

  /** A new slot that holds the same WAL as every other. */
  async copySlot(name: string): Promise<void> {
    await this.dropSlot(name)
    await this.client.query('select pg_copy_physical_replication_slot($1, $2)', [templateSlot, name])
  }

  /** Drops a slot; resolves when it is no longer in use and has been dropped. */
  async dropSlot(name: string): Promise<void> {
    await this.walsendersGone()
    await this.client.query(
      'select pg_drop_replication_slot(slot_name) from pg_replication_slots where slot_name = $1',
      [name],
    )
  }

  /** Resolves when no walsender runs any more. */
  async walsendersGone(): Promise<void> {
    const query = 'select count(*)::int as running from pg_stat_replication'
    while ((await this.client.query<{ running: number }>(query)).rows[0]?.running !== 0) {
      await new Promise((resolve) => setTimeout(resolve, 20))
    }
  }

  /** Stops the server and leaves its files for the next run. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.client.end()
    await this.server.stop('fast')
  }
}

async function exists(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  )
}

async function prepare(
  directory: string,
  segmentCount: number,
  ready: string,
  say: (text: string) => void,
): Promise<void> {
  await rm(directory, { recursive: true, force: true })
  await makeServerDirectory(directory, 0o755)
  await copyTree(await clusterTemplate({ major: 17, segmentSizeMb: 16, dataChecksums: false }), join(directory, 'data'))
  const server = await openAndStart(directory, serverOptions)
  say(`pgbench: tables of scale ${pgbenchScale}`)
  await initPgbench(server)
  await server.checkpoint()
  await server.stop('fast')
  await copyTree(server.dataDir, join(directory, 'base'), (path) => path.startsWith('pg_wal/'))
  await makeServerDirectory(join(directory, 'base/pg_wal/archive_status'), 0o700)
  await server.start()
  const client = await server.client()
  say(`pgbench: load until ${segmentCount} segments are full`)
  const { rows } = await client.query<{ lsn: string }>(
    'select lsn::text from pg_create_physical_replication_slot($1, true)',
    [templateSlot],
  )
  const startLsn = formatLsn(segmentStart(parseLsn(rows[0]?.lsn ?? ''), segmentBytes))
  const endLsn = await fillSegments(server, client, startLsn, segmentCount)
  await client.query('checkpoint')
  await client.end()
  await server.stop('fast')
  await writeFile(ready, JSON.stringify({ startLsn, endLsn }))
}

function segmentNames(start: Lsn, end: Lsn): string[] {
  const first = start / BigInt(segmentBytes)
  const count = Number(end / BigInt(segmentBytes) - first)
  return Array.from({ length: count }, (_, index) => segmentName(1, first + BigInt(index), segmentBytes))
}
