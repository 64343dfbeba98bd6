/** What the bench of deltas found, as Markdown and as JSON. */
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { CodecName } from './contenders.ts'
import type { ReplayResult } from './delta-replay.ts'
import type { Machine } from './machine.ts'
import { markdownTable } from './markdown.ts'
import { describeNoise, type Noise } from './noise-meter.ts'
import { median } from './statistics.ts'

/** What one backup took. */
export interface PushRun {
  readonly seconds: number
  readonly cpuSeconds: number
  readonly rssBytes: number
  /** Bytes of the tars, before they are compressed. */
  readonly received: number
  readonly stored: number
  readonly noise: Noise
}

/** A full backup, and the delta on it. */
export interface DeltaRound {
  readonly codec: CodecName
  readonly full: PushRun
  readonly delta: PushRun
}

/** One stream, stored in each way. */
export interface ConversionRound {
  readonly codec: CodecName
  readonly raw: ReplayResult
  readonly summed: ReplayResult
  readonly converted: ReplayResult
}

/** Everything that is reported. */
export interface DeltaReport {
  readonly machine: Machine
  readonly version: string
  readonly scale: number
  readonly rounds: number
  readonly dataBytes: number
  readonly deltas: readonly DeltaRound[]
  readonly conversions: readonly ConversionRound[]
}

/** Writes `delta-file.md` and `.json`. */
export async function writeDeltaReport(
  report: DeltaReport,
  directory: string,
  say: (text: string) => void,
): Promise<void> {
  const text = renderDeltaReport(report)
  const path = join(directory, 'delta-file')
  await mkdir(directory, { recursive: true })
  await writeFile(`${path}.md`, text)
  await writeFile(`${path}.json`, `${JSON.stringify(report, null, 2)}\n`)
  say(`\n${text}\nwritten to ${path}.md and .json`)
}

/** The report as Markdown. */
export function renderDeltaReport(report: DeltaReport): string {
  const { conversions, dataBytes, deltas, machine, rounds, scale, version } = report
  const noises = deltas.flatMap(({ delta, full }) => [full.noise, delta.noise])
  const parts = [
    `# Deltas of ${(dataBytes / 1e9).toFixed(2)} GB (pgbench, scale ${scale}) into a directory`,
    `${machine.date}. ${machine.cpu}, ${machine.memory} memory, ${machine.kernel}, ${machine.disk}; load before the run ` +
      `${machine.loadBefore}.${describeNoise(noises)}\nNode ${machine.node}, ${machine.postgres}. ${version}.`,
    `Medians of ${rounds} rounds; in each, a full backup, an update of a contiguous hundredth of pgbench_accounts, and a ` +
      `delta on the full one, each after a checkpoint and a sync. The time is that of the whole process, the checkpoint ` +
      `of the server included; "read" is what the tars have in them.`,
    pushTable(deltas),
    `The delta against the full one, medians of the ratios in each round:`,
    pushRatios(deltas),
    `What it costs to turn the server's increments into WAL-G's: an incremental backup with a change in every second ` +
      `page of pgbench_accounts, recorded as the server sends it, and stored ${rounds} times converted, as often raw as it ` +
      `came, and as often raw with its bytes summed up (CRC-32C), in turn, in the same parts by the same codec. CPU of all ` +
      `threads, without the start of the process. Converted ones are held against the server's manifest, which takes their ` +
      `sums: what lies between "summed" and "converted" is the conversion.`,
    conversionTable(conversions),
  ]
  return `${parts.join('\n\n')}\n`
}

/** The measurements of each codec. */
function byCodec<T extends { readonly codec: CodecName }>(all: readonly T[]): [CodecName, T[]][] {
  return [...new Set(all.map(({ codec }) => codec))].map((codec) => [codec, all.filter((one) => one.codec === codec)])
}

function pushTable(deltas: readonly DeltaRound[]): string {
  const rows = byCodec(deltas).flatMap(([codec, rounds]) =>
    (['full', 'delta'] as const).map((kind) => {
      const column = (pick: (run: PushRun) => number, digits: number) =>
        median(rounds.map((round) => pick(round[kind]))).toFixed(digits)
      return [
        kind,
        codec,
        column((run) => run.seconds, 2),
        column((run) => run.cpuSeconds, 2),
        column((run) => run.rssBytes / 1e6, 0),
        column((run) => run.received / 1e6, 1),
        column((run) => run.stored / 1e6, 1),
      ]
    }),
  )
  return markdownTable([['', 'codec', 'seconds', 'CPU-s', 'peak RSS MB', 'read MB', 'stored MB'], ...rows])
}

function pushRatios(deltas: readonly DeltaRound[]): string {
  const rows = byCodec(deltas).map(([codec, rounds]) => {
    const ratio = (pick: (run: PushRun) => number) =>
      `${(100 * median(rounds.map(({ delta, full }) => pick(delta) / pick(full)))).toFixed(1)} %`
    return [
      `delta / full ${codec}`,
      ratio((run) => run.seconds),
      ratio((run) => run.cpuSeconds),
      ratio((run) => run.rssBytes),
      ratio((run) => run.received),
      ratio((run) => run.stored),
    ]
  })
  return markdownTable([['', 'seconds', 'CPU', 'peak RSS', 'read', 'stored'], ...rows])
}

function conversionTable(conversions: readonly ConversionRound[]): string {
  const rows = byCodec(conversions).map(([codec, rounds]) => {
    const column = (pick: (round: ConversionRound) => number, digits: number) =>
      median(rounds.map(pick)).toFixed(digits)
    return [
      codec,
      column(({ raw }) => raw.tarBytes / 1e6, 0),
      column(({ raw }) => raw.cpuSeconds, 2),
      column(({ summed }) => summed.cpuSeconds, 2),
      column(({ converted }) => converted.cpuSeconds, 2),
      `${column(({ converted, summed }) => converted.cpuSeconds / summed.cpuSeconds, 3)} ×`,
      `${column(({ converted, raw }) => converted.cpuSeconds / raw.cpuSeconds, 3)} ×`,
      column(({ raw }) => raw.rssBytes / 1e6, 0),
      column(({ converted }) => converted.rssBytes / 1e6, 0),
    ]
  })
  const heading = [
    ...['codec', 'MB', 'raw CPU-s', 'summed CPU-s', 'converted CPU-s', 'converted / summed', 'converted / raw'],
    ...['raw RSS MB', 'converted RSS MB'],
  ]
  return markdownTable([heading, ...rows])
}
