/**
 * `npm run bench -- recover`: a real server recovers the same data directory from the same WAL, through each way to get
 * it. What counts is segments per second as the server itself logs them, replay included.
 */
import { execFile } from 'node:child_process'
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { formatLsn, parseLsn, toLsn } from '../src/postgres/lsn.ts'
import { copyTree, giveToServer, makeServerDirectory, pgBinary } from '../test/harness/postgres/postgres-files.ts'
import { openAndStart } from '../test/harness/postgres/postgres.ts'
import { allArchived } from './catch-up.ts'
import { watchDirectory } from './archive-watch.ts'
import { ContenderProcess } from './contender-process.ts'
import { walrx } from './contenders.ts'
import { describeMachine, programVersion } from './machine.ts'
import { PreparedServer, segmentBytes, serverOptions } from './prepared-server.ts'
import { type RecoverReport, type Recovered, writeRecoverReport } from './recover-report.ts'
import { buildWalrx } from './walrx-build.ts'
import type { WorkDirectory } from './work-directory.ts'

/** Options of the command line. */
export interface RecoverBenchOptions {
  readonly work: WorkDirectory
  readonly resultsDirectory: string
  /** Size of the prepared server's WAL; its first segments are replayed. */
  readonly gigabytes: number
  readonly segments: number
  readonly rounds: number
  readonly say: (text: string) => void
}

/** A way to get WAL. */
interface Way {
  readonly name: string
  readonly version: string
  readonly restoreCommand: string
  readonly environment: Readonly<Record<string, string>>
}

/** A recovery that takes longer has failed. */
const recoveryTimeoutMs = 480_000

/** Runs the bench and writes its results. */
export async function benchRecover(options: RecoverBenchOptions): Promise<void> {
  const { rounds, say, work } = options
  const segmentCount = Math.ceil((options.gigabytes * 1e9) / segmentBytes)
  await using prepared = await PreparedServer.open(work, segmentCount, say)
  const segments = prepared.range.segments.slice(0, options.segments)
  const machine = await describeMachine(work.path, await programVersion(pgBinary(17, 'postgres')))
  const main = await buildWalrx(work, say)
  const archive = await makeArchive(work, prepared, main, say)
  const [ways, absent] = await findWays(work, prepared, main, archive)
  const recovered: Recovered[] = [...ways.map(({ name, version }) => ({ name, version, rates: [] })), ...absent]
  for (let round = 1; round <= rounds; round++) {
    for (const way of ways) {
      const entry = recovered.find(({ name }) => name === way.name)
      if (!entry || entry.reason !== undefined) continue
      try {
        const rate = await runRecovery(work, prepared, way, segments)
        entry.rates.push(rate)
        say(`round ${round}: ${way.name}: ${rate.toFixed(1)} segments/s`)
      } catch (error) {
        entry.reason = `failed: ${(error as Error).message.split('\n')[0]}`
        process.stderr.write(`${way.name}: ${(error as Error).message}\n`)
      }
    }
  }
  const report: RecoverReport = { machine, rounds, segments: segments.length, recovered }
  await writeRecoverReport(report, options.resultsDirectory, say)
}

/** Archives the prepared server's WAL with walrx: all but `cp` read the same objects. */
async function makeArchive(
  work: WorkDirectory,
  prepared: PreparedServer,
  main: string,
  say: (text: string) => void,
): Promise<string> {
  say('walrx wal-receive: the archive that is recovered from')
  const directory = await work.emptied('recover', 'archive')
  const stateDirectory = await work.emptied('recover', 'state')
  const slot = 'walrx_bench_archive'
  await prepared.copySlot(slot)
  try {
    await using watch = watchDirectory(join(directory, 'wal_005'))
    const { port } = prepared.server
    const target = { kind: 'file', directory } as const
    const launch = await walrx(main, '', { codec: 'zstd' }).launch({
      port,
      slot,
      target,
      stateDirectory,
      home: await work.made('home'),
      endLsn: prepared.range.endLsn,
    })
    await using receiver = new ContenderProcess(launch, stateDirectory)
    await allArchived(receiver, watch, prepared.range.segments)
    await receiver.finish()
  } finally {
    await prepared.dropSlot(slot)
  }
  return directory
}

async function findWays(
  work: WorkDirectory,
  prepared: PreparedServer,
  main: string,
  archive: string,
): Promise<[Way[], Recovered[]]> {
  const home = work.at('recover', 'home')
  await mkdir(home, { recursive: true })
  await giveToServer(home)
  const environment = { HOME: home, WALG_FILE_PREFIX: archive, WALG_COMPRESSION_METHOD: 'zstd' }
  const { stdout } = await promisify(execFile)(process.execPath, [main, 'restore-command'], {
    env: { ...environment, PATH: process.env['PATH'] },
  })
  const printed = /^restore_command = '(.*)'$/m.exec(stdout)?.[1]?.replaceAll("''", "'")
  if (printed === undefined) throw new Error(`walrx restore-command printed none:\n${stdout}`)
  const ways: Way[] = [
    {
      name: 'cp of raw segments',
      version: '',
      restoreCommand: `cp "${prepared.server.pgWal()}/%f" "%p"`,
      environment: {},
    },
    {
      name: 'walrx',
      version: await programVersion(process.execPath, [main, '--version']),
      restoreCommand: printed,
      environment,
    },
  ]
  const absent: Recovered[] = []
  for (const [variable, name] of [
    ['WALG_BIN', 'WAL-G'],
    ['WALRUS_BIN', 'WAL-RUS'],
  ] as const) {
    const binary = process.env[variable]
    if (!binary) {
      absent.push({ name, version: '', rates: [], reason: `${variable} names no binary` })
      continue
    }
    const restoreCommand = `"${binary}" wal-fetch "%f" "%p"`
    ways.push({ name, version: await programVersion(binary), restoreCommand, environment })
  }
  return [ways, absent]
}

/** Recovers a fresh copy through the last of `segments`. Returns segments per second. */
async function runRecovery(
  work: WorkDirectory,
  prepared: PreparedServer,
  way: Way,
  segments: readonly string[],
): Promise<number> {
  const directory = await work.emptied('recover', 'server')
  const dataDir = join(directory, 'data')
  await makeServerDirectory(directory, 0o755)
  await copyTree(prepared.baseDataDir, dataDir)
  await writeFile(join(dataDir, 'recovery.signal'), '')
  await giveToServer(join(dataDir, 'recovery.signal'))
  // The first record after the start of the last segment ends the recovery.
  const start = parseLsn(prepared.range.startLsn)
  const target = formatLsn(toLsn(start + BigInt(segments.length - 1) * BigInt(segmentBytes) + 1n))
  const server = await openAndStart(
    directory,
    {
      ...serverOptions,
      settings: {
        ...serverOptions.settings,
        restore_command: way.restoreCommand,
        recovery_target_lsn: target,
        recovery_target_action: 'shutdown',
      },
      env: way.environment,
    },
    false,
  )
  try {
    await server.ended(recoveryTimeoutMs)
    return segmentRate(await server.log(), segments)
  } finally {
    await server[Symbol.asyncDispose]()
  }
}

/** Segments per second between the first and the last that the log names as restored. */
function segmentRate(log: string, segments: readonly string[]): number {
  const times = new Map<string, number>()
  for (const [, time, name] of log.matchAll(/^(\S+ \S+) UTC .*restored log file "([0-9A-F]{24})" from archive/gm)) {
    if (time !== undefined && name !== undefined) times.set(name, Date.parse(`${time.replace(' ', 'T')}Z`))
  }
  const missing = segments.find((segment) => !times.has(segment))
  if (missing !== undefined) throw new Error(`the server did not restore ${missing}:\n${log.slice(-2000)}`)
  const first = times.get(segments[0] ?? '') ?? NaN
  const last = times.get(segments.at(-1) ?? '') ?? NaN
  return (segments.length - 1) / ((last - first) / 1000)
}
