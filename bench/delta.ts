/**
 * `npm run bench -- delta`: a full backup, a contiguous hundredth of the rows changed, a delta; several times. Then what
 * it costs to turn the server's increments into WAL-G's: one recorded stream, stored converted and as it came, in turn.
 */
import { execFile } from 'node:child_process'
import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { formatLsn } from '../src/postgres/lsn.ts'
import { parseBackupName } from '../src/walg/backup/backup-names.ts'
import { pushDelta } from '../test/e2e/delta/delta-push.ts'
import { RecordedServer } from '../test/e2e/backup/recorded-server.ts'
import { copyTree, makeServerDirectory, pgBinary } from '../test/harness/postgres/postgres-files.ts'
import { openAndStart, type TestPostgres } from '../test/harness/postgres/postgres.ts'
import { ContenderProcess } from './contender-process.ts'
import type { CodecName } from './contenders.ts'
import { type ConversionRound, type DeltaRound, type PushRun, writeDeltaReport } from './delta-report.ts'
import type { ReplayResult, ReplayTask, ReplayWay } from './delta-replay.ts'
import { describeMachine, programVersion } from './machine.ts'
import { NoiseMeter } from './noise-meter.ts'
import { bytesBelow, prepareCluster } from './prepared-cluster.ts'
import { serverOptions } from './prepared-server.ts'
import { buildWalrx } from './walrx-build.ts'
import type { WorkDirectory } from './work-directory.ts'

const run = promisify(execFile)

/** Options of the command line. */
export interface DeltaBenchOptions {
  readonly work: WorkDirectory
  readonly resultsDirectory: string
  /** pgbench's: 15 MB each. */
  readonly scale: number
  readonly rounds: number
  readonly codecs: readonly CodecName[]
  readonly say: (text: string) => void
}

/** Rows of pgbench_accounts for each of the scale. */
const accountsEach = 100_000

/** Every page holds 61 accounts: so each second page gets a change. */
const sparseEach = 122

/** In the order of the first round. */
const replayWays: readonly ReplayWay[] = ['raw', 'summed', 'converted']

/** What the runs share. */
interface Arena extends DeltaBenchOptions {
  readonly server: TestPostgres
  readonly main: string
}

/** Runs the bench and writes its results. */
export async function benchDelta(options: DeltaBenchOptions): Promise<void> {
  const { codecs, rounds, say, scale, work } = options
  const main = await buildWalrx(work, say)
  const version = await programVersion(process.execPath, [main, '--version'])
  const prepared = await prepareCluster(work, scale, say)
  // It is going to be changed, and others want the prepared one as it is.
  const directory = await work.emptied('delta-server')
  await makeServerDirectory(directory, 0o755)
  await copyTree(join(prepared, 'data'), join(directory, 'data'))
  const settings = { ...serverOptions.settings, summarize_wal: 'on' }
  await using server = await openAndStart(directory, { ...serverOptions, settings })
  const arena: Arena = { ...options, server, main }
  const dataBytes = await bytesBelow(join(server.dataDir, 'base'))
  const machine = await describeMachine(work.path, await programVersion(pgBinary(17, 'postgres')))
  const deltas: DeltaRound[] = []
  const conversions: ConversionRound[] = []
  let hundredth = 0
  for (let round = 1; round <= rounds; round++) {
    for (const codec of codecs) {
      const result = await deltaRound(arena, codec, hundredth++)
      deltas.push(result)
      say(`round ${round}: ${codec}: full ${describe(result.full)}; delta ${describe(result.delta)}`)
    }
  }
  for (const codec of codecs) {
    const task = await recordSparse(arena, codec)
    for (let round = 1; round <= rounds; round++) {
      // Each is the first in turn.
      const turn = (round - 1) % replayWays.length
      const results = new Map<ReplayWay, ReplayResult>()
      for (const way of [...replayWays.slice(turn), ...replayWays.slice(0, turn)])
        results.set(way, await replayIn(arena, { ...task, way }))
      const [raw, summed, converted] = replayWays.map((way) => results.get(way))
      if (!raw || !summed || !converted) throw new Error('never')
      conversions.push({ codec, raw, summed, converted })
      const took = replayWays.map((way) => `${results.get(way)?.cpuSeconds.toFixed(2)} ${way}`)
      say(`round ${round}: ${codec}: CPU-s ${took.join(', ')}`)
    }
    await rm(task.recording.path)
  }
  await work.remove('delta-archive')
  const report = { machine, version, scale, rounds, dataBytes, deltas, conversions }
  await writeDeltaReport(report, options.resultsDirectory, say)
}

function describe({ received, seconds, stored }: PushRun): string {
  return `${seconds.toFixed(2)} s, ${(received / 1e6).toFixed(1)} MB, ${(stored / 1e6).toFixed(1)} MB stored`
}

async function deltaRound(arena: Arena, codec: CodecName, hundredth: number): Promise<DeltaRound> {
  const { scale, server, work } = arena
  const archive = await work.emptied('delta-archive')
  const full = await push(arena, codec, archive, [])
  const count = (scale * accountsEach) / 100
  const first = 1 + (hundredth % 100) * count
  await server.sql(
    `update pgbench_accounts set abalance = abalance + 1 where aid between ${first} and ${first + count - 1}`,
  )
  const delta = await push(arena, codec, archive, ['--require-incremental'])
  return { codec, full, delta }
}

/** A backup by a process of its own. The checkpoint that each begins with has little left to write. */
async function push(
  { main, server, work }: Arena,
  codec: CodecName,
  archive: string,
  args: readonly string[],
): Promise<PushRun> {
  await server.checkpoint()
  await run('sync')
  const before = await bytesBelow(archive)
  const stateDirectory = await work.emptied('delta-state')
  const meter = new NoiseMeter(server.pid ?? -1)
  await using contender = new ContenderProcess(
    {
      command: process.execPath,
      args: [main, 'backup-push', '--no-wait', '--json', '--delta-max-steps', '1', ...args],
      environment: {
        PATH: process.env['PATH'] ?? '',
        HOME: await work.made('home'),
        PGHOST: '127.0.0.1',
        PGPORT: String(server.port),
        PGUSER: 'postgres',
        PGDATABASE: 'postgres',
        PGSSLMODE: 'disable',
        WALG_COMPRESSION_METHOD: codec,
        WALG_FILE_PREFIX: archive,
        WALRX_LOG_FORMAT: 'json',
      },
      endsByItself: true,
    },
    stateDirectory,
  )
  await contender.ended
  const seconds = (performance.now() - contender.startedAtMs) / 1000
  const { cpuSeconds, rssBytes } = await contender.finish()
  const printed = /^\{"backup_name".*$/m.exec(contender.logTail)?.[0] ?? '{}'
  const { uncompressed_size: received } = JSON.parse(printed) as { uncompressed_size?: number }
  if (received === undefined) throw new Error(`backup-push printed no result: ${contender.logTail}`)
  return {
    seconds,
    cpuSeconds,
    rssBytes,
    received,
    stored: (await bytesBelow(archive)) - before,
    noise: meter.read(),
  }
}

/** An incremental backup with a change in every second page, as the server sends it. */
async function recordSparse(
  { scale, server, work }: Arena,
  codec: CodecName,
): Promise<Omit<ReplayTask, 'way' | 'directory'>> {
  const root = await work.emptied('delta-archive')
  const recorded = new RecordedServer(server.conninfo(), work.at('delta-recording'))
  const take = () => pushDelta(recorded, root, { codec, maxSteps: 1, verifyChecksums: false })
  await take()
  await server.sql(
    `update pgbench_accounts set abalance = abalance + 1 where aid <= ${scale * accountsEach} and aid % ${sparseEach} = 0`,
  )
  const { full, name, sentinel } = await take()
  const timeline = parseBackupName(name)?.timeline
  const parentLsn = sentinel.delta?.parentLsn
  if (timeline === undefined || parentLsn === undefined) throw new Error(`a full backup: ${full?.message}`)
  return { recording: recorded.recording, parentLsn: formatLsn(parentLsn), timeline, codec }
}

async function replayIn({ work }: Arena, task: Omit<ReplayTask, 'directory'>): Promise<ReplayResult> {
  const directory = await work.emptied('delta-replayed')
  await run('sync')
  const program = fileURLToPath(new URL('delta-replay.ts', import.meta.url))
  const { stdout } = await run(process.execPath, [program, JSON.stringify({ ...task, directory })])
  await work.remove('delta-replayed')
  return JSON.parse(stdout) as ReplayResult
}
