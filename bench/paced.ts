/**
 * How soon a full segment is safe: the time from the moment at which the server has flushed a segment's last byte until
 * its object is in the archive under its final name. pgbench runs at a limited rate meanwhile, so that a receiver has
 * time for one segment before the next is full, as on an ordinary day.
 */
import { copyFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import type { Client } from 'pg'
import { parseLsn } from '../src/postgres/lsn.ts'
import { segmentName } from '../src/postgres/wal/wal-file.ts'
import { copyTree, giveToServer, makeServerDirectory } from '../test/harness/postgres/postgres-files.ts'
import { openAndStart, type TestPostgres } from '../test/harness/postgres/postgres.ts'
import { type Arena, openRunArchive } from './catch-up.ts'
import { ContenderProcess } from './contender-process.ts'
import type { Contender } from './contenders.ts'
import { startPgbenchLoad } from './pgbench-wal.ts'
import { type PreparedServer, segmentBytes, serverOptions } from './prepared-server.ts'
import type { WorkDirectory } from './work-directory.ts'

/** Transactions per second. With full-page writes about two seconds a segment. */
const rate = 1000

/** How often the server is asked for its flush position; the times are too long by up to this. */
const pollMs = 4

/** Segments that pass before the first one counts: the first write of each page, and the contender's own warming up. */
const warmUpSegments = 3

/** How long the last segments may take to appear. */
const patienceMs = 30_000

/** What was measured. */
export interface PacedResult {
  /** One value for each segment, in milliseconds. */
  readonly delaysMs: readonly number[]
}

/** Starts a server of its own on the copy from before the load. */
export async function startPacedServer(work: WorkDirectory, prepared: PreparedServer): Promise<TestPostgres> {
  const directory = await work.emptied('paced')
  const dataDir = join(directory, 'data')
  await makeServerDirectory(directory, 0o755)
  await copyTree(prepared.baseDataDir, dataDir)
  // The copy holds no WAL, and a server wants its last checkpoint: that is in the first segment of the range.
  const [segment = ''] = prepared.range.segments
  await copyFile(join(prepared.server.pgWal(), segment), join(dataDir, 'pg_wal', segment))
  await giveToServer(join(dataDir, 'pg_wal', segment))
  return openAndStart(directory, serverOptions)
}

/** Runs one contender during the load until so many segments have been timed. */
export async function runPaced(
  contender: Contender,
  arena: Pick<Arena, 'work' | 'storage' | 'bucket'>,
  server: TestPostgres,
  segments: number,
): Promise<PacedResult> {
  const archive = await openRunArchive(arena, pollMs)
  const client = await server.client()
  const slot = 'walrx_bench_paced'
  const load = startPgbenchLoad(server, rate)
  try {
    await client.query('select pg_create_physical_replication_slot($1, true)', [slot])
    await using watch = archive.watch()
    const { target, stateDirectory, home } = archive
    const launch = await contender.launch({
      port: server.port,
      slot,
      target,
      stateDirectory,
      home,
      endLsn: undefined,
    })
    await using contenderProcess = new ContenderProcess(launch, stateDirectory)
    const flushed = await timeSegments(client, segments, contenderProcess)
    await load.stop()
    await watch.waitFor([...flushed.keys()], AbortSignal.timeout(patienceMs))
    await contenderProcess.finish()
    return { delaysMs: [...flushed].map(([segment, flushedMs]) => (watch.seen.get(segment) ?? NaN) - flushedMs) }
  } finally {
    await load.stop()
    await dropSlot(client, slot)
    await client.end()
    await archive.remove()
  }
}

/** When the server had flushed each segment's last byte, by segment name. */
async function timeSegments(client: Client, count: number, contender: ContenderProcess): Promise<Map<string, number>> {
  const flushed = new Map<string, number>()
  let ended: string | undefined
  void contender.ended.then((end) => (ended = end))
  let current = await flushedSegment(client)
  let skip = warmUpSegments
  while (flushed.size < count) {
    await delay(pollMs)
    if (ended !== undefined) throw new Error(`it ended with ${ended}: ${contender.logTail}`)
    const segno = await flushedSegment(client)
    const nowMs = performance.now()
    for (; current < segno; current++) {
      if (skip > 0) skip--
      else if (flushed.size < count) flushed.set(segmentName(1, current, segmentBytes), nowMs)
    }
  }
  return flushed
}

/** Number of the segment that the flush position is in. */
async function flushedSegment(client: Client): Promise<bigint> {
  const { rows } = await client.query<{ lsn: string }>({
    name: 'flushed',
    text: 'select pg_current_wal_flush_lsn()::text as lsn',
  })
  return parseLsn(rows[0]?.lsn ?? '0/0') / BigInt(segmentBytes)
}

async function dropSlot(client: Client, slot: string): Promise<void> {
  const active = 'select active from pg_replication_slots where slot_name = $1'
  while ((await client.query<{ active: boolean }>(active, [slot])).rows[0]?.active === true) await delay(20)
  await client.query('select pg_drop_replication_slot(slot_name) from pg_replication_slots where slot_name = $1', [
    slot,
  ])
}
