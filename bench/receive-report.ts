/** The results of the receive bench, for people and for programs. */
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { CatchUpResult } from './catch-up.ts'
import { type AbsentContender, type Contender, isPresent } from './contenders.ts'
import { type AddedCost, renderAddedCosts } from './encryption.ts'
import type { Machine } from './machine.ts'
import { markdownTable } from './markdown.ts'
import { describeNoise } from './noise-meter.ts'
import { segmentBytes } from './prepared-server.ts'
import { median, quantile } from './statistics.ts'

/** A contender and what came of it. */
export interface Measured {
  readonly contender: Contender | AbsentContender
  readonly runs: CatchUpResult[]
  /** Of the paced phase, one for each segment. */
  readonly delaysMs: number[]
  /** Why there is nothing (more), or undefined. */
  reason: string | undefined
}

/** Everything that is reported. */
export interface ReceiveReport {
  readonly machine: Machine
  readonly storage: 'file' | 's3'
  readonly rounds: number
  readonly segments: number
  readonly measured: readonly Measured[]
  /** In a bench of encryption. */
  readonly added?: readonly AddedCost[]
}

/** Writes `<name>-<storage>.md` and `.json`, with `-libsodium` after the storage in a bench of encryption. */
export async function writeReceiveReport(
  report: ReceiveReport,
  directory: string,
  name: string,
  say: (text: string) => void,
): Promise<void> {
  const text = renderReceiveReport(report)
  const path = join(directory, `${name}-${report.storage}${report.added ? '-libsodium' : ''}`)
  await mkdir(directory, { recursive: true })
  await writeFile(`${path}.md`, text)
  await writeFile(`${path}.json`, `${JSON.stringify(plain(report), null, 2)}\n`)
  say(`\n${text}\nwritten to ${path}.md and .json`)
}

/** The report as Markdown. */
export function renderReceiveReport(report: ReceiveReport): string {
  const { segments, storage, rounds } = report
  const gigabytes = ((segments * segmentBytes) / 1e9).toFixed(2)
  const target = storage === 'file' ? 'a directory' : 'an S3 bucket of a store on the same machine'
  const parts = [
    `# Catching up ${segments} segments (${gigabytes} GB) of pgbench WAL into ${target}${report.added ? ', encrypted with libsodium' : ''}`,
    machineText(report),
    `Medians of ${rounds} rounds; in each, every contender archives the same range over loopback, in turn. "Server CPU" is ` +
      'what the server spent on serving it. "Stored" is the size of all objects. Five segments of every run into a ' +
      "directory were compared with the server's own.",
    catchUpTable(report),
  ]
  const ratios = ratioTable(report)
  if (ratios !== undefined) parts.push('walrx against each, medians of the ratios in each round:', ratios)
  const delays = delayTable(report)
  if (delays !== undefined) {
    const how = storage === 'file' ? 'as the kernel reports the rename' : 'as a listing every few milliseconds shows it'
    parts.push(
      "Time from the server's flush of a segment's last byte until its object lies in the archive under its final " +
        `name, ${how}, while pgbench runs at a limited rate:`,
      delays,
    )
  }
  const missing = report.measured.filter(({ reason }) => reason !== undefined)
  if (missing.length > 0)
    parts.push(missing.map(({ contender, reason }) => `- ${contender.name}: n/a, ${reason}`).join('\n'))
  return `${parts.join('\n\n')}\n${report.added ? renderAddedCosts(report.added) : ''}`
}

function machineText({ machine, measured }: ReceiveReport): string {
  const versions = new Set(measured.flatMap(({ contender }) => (isPresent(contender) ? [contender.version] : [])))
  return [
    `${machine.date}. ${machine.cpu}, ${machine.memory} memory, ${machine.kernel}, ${machine.disk}; load before the run ` +
      `${machine.loadBefore}.${describeNoise(measured.flatMap(({ runs }) => runs.map(({ noise }) => noise)))}`,
    `Node ${machine.node}, ${machine.postgres}. ${[...versions].join('; ')}.`,
  ].join('\n')
}

const notMeasured = 'n/a'

function catchUpTable({ measured }: ReceiveReport): string {
  const heading = ['', 'codec', 'MB/s', 'CPU-s/GB', 'server CPU-s/GB', 'peak RSS MB', 'commit MB', 'stored MB']
  const rows = measured.map(({ contender, runs }) => {
    const column = (pick: (run: CatchUpResult) => number, digits: number) =>
      runs.length === 0 ? notMeasured : median(runs.map(pick)).toFixed(digits)
    return [
      contender.name,
      isPresent(contender) ? contender.codec : '',
      column((run) => run.megabytesPerSecond, 0),
      column((run) => run.cpuSecondsPerGb, 2),
      column((run) => run.serverCpuSecondsPerGb, 2),
      column((run) => run.rssMegabytes, 0),
      column((run) => run.commitMegabytes, 0),
      column((run) => run.storedMegabytes, 0),
    ]
  })
  return markdownTable([heading, ...rows])
}

/** Ratios of walrx to every peer that was measured; with the peer's own codec where walrx was run with it too. */
function ratioTable({ measured }: ReceiveReport): string | undefined {
  const ran = measured.filter(({ runs }) => runs.length > 0)
  const own = ran.filter(({ contender }) => contender.name === 'walrx')
  const peers = ran.filter(({ contender }) => !contender.name.startsWith('walrx'))
  if (own.length === 0 || peers.length === 0) return undefined
  const rows = peers.flatMap((peer) => {
    const codec = codecOf(peer)
    const same = own.find((entry) => codecOf(entry) === codec) ?? own[0]
    if (!same) return []
    // Round by round, for the runs of one round met about the same machine.
    const ratio = (pick: (run: CatchUpResult) => number) => {
      const ratios = same.runs.flatMap((run, round) => {
        const other = peer.runs[round]
        return other ? [pick(run) / pick(other)] : []
      })
      return `${median(ratios).toFixed(2)} ×`
    }
    return [
      [
        `walrx ${codecOf(same)} / ${peer.contender.name} ${codec}`,
        ratio((run) => run.megabytesPerSecond),
        ratio((run) => run.cpuSecondsPerGb),
        ratio((run) => run.rssMegabytes),
        ratio((run) => run.storedMegabytes),
      ],
    ]
  })
  return markdownTable([['', 'MB/s', 'CPU-s/GB', 'peak RSS', 'stored'], ...rows])
}

function codecOf({ contender }: Measured): string {
  return isPresent(contender) ? contender.codec : ''
}

function delayTable({ measured }: ReceiveReport): string | undefined {
  const timed = measured.filter(({ delaysMs }) => delaysMs.length > 0)
  if (timed.length === 0) return undefined
  const rows = timed.map((entry) => [
    entry.contender.name,
    codecOf(entry),
    String(entry.delaysMs.length),
    quantile(entry.delaysMs, 0.5).toFixed(0),
    quantile(entry.delaysMs, 0.99).toFixed(0),
    Math.max(...entry.delaysMs).toFixed(0),
  ])
  return markdownTable([['', 'codec', 'segments', 'p50 ms', 'p99 ms', 'max ms'], ...rows])
}

function plain({ measured, ...rest }: ReceiveReport): unknown {
  return {
    ...rest,
    segmentBytes,
    contenders: measured.map(({ contender, runs, delaysMs, reason }) => ({
      name: contender.name,
      ...(isPresent(contender) && { codec: contender.codec, version: contender.version }),
      ...(reason !== undefined && { reason }),
      runs,
      delaysMs,
    })),
  }
}
