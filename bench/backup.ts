/**
 * `npm run bench -- backup` and `-- restore`: all contenders back the same idle cluster up over loopback, in turn,
 * several times; then each restores its own backup, and walrx's.
 */
import { execFile } from 'node:child_process'
import { access, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { pgBinary } from '../test/harness/postgres/postgres-files.ts'
import { type BackupContender, type BackupTask, findBackupPeers, walrxBackup } from './backup-contenders.ts'
import { type BackupMeasured, type BackupRun, writeBackupReport } from './backup-report.ts'
import { type BenchBucket, emptyBucket, findBucket } from './bucket.ts'
import { ContenderProcess } from './contender-process.ts'
import type { CodecName, Launch, Target } from './contenders.ts'
import { type AddedCost, addedCost, plainName, withBackupKey } from './encryption.ts'
import { describeMachine, programVersion } from './machine.ts'
import { NoiseMeter, percent } from './noise-meter.ts'
import { bytesBelow, PreparedCluster } from './prepared-cluster.ts'
import { buildWalrx } from './walrx-build.ts'
import type { WorkDirectory } from './work-directory.ts'

/** Options of the command line. */
export interface BackupBenchOptions {
  readonly work: WorkDirectory
  readonly resultsDirectory: string
  /** pgbench's: 15 MB each. */
  readonly scale: number
  readonly rounds: number
  readonly codecs: readonly CodecName[]
  readonly storage: 'file' | 's3'
  /** Measure with a key of libsodium, and walrx also without. */
  readonly encrypted: boolean
  readonly say: (text: string) => void
}

/** A run that takes longer has failed. */
const runTimeoutMs = 900_000

/** What all runs share. */
interface Arena extends BackupBenchOptions {
  readonly cluster: PreparedCluster
  readonly bucket: BenchBucket | undefined
  readonly main: string
}

/** Runs the bench of backups and writes its results. */
export async function benchBackup(options: BackupBenchOptions): Promise<void> {
  await inArena(options, async (arena, contenders) => {
    const measured: BackupMeasured[] = contenders.map((contender) => ({
      contender,
      of: '',
      runs: [],
      reason: contender.reason,
    }))
    await inRounds(arena, measured, async ({ contender }) => {
      const archive = await openArchive(arena, `backup-${contender.name}-${contender.codec}`)
      try {
        return await measure(arena, await contender.backup(archive.task), archive)
      } finally {
        await archive.remove()
      }
    })
    return measured
  })
}

/** Runs the bench of restores and writes its results. */
export async function benchRestore(options: BackupBenchOptions): Promise<void> {
  await inArena(
    options,
    async (arena, contenders) => {
      const archives = new Map<string, RunArchive>()
      try {
        for (const contender of contenders) {
          if (contender.reason !== undefined || !contender.restore) continue
          const archive = await openArchive(arena, `restore-${contender.name}-${contender.codec}`)
          archives.set(`${contender.name} ${contender.codec}`, archive)
          arena.say(`${contender.name} ${contender.codec}: the backup that is restored`)
          await measure(arena, await contender.backup(archive.task), archive)
        }
        const measured: BackupMeasured[] = contenders.flatMap((contender) => {
          const { name: own } = contender
          const others = contenders.map(({ name }) => name).filter((name) => name !== plainName)
          const sources = own === plainName ? [own] : own === 'walrx' ? others : [own, 'walrx']
          return [...new Set(sources)]
            .filter((of) => contender.restore && archives.has(`${of} ${contender.codec}`))
            .map((of) => ({ contender, of, runs: [], reason: contender.reason }))
        })
        await inRounds(arena, measured, async ({ contender, of }) => {
          const archive = archives.get(`${of} ${contender.codec}`)
          if (!archive || !contender.restore) throw new Error('there is no archive to restore')
          const destination = join(await arena.work.emptied('restored'), 'data')
          try {
            const launch = await contender.restore(archive.task, destination)
            const run = await measure(arena, launch, archive, destination)
            await proveRestored(arena.cluster, destination)
            return run
          } finally {
            await rm(destination, { recursive: true, force: true })
          }
        })
        return measured
      } finally {
        for (const archive of archives.values()) await archive.remove()
      }
    },
    'restore',
  )
}

async function inArena(
  options: BackupBenchOptions,
  run: (arena: Arena, contenders: readonly BackupContender[]) => Promise<BackupMeasured[]>,
  kind: 'backup' | 'restore' = 'backup',
): Promise<void> {
  const { codecs, rounds, say, storage, work } = options
  const bucket = storage === 's3' ? findBucket() : undefined
  if (storage === 's3' && !bucket) {
    throw new Error('for S3 set WALG_S3_PREFIX, AWS_ENDPOINT, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY')
  }
  const main = await buildWalrx(work, say)
  const version = await programVersion(process.execPath, [main, '--version'])
  const contenders = await findContenders(options, main, version)
  await using cluster = await PreparedCluster.open(work, options.scale, say)
  const machine = await describeMachine(work.path, await programVersion(pgBinary(17, 'postgres')))
  const measured = await run({ ...options, cluster, bucket, main }, contenders)
  const { dataBytes } = cluster
  const added = options.encrypted ? { added: addedCosts(measured, kind, codecs, dataBytes / 1e9) } : {}
  const report = { machine, kind, storage, rounds, scale: options.scale, dataBytes, measured, ...added }
  await writeBackupReport(report, options.resultsDirectory, say)
}

async function findContenders(
  { codecs, encrypted, storage }: BackupBenchOptions,
  main: string,
  version: string,
): Promise<BackupContender[]> {
  const own = codecs.map((codec) => walrxBackup(main, version, codec))
  const peers = await findBackupPeers(codecs, storage)
  if (!encrypted) return [...own, ...peers]
  const able = peers.filter(({ name }) => name !== 'pg_basebackup')
  const plain = own.map((contender) => ({ ...contender, name: plainName }))
  return [...own.map(withBackupKey), ...plain, ...able.map(withBackupKey)]
}

function addedCosts(
  measured: readonly BackupMeasured[],
  kind: 'backup' | 'restore',
  codecs: readonly CodecName[],
  gigabytes: number,
): AddedCost[] {
  const runsOf = (name: string, codec: CodecName) =>
    measured.find(
      ({ contender, of }) => contender.name === name && contender.codec === codec && (of === '' || of === name),
    )?.runs ?? []
  const work = kind === 'backup' ? 'encrypt' : 'decrypt'
  return codecs.flatMap((codec) => {
    const cost = addedCost(codec, work, gigabytes, runsOf(plainName, codec), runsOf('walrx', codec))
    return cost ? [cost] : []
  })
}

/**
 * A round of all contenders before the next one, so that a slow minute of the machine affects them all. Each round begins
 * with another one: memory and disk are not the same for the first after a pause and for those that follow.
 */
async function inRounds(
  { rounds, say }: Arena,
  measured: readonly BackupMeasured[],
  run: (entry: BackupMeasured) => Promise<BackupRun>,
): Promise<void> {
  for (let round = 1; round <= rounds; round++) {
    const first = Math.floor(((round - 1) * measured.length) / rounds)
    for (const entry of [...measured.slice(first), ...measured.slice(0, first)]) {
      if (entry.reason !== undefined) continue
      const label = `${entry.contender.name} ${entry.contender.codec}${entry.of === '' ? '' : ` of ${entry.of}'s`}`
      try {
        const result = await run(entry)
        entry.runs.push(result)
        say(`round ${round}: ${label}: ${describe(result)}`)
      } catch (error) {
        entry.reason = `failed: ${(error as Error).message.split('\n')[0]}`
        process.stderr.write(`${label}: ${(error as Error).message}\n`)
      }
    }
  }
}

/** @param written the directory that the contender writes into; default that of the archive, undefined for a bucket */
async function measure(
  { cluster }: Arena,
  launch: Launch,
  archive: RunArchive,
  written = archive.directory,
): Promise<BackupRun> {
  // Otherwise the one that comes next pays for what this machine has still to write to its disk.
  await cluster.server.checkpoint()
  await syncDisk()
  const meter = new NoiseMeter(cluster.server.pid ?? -1)
  await using contender = new ContenderProcess(launch, archive.task.stateDirectory)
  const timer = setTimeout(() => void contender[Symbol.asyncDispose](), runTimeoutMs)
  const end = await contender.ended
  const ownSeconds = (performance.now() - contender.startedAtMs) / 1000
  clearTimeout(timer)
  if (end !== 'exit status 0') throw new Error(`it ended with ${end}: ${contender.logTail}`)
  // Not every contender waits for the disk by itself.
  if (written !== undefined) await promisify(execFile)('sync', ['-f', written])
  const seconds = (performance.now() - contender.startedAtMs) / 1000
  const { cpuSeconds, rssBytes } = await contender.finish()
  return {
    seconds,
    ownSeconds,
    megabytesPerSecond: cluster.dataBytes / 1e6 / seconds,
    cpuSecondsPerGb: cpuSeconds / (cluster.dataBytes / 1e9),
    rssMegabytes: rssBytes / 1e6,
    storedMegabytes: (await archive.storedBytes()) / 1e6,
    noise: meter.read(),
  }
}

async function syncDisk(): Promise<void> {
  await promisify(execFile)('sync')
}

interface RunArchive {
  readonly task: BackupTask
  /** Undefined for a bucket. */
  readonly directory: string | undefined
  storedBytes(): Promise<number>
  remove(): Promise<void>
}

async function openArchive({ bucket, cluster, work }: Arena, name: string): Promise<RunArchive> {
  const stateDirectory = await work.emptied(`${name}-state`)
  const directory = await work.emptied(`${name}-archive`)
  const target: Target = bucket
    ? { kind: 's3', prefix: bucket.prefix(name), environment: bucket.environment }
    : { kind: 'file', directory }
  const storage = bucket?.open(name)
  return {
    directory: bucket ? undefined : directory,
    task: { port: cluster.server.port, target, stateDirectory, home: await work.made('home') },
    async storedBytes() {
      if (!storage) return bytesBelow(directory)
      let bytes = 0
      for await (const { size } of storage.list('')) bytes += size
      return bytes
    },
    async remove() {
      if (storage) await emptyBucket(storage)
      await work.remove(`${name}-archive`)
      await work.remove(`${name}-state`)
    },
  }
}

/** A restore that left something out would be a fast one. */
async function proveRestored(cluster: PreparedCluster, destination: string): Promise<void> {
  await access(join(destination, 'global/pg_control'))
  const bytes = await bytesBelow(join(destination, 'base'))
  // pg_internal.init files are not backed up.
  if (Math.abs(bytes - cluster.dataBytes) > 5e6) throw new Error(`${bytes} bytes restored of ${cluster.dataBytes}`)
}

function describe(run: BackupRun): string {
  const { cpuSecondsPerGb, megabytesPerSecond, noise, rssMegabytes, storedMegabytes } = run
  return (
    `${megabytesPerSecond.toFixed(0)} MB/s, ${cpuSecondsPerGb.toFixed(2)} CPU-s/GB, ` +
    `${rssMegabytes.toFixed(0)} MB RSS, ${storedMegabytes.toFixed(0)} MB stored; ` +
    `others had ${percent(noise.otherShare)} of the CPU, the hypervisor ${percent(noise.stolenShare)}`
  )
}
