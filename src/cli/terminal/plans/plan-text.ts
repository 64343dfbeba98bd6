/** A plan for people. */
import type { ChangedFork, PlanReport, UnknownFact } from '../../../backup/plan/backup-plan.ts'
import type { DeltaSize, WholeReason } from '../../../backup/plan/size-estimate.ts'
import { formatLsn } from '../../../postgres/lsn.ts'
import { pageBytes } from '../../../postgres/relations/relation-file.ts'
import { alignColumns } from '../align-columns.ts'
import { counted, humanSize } from '../human-size.ts'
import { changedBlocks } from './plan-json.ts'

/** Relations in the text. */
const rowsMax = 20

type Line = readonly [label: string, value: string]

/** The text. @param maxSteps deltas that a chain may have */
export function planToText(report: PlanReport, maxSteps: number): string {
  const lines: Line[] = [
    ...decisionLines(report, maxSteps),
    ['server', serverText(report)],
    ...earlyLines(report),
    ...summaryLines(report),
    ...changeLines(report),
    ...sizeLines(report),
    ...report.unknown.flatMap(unknownLines),
  ]
  return alignColumns(lines, '  ')
}

function decisionLines({ parent, plan }: PlanReport, maxSteps: number): Line[] {
  const { full } = plan
  const lines: Line[] = full
    ? [
        ['plan', 'a full backup'],
        ['because', plain(full.message)],
        ...(full.hint === undefined ? [] : [['hint', plain(full.hint)] as const]),
      ]
    : [['plan', `a delta, step ${parent?.count} of ${maxSteps} on ${parent?.fullName}`]]
  if (!parent) return lines
  const { finishLsn, name, startLsn, timeline } = parent
  const what = full ? 'would build on' : 'builds on'
  return [...lines, [what, `${name}, timeline ${timeline}, ${formatLsn(startLsn)} to ${formatLsn(finishLsn)}`]]
}

function serverText({ server }: PlanReport): string {
  const { cluster, host, inRecovery, lsn, timeline } = server
  const version = `${Math.floor(cluster.serverVersion / 10_000)}.${cluster.serverVersion % 10_000}`
  return `${host}, PostgreSQL ${version}${inRecovery ? ', a standby' : ''}, timeline ${timeline} at ${formatLsn(lsn)}`
}

function earlyLines({ earlyStart, parent }: PlanReport): Line[] {
  if (earlyStart === undefined || !parent) return []
  const text = `its last restartpoint is ${formatLsn(earlyStart)}: unless another one comes first, a backup ends with status 8`
  return [['', text]]
}

function summaryLines({ summaries, walBytes }: PlanReport): Line[] {
  const lines: Line[] = walBytes === undefined ? [] : [['WAL since then', `${humanSize(walBytes)}`]]
  if (!summaries) return lines
  const { available, behindBytes, missing, needed, summarizer } = summaries
  const [first] = needed
  const last = needed.at(-1)
  const range = first && last ? `${formatLsn(first.startLsn)} to ${formatLsn(last.endLsn)}` : 'nothing yet'
  const lack = missing ? `, not from ${formatLsn(missing.startLsn)} on timeline ${missing.timeline}` : ''
  lines.push(['summarized', `${range}, in ${counted(available.length, 'file')}${lack}`])
  const isRunning = summarizer.pid === undefined ? '; the summarizer does not run' : ''
  if (behindBytes !== undefined && (behindBytes > 0 || isRunning !== '')) {
    lines.push([
      '',
      `${humanSize(behindBytes)} of WAL are in no summary yet: what they change is not counted${isRunning}`,
    ])
  }
  return lines
}

function changeLines({ changes }: PlanReport): Line[] {
  if (!changes) return []
  const blocks = changedBlocks(changes)
  const there = changes.filter(({ isThere }) => isThere !== false)
  const gone = changes.length - there.length
  const goneText = gone > 0 ? `, without ${counted(gone, 'fork')} of dropped relations` : ''
  const total = `${counted(blocks, 'block')} (${humanSize(blocks * pageBytes)}) of ${counted(there.length, 'relation fork')}`
  const shown = there.slice(0, rowsMax)
  const counts = shown.map((change) => String(change.blocks))
  const width = Math.max(0, ...counts.map(({ length }) => length))
  const rows = shown.map((change, index): Line => ['', `${(counts[index] ?? '').padStart(width)}  ${forkText(change)}`])
  const rest = there.slice(rowsMax)
  if (rest.length > 0) {
    const blocksOfRest = rest.reduce((sum, change) => sum + change.blocks, 0)
    rows.push(['', `and ${rest.length} more with ${counted(blocksOfRest, 'block')}: --json has all`])
  }
  return [['changed', total + goneText], ...rows]
}

function forkText(change: ChangedFork): string {
  const { databaseName, fork, limit, name, path } = change
  const title = name
    ? [name.database, name.schema, name.relation].map(quoted).join('.') + (fork === 'main' ? '' : ` (${fork})`)
    : path + (databaseName === undefined || change.database === 0 ? '' : ` of database ${quoted(databaseName)}`)
  const owner = name?.toastOf && ` (of ${quoted(name.toastOf.schema)}.${quoted(name.toastOf.relation)})`
  const cut = limit === undefined ? '' : limit === 0 ? ', created or emptied' : `, cut to ${counted(limit, 'block')}`
  return `${title}${owner ?? ''}${cut}`
}

const wholeTexts: Readonly<Record<WholeReason, string>> = {
  'no-relation': 'no relations',
  shared: 'in global',
  fork: 'free space and visibility maps',
  new: 'new files',
  emptied: 'created or emptied',
  cut: 'cut',
  changed: 'changed in nine tenths or more',
  odd: 'empty files',
}

function sizeLines({ delta, full, plan }: PlanReport): Line[] {
  const lines: Line[] = delta ? deltaLines(delta) : []
  if (!full) return lines
  const about = full.by === 'databases' ? 'about ' : ''
  return [...lines, [plan.full ? 'expected' : 'a full backup', `${about}${humanSize(full.bytes)} before compression`]]
}

function deltaLines({ bytes, increments, unchanged, whole, wholeBecause }: DeltaSize): Line[] {
  const reasons = [...wholeBecause].toSorted(([, a], [, b]) => b.bytes - a.bytes)
  const parts = reasons.map(([reason, count]) => `${humanSize(count.bytes)} ${wholeTexts[reason]}`)
  const why = parts.length > 0 ? `: ${parts.join(', ')}` : ''
  return [
    ['expected', `${humanSize(bytes)} before compression`],
    [
      '',
      `${humanSize(increments.bytes)} increments: ${counted(increments.blocks, 'block')} of ${counted(increments.files, 'file')}`,
    ],
    ['', `${humanSize(whole.bytes)} whole files${why}`],
    ['', `${humanSize(unchanged.bytes)} notes on ${counted(unchanged.files, 'file')} without a change`],
  ]
}

const unknownTexts: Readonly<Record<UnknownFact['what'], string>> = {
  changes: 'which blocks have changed',
  names: 'the names of relations',
  sizes: 'the size to expect: the files of the server cannot be listed',
}

function unknownLines({ hint, reason, what }: UnknownFact): Line[] {
  const lines: Line[] = [
    ['not known', unknownTexts[what]],
    ['', plain(reason.message)],
  ]
  return hint === undefined ? lines : [...lines, ['', plain(hint)]]
}

/** As SQL has it, on one line: names may hold anything, also what a terminal would obey. */
function quoted(name: string): string {
  return /^[a-z_][a-z0-9_$]*$/.test(name) ? name : `"${plain(name).replaceAll('"', '""')}"`
}

function plain(text: string): string {
  return text.replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu, (character) => {
    return `\\u${(character.codePointAt(0) ?? 0).toString(16).padStart(4, '0')}`
  })
}
