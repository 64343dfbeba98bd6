/** The results of the benches of backups and restores, for people and for programs. */
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { BackupContender } from './backup-contenders.ts'
import { type AddedCost, renderAddedCosts } from './encryption.ts'
import type { Machine } from './machine.ts'
import { markdownTable } from './markdown.ts'
import { describeNoise, type Noise } from './noise-meter.ts'
import { median } from './statistics.ts'

/** What one run measured. */
export interface BackupRun {
  /** Until the files are on disk: the process, then `sync -f` of what it wrote in a directory. */
  readonly seconds: number
  /** Of the process alone. */
  readonly ownSeconds: number
  /** Of the cluster's own files. */
  readonly megabytesPerSecond: number
  /** The contender's, per GB (10^9 bytes) of the cluster. */
  readonly cpuSecondsPerGb: number
  readonly rssMegabytes: number
  readonly storedMegabytes: number
  readonly noise: Noise
}

/** A contender and what came of it. */
export interface BackupMeasured {
  readonly contender: BackupContender
  /** The tool that took the restored backup; '' for a backup. */
  readonly of: string
  readonly runs: BackupRun[]
  /** Why there is nothing (more), or undefined. */
  reason: string | undefined
}

/** Everything that is reported. */
export interface BackupReport {
  readonly machine: Machine
  readonly kind: 'backup' | 'restore'
  readonly storage: 'file' | 's3'
  readonly rounds: number
  readonly scale: number
  readonly dataBytes: number
  readonly measured: readonly BackupMeasured[]
  /** In a bench of encryption. */
  readonly added?: readonly AddedCost[]
}

/** Writes `<kind>-<storage>.md` and `.json`, with `-libsodium` after the storage in a bench of encryption. */
export async function writeBackupReport(
  report: BackupReport,
  directory: string,
  say: (text: string) => void,
): Promise<void> {
  const text = renderBackupReport(report)
  const path = join(directory, `${report.kind}-${report.storage}${report.added ? '-libsodium' : ''}`)
  await mkdir(directory, { recursive: true })
  await writeFile(`${path}.md`, text)
  await writeFile(`${path}.json`, `${JSON.stringify(plain(report), null, 2)}\n`)
  say(`\n${text}\nwritten to ${path}.md and .json`)
}

/** The report as Markdown. */
export function renderBackupReport(report: BackupReport): string {
  const { dataBytes, kind, machine, measured, rounds, scale, storage } = report
  const noises = measured.flatMap(({ runs }) => runs.map(({ noise }) => noise))
  const versions = new Set(measured.map(({ contender }) => contender.version).filter(Boolean))
  const store = storage === 'file' ? 'a directory' : 'an S3 bucket of a store on the same machine'
  const size = `${(dataBytes / 1e9).toFixed(2)} GB (pgbench, scale ${scale})`
  const parts = [
    `${kind === 'backup' ? `# Backing up ${size} into` : `# Restoring ${size} from`} ${store}${report.added ? ', encrypted with libsodium' : ''}`,
    `${machine.date}. ${machine.cpu}, ${machine.memory} memory, ${machine.kernel}, ${machine.disk}; load before the run ` +
      `${machine.loadBefore}.${describeNoise(noises)}\n` +
      `Node ${machine.node}, ${machine.postgres}. ${[...versions].join('; ')}.`,
    `Medians of ${rounds} rounds; in each, every contender does the same, in turn, after a checkpoint and a sync; each ` +
      `round begins with another contender. ${
        kind === 'backup'
          ? 'Full backups over the replication protocol and loopback, without WAL; pg_basebackup writes tars and ' +
            'compresses them itself. The checkpoint of the server is included. '
          : '"Backup of" says who had written the backup. '
      }"Seconds" and MB/s count until the files are on disk: the process, then a \`sync -f\` where it wrote into a ` +
      `directory, since WAL-RUS leaves what it restores to the operating system. "Alone" is the process.`,
    table(report),
    `walrx against each, medians of the ratios in each round:`,
    ratios(report),
  ]
  const missing = measured.filter(({ reason }) => reason !== undefined)
  if (missing.length > 0)
    parts.push(missing.map(({ contender, reason }) => `- ${contender.name}: n/a, ${reason}`).join('\n'))
  return `${parts.join('\n\n')}\n${report.added ? renderAddedCosts(report.added) : ''}`
}

function table({ kind, measured }: BackupReport): string {
  const of = kind === 'restore'
  const heading = [
    '',
    ...(of ? ['backup of'] : []),
    'codec',
    'seconds',
    'alone',
    'MB/s',
    'CPU-s/GB',
    'peak RSS MB',
    'stored MB',
  ]
  const rows = measured
    .filter(({ runs }) => runs.length > 0)
    .map(({ contender, of: writer, runs }) => {
      const column = (pick: (run: BackupRun) => number, digits: number) => median(runs.map(pick)).toFixed(digits)
      return [
        contender.name,
        ...(of ? [writer] : []),
        contender.codec,
        column((run) => run.seconds, 2),
        column((run) => run.ownSeconds, 2),
        column((run) => run.megabytesPerSecond, 0),
        column((run) => run.cpuSecondsPerGb, 2),
        column((run) => run.rssMegabytes, 0),
        column((run) => run.storedMegabytes, 0),
      ]
    })
  return markdownTable([heading, ...rows])
}

/** walrx to every peer by the same codec, in the same round; of restores, of the same backup. */
function ratios({ measured }: BackupReport): string {
  const rows = measured
    .filter(({ contender, runs }) => contender.name !== 'walrx' && runs.length > 0)
    .flatMap((peer) => {
      const own = measured.find(
        ({ contender, of }) => contender.name === 'walrx' && contender.codec === peer.contender.codec && of === peer.of,
      )
      if (!own || own.runs.length === 0) return []
      const ratio = (pick: (run: BackupRun) => number) => {
        const all = own.runs.flatMap((run, round) => {
          const other = peer.runs[round]
          return other ? [pick(run) / pick(other)] : []
        })
        return `${median(all).toFixed(2)} ×`
      }
      const what = peer.of === '' ? '' : ` (backup of ${peer.of})`
      return [
        [
          `walrx / ${peer.contender.name} ${peer.contender.codec}${what}`,
          ratio((run) => run.megabytesPerSecond),
          ratio((run) => 1 / run.ownSeconds),
          ratio((run) => run.cpuSecondsPerGb),
          ratio((run) => run.rssMegabytes),
          ratio((run) => run.storedMegabytes),
        ],
      ]
    })
  return markdownTable([['', 'MB/s', 'alone', 'CPU-s/GB', 'peak RSS', 'stored'], ...rows])
}

function plain({ measured, ...rest }: BackupReport): unknown {
  return {
    ...rest,
    contenders: measured.map(({ contender, of, runs, reason }) => ({
      name: contender.name,
      codec: contender.codec,
      version: contender.version,
      ...(of === '' ? {} : { of }),
      ...(reason !== undefined && { reason }),
      runs,
    })),
  }
}
