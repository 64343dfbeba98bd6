/** One run: a contender archives the whole range of the prepared server, as fast as it can. */
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { type ArchiveWatch, watchBucket, watchDirectory } from './archive-watch.ts'
import { type BenchBucket, emptyBucket } from './bucket.ts'
import { ContenderProcess } from './contender-process.ts'
import type { Contender, Target } from './contenders.ts'
import { decryptObject } from './encryption.ts'
import { type Noise, NoiseMeter } from './noise-meter.ts'
import { type PreparedServer, segmentBytes } from './prepared-server.ts'
import { endedChildrenCpu } from './process-sampler.ts'
import { verifySegments } from './verify-segments.ts'
import type { WorkDirectory } from './work-directory.ts'

/** What one run measured. */
export interface CatchUpResult {
  /** From the start of the process until the last segment lay in the archive. */
  readonly seconds: number
  readonly megabytesPerSecond: number
  /** The contender's, per GB (10^9 bytes) of WAL. */
  readonly cpuSecondsPerGb: number
  /** The walsender's, per GB of WAL. */
  readonly serverCpuSecondsPerGb: number
  readonly rssMegabytes: number
  readonly commitMegabytes: number
  readonly storedMegabytes: number
  readonly noise: Noise
}

/** Where a run takes place. */
export interface Arena {
  readonly work: WorkDirectory
  readonly prepared: PreparedServer
  readonly storage: 'file' | 's3'
  readonly bucket: BenchBucket | undefined
}

/** A contender that does nothing for so long has failed. */
const runTimeoutMs = 600_000

/** A listing is work for the store, which shares the machine: seldom, while only the end of the run is looked for. */
const bucketPollMs = 100

let runCount = 0

/** An archive of one run: where it is, and how it is watched. */
export interface RunArchive {
  readonly target: Target
  readonly stateDirectory: string
  readonly home: string
  /** Starts to look. */
  watch(): ArchiveWatch
  remove(): Promise<void>
}

/** Makes an empty archive for a run. */
export async function openRunArchive(
  { work, storage, bucket }: Pick<Arena, 'work' | 'storage' | 'bucket'>,
  pollMs: number,
): Promise<RunArchive> {
  const name = `run-${process.pid}-${++runCount}`
  const stateDirectory = await work.emptied('runs', name, 'state')
  const home = await work.made('home')
  if (storage === 'file') {
    const directory = await work.emptied('runs', name, 'archive')
    return {
      target: { kind: 'file', directory },
      stateDirectory,
      home,
      watch: () => watchDirectory(join(directory, 'wal_005')),
      remove: () => work.remove('runs', name),
    }
  }
  if (!bucket) throw new Error('no bucket')
  const store = bucket.open(name)
  return {
    target: { kind: 's3', prefix: bucket.prefix(name), environment: bucket.environment },
    stateDirectory,
    home,
    watch: () => watchBucket(store, pollMs),
    async remove() {
      await work.remove('runs', name)
      await emptyBucket(store)
      await store.close()
    },
  }
}

/** Runs one contender over the whole range. */
export async function runCatchUp(contender: Contender, arena: Arena): Promise<CatchUpResult> {
  const { prepared } = arena
  const { server, range } = prepared
  const archive = await openRunArchive(arena, bucketPollMs)
  const slot = 'walrx_bench_run'
  await prepared.copySlot(slot)
  const postmaster = server.pid ?? 0
  const serverCpuBefore = endedChildrenCpu(postmaster)
  const meter = new NoiseMeter(postmaster)
  try {
    await using watch = archive.watch()
    const { target, stateDirectory, home } = archive
    const { port } = server
    const launch = await contender.launch({ port, slot, target, stateDirectory, home, endLsn: range.endLsn })
    await using contenderProcess = new ContenderProcess(launch, stateDirectory)
    const endedMs = await allArchived(contenderProcess, watch, range.segments)
    const cost = await contenderProcess.finish()
    await prepared.walsendersGone()
    // The postmaster counts a walsender's CPU time when it has waited for it.
    await delay(200)
    const noise = meter.read()
    const gigabytes = (range.segments.length * segmentBytes) / 1e9
    const seconds = (endedMs - contenderProcess.startedAtMs) / 1000
    const decrypt = contender.isEncrypted === true ? decryptObject : (object: Buffer) => object
    if (target.kind === 'file') await verifySegments(target.directory, server.pgWal(), range.segments, decrypt)
    return {
      seconds,
      megabytesPerSecond: (gigabytes * 1000) / seconds,
      cpuSecondsPerGb: cost.cpuSeconds / gigabytes,
      serverCpuSecondsPerGb: (endedChildrenCpu(postmaster) - serverCpuBefore) / gigabytes,
      rssMegabytes: cost.rssBytes / 1e6,
      commitMegabytes: cost.commitBytes / 1e6,
      storedMegabytes: (await watch.storedBytes()) / 1e6,
      noise,
    }
  } finally {
    await prepared.dropSlot(slot)
    await archive.remove()
  }
}

/** Resolves with the time at which the last segment was seen; rejects when the contender ends before. */
export async function allArchived(
  contender: ContenderProcess,
  watch: ArchiveWatch,
  segments: readonly string[],
): Promise<number> {
  const over = new AbortController()
  const timer = setTimeout(() => over.abort(new Error(`${segments.length} segments took too long`)), runTimeoutMs)
  const endedEarly = contender.ended.then(async (end) => {
    // What it archived last may still be on its way to us.
    await delay(1000)
    over.abort(new Error(`it ended with ${end} before everything was archived: ${contender.logTail}`))
  })
  endedEarly.catch(() => {})
  try {
    return await watch.waitFor(segments, over.signal)
  } finally {
    clearTimeout(timer)
  }
}
