/** The results of the recovery bench, for people and for programs. */
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Machine } from './machine.ts'
import { markdownTable } from './markdown.ts'
import { median } from './statistics.ts'

/** A way to get WAL, and how fast a server recovered by it. */
export interface Recovered {
  readonly name: string
  readonly version: string
  /** Segments per second, one for each round. */
  readonly rates: number[]
  /** Why there is nothing (more), or undefined. */
  reason?: string
}

/** Everything that is reported. */
export interface RecoverReport {
  readonly machine: Machine
  readonly rounds: number
  readonly segments: number
  readonly recovered: readonly Recovered[]
}

/** Writes `recover.md` and `recover.json`. */
export async function writeRecoverReport(
  report: RecoverReport,
  directory: string,
  say: (text: string) => void,
): Promise<void> {
  const text = renderRecoverReport(report)
  const path = join(directory, 'recover')
  await mkdir(directory, { recursive: true })
  await writeFile(`${path}.md`, text)
  await writeFile(`${path}.json`, `${JSON.stringify(report, null, 2)}\n`)
  say(`\n${text}\nwritten to ${path}.md and .json`)
}

/** The report as Markdown. */
export function renderRecoverReport({ machine, recovered, rounds, segments }: RecoverReport): string {
  const own = median(recovered.find(({ name }) => name === 'walrx')?.rates ?? [])
  const rows = recovered.map(({ name, rates }) => {
    if (rates.length === 0) return [name, 'n/a', 'n/a', 'n/a']
    return [
      name,
      median(rates).toFixed(1),
      rates.map((rate) => rate.toFixed(1)).join(', '),
      name === 'walrx' ? '' : `${(own / median(rates)).toFixed(2)} ×`,
    ]
  })
  const versions = recovered.map(({ version }) => version).filter(Boolean)
  const missing = recovered.filter(({ reason }) => reason !== undefined)
  const parts = [
    `# Recovering a server through ${segments} segments of pgbench WAL`,
    [
      `${machine.date}. ${machine.cpu}, ${machine.memory} memory, ${machine.kernel}, ${machine.disk}; load before the run ` +
        `${machine.loadBefore}.`,
      `Node ${machine.node}, ${machine.postgres}. ${versions.join('; ')}.`,
    ].join('\n'),
    `Segments per second between the first and the last that the server logs as restored, replay included; ${rounds} ` +
      'rounds in turn, each on a fresh copy of the same data directory. All but cp read the same archive (zstd, a ' +
      'directory), which walrx has written. walrx runs by the restore_command that `walrx restore-command` prints.',
    markdownTable([['', 'median', 'rounds', 'walrx against it'], ...rows]),
  ]
  if (missing.length > 0) parts.push(missing.map(({ name, reason }) => `- ${name}: n/a, ${reason}`).join('\n'))
  return `${parts.join('\n\n')}\n`
}
