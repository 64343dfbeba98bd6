/** `npm run bench -- receive`: all contenders archive the same WAL, in turn, several times. */
import { pgBinary } from '../test/harness/postgres/postgres-files.ts'
import { findBucket } from './bucket.ts'
import { type CatchUpResult, runCatchUp } from './catch-up.ts'
import { type AbsentContender, type CodecName, type Contender, findPeers, isPresent, walrx } from './contenders.ts'
import { type AddedCost, addedCost, plainName, withKey } from './encryption.ts'
import { describeMachine, programVersion } from './machine.ts'
import { runPaced, startPacedServer } from './paced.ts'
import { percent } from './noise-meter.ts'
import { PreparedServer, segmentBytes } from './prepared-server.ts'
import { type Measured, type ReceiveReport, writeReceiveReport } from './receive-report.ts'
import { buildWalrx } from './walrx-build.ts'
import type { WorkDirectory } from './work-directory.ts'

/** Options of the command line. */
export interface ReceiveBenchOptions {
  readonly work: WorkDirectory
  readonly resultsDirectory: string
  /** GB (10^9 bytes) of WAL. */
  readonly gigabytes: number
  readonly rounds: number
  readonly codecs: readonly CodecName[]
  readonly storage: 'file' | 's3'
  /** Measure with a key of libsodium, and walrx also without. */
  readonly encrypted: boolean
  /** Segments to time from flush to archive, for each contender; 0 leaves that out. */
  readonly pacedSegments: number
  /** Measure walrx alone with these pools instead. */
  readonly memorySweep: readonly string[] | undefined
  readonly say: (text: string) => void
}

/** Runs the bench and writes its results. */
export async function benchReceive(options: ReceiveBenchOptions): Promise<void> {
  const { work, storage, say, rounds } = options
  const bucket = storage === 's3' ? findBucket() : undefined
  if (storage === 's3' && !bucket) {
    throw new Error('for S3 set WALG_S3_PREFIX, AWS_ENDPOINT, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY')
  }
  const contenders = await findContenders(options)
  const segmentCount = Math.ceil((options.gigabytes * 1e9) / segmentBytes)
  await using prepared = await PreparedServer.open(work, segmentCount, say)
  const machine = await describeMachine(work.path, await programVersion(pgBinary(17, 'postgres')))
  const arena = { work, prepared, storage, bucket }
  const measured: Measured[] = contenders.map((contender) => ({ contender, runs: [], delaysMs: [], reason: undefined }))
  for (const entry of measured) {
    if (!isPresent(entry.contender)) entry.reason = entry.contender.reason
    else entry.reason = entry.contender.unfit(storage)
  }
  // A round of all contenders before the next one, so that a slow minute of the machine affects them all.
  for (let round = 1; round <= rounds; round++) {
    for (const entry of measured) {
      await attempt(entry, async (contender) => {
        const result = await runCatchUp(contender, arena)
        entry.runs.push(result)
        say(`round ${round}: ${label(contender)}: ${describe(result)}`)
      })
    }
  }
  if (options.pacedSegments > 0) await timeDelays(measured, arena, options)
  const segments = prepared.range.segments.length
  const added = options.encrypted ? addedCosts(measured, options.codecs, (segments * segmentBytes) / 1e9) : undefined
  const report: ReceiveReport = { machine, storage, rounds, segments, measured, ...(added && { added }) }
  await writeReceiveReport(report, options.resultsDirectory, options.memorySweep ? 'memory' : 'receive', say)
}

async function findContenders(options: ReceiveBenchOptions): Promise<(Contender | AbsentContender)[]> {
  const { codecs, encrypted, memorySweep, say, work } = options
  const main = await buildWalrx(work, say)
  const version = await programVersion(process.execPath, [main, '--version'])
  if (memorySweep) {
    return memorySweep.flatMap((memory) => codecs.map((codec) => walrx(main, version, { codec, memory })))
  }
  const own = codecs.map((codec) => walrx(main, version, { codec }))
  const peers = await findPeers(codecs)
  if (!encrypted) return [...own, ...peers]
  const able = peers.filter(({ name }) => !name.startsWith('pg_receivewal'))
  const plain = own.map((contender) => ({ ...contender, name: plainName }))
  return [...own.map(withKey), ...plain, ...able.map((peer) => (isPresent(peer) ? withKey(peer) : peer))]
}

function addedCosts(measured: readonly Measured[], codecs: readonly CodecName[], gigabytes: number): AddedCost[] {
  const runsOf = (name: string, codec: CodecName) =>
    measured.find(({ contender }) => isPresent(contender) && contender.name === name && contender.codec === codec)
      ?.runs ?? []
  return codecs.flatMap((codec) => {
    const cost = addedCost(codec, 'encrypt', gigabytes, runsOf(plainName, codec), runsOf('walrx', codec))
    return cost ? [cost] : []
  })
}

/** Runs a measurement with a contender; one that fails is listed in the report, and left out from then on. */
async function attempt(entry: Measured, measure: (contender: Contender) => Promise<void>): Promise<void> {
  if (entry.reason !== undefined || !isPresent(entry.contender)) return
  try {
    await measure(entry.contender)
  } catch (error) {
    entry.reason = `failed: ${(error as Error).message.split('\n')[0]}`
    process.stderr.write(`${label(entry.contender)}: ${(error as Error).message}\n`)
  }
}

async function timeDelays(
  measured: Measured[],
  arena: Parameters<typeof runCatchUp>[1],
  { work, pacedSegments, say }: ReceiveBenchOptions,
): Promise<void> {
  const server = await startPacedServer(work, arena.prepared)
  try {
    for (const entry of measured) {
      await attempt(entry, async (contender) => {
        const { delaysMs } = await runPaced(contender, arena, server, pacedSegments)
        entry.delaysMs.push(...delaysMs)
        say(`${label(contender)}: timed ${delaysMs.length} segments`)
      })
    }
  } finally {
    await server[Symbol.asyncDispose]()
  }
}

function label(contender: Contender): string {
  return `${contender.name} ${contender.codec}`
}

function describe(result: CatchUpResult): string {
  const { megabytesPerSecond, cpuSecondsPerGb, noise, rssMegabytes, storedMegabytes } = result
  return (
    `${megabytesPerSecond.toFixed(0)} MB/s, ${cpuSecondsPerGb.toFixed(2)} CPU-s/GB, ` +
    `${rssMegabytes.toFixed(0)} MB RSS, ${storedMegabytes.toFixed(0)} MB stored; ` +
    `others had ${percent(noise.otherShare)} of the CPU, the hypervisor ${percent(noise.stolenShare)}`
  )
}
