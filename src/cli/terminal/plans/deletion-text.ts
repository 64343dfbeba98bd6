/** A plan of a deletion for people. */
import { formatLsn } from '../../../postgres/lsn.ts'
import { segmentName } from '../../../postgres/wal/wal-file.ts'
import type { ArchivedBackup } from '../../../retention/contents/archived-backup.ts'
import type { DeletionPlan, OtherObjects, WalRun } from '../../../retention/plan/deletion-plan.ts'
import type { SweptFiles } from '../../../storage/storage.ts'
import type { RemainingWindow } from '../../../retention/plan/remaining-window.ts'
import { alignColumns } from '../align-columns.ts'
import { counted, humanSize } from '../human-size.ts'

/** Runs of a timeline that are shown one by one. */
const runsShown = 20

/** The plan: backups, leftovers, WAL, what remains, and how much goes. */
export function deletionText(plan: DeletionPlan, segmentSize: number): string {
  const backups = plan.backups.map(({ action, backup, reason }) => [
    action,
    backup.name,
    timeText(backup.startMs),
    humanSize(backup.folder.bytes),
    reason,
  ])
  const leftovers = plan.leftovers.map(({ action, backup, reason }) => [
    action,
    backup.name,
    'unfinished',
    humanSize(backup.folder.bytes),
    reason,
  ])
  const wal = plan.wal.slice(0, runsShown).map((run) => walRow(run, plan, segmentSize))
  const more = plan.wal.length > runsShown ? [`... and ${plan.wal.length - runsShown} more ranges of WAL\n`] : []
  const others = plan.others.map(({ bytes, kind, objects }) => {
    return [
      'delete',
      otherText(kind, objects),
      '',
      bytes === 0 ? '' : humanSize(bytes),
      otherReasons[kind] ?? 'their WAL goes',
    ]
  })
  const { total } = plan
  const what = `${counted(total.backups, 'backup')}, ${counted(total.objects, 'object')}, ${humanSize(total.bytes)}`
  return [
    alignColumns([...backups, ...leftovers, ...wal, ...others, ...fileRows(plan.unfinishedFiles)], '  '),
    ...more,
    `${windowText(plan.window)}\n`,
    `to delete: ${what}\n`,
  ].join('')
}

/** Files that are no objects. */
function fileRows(files: DeletionPlan['unfinishedFiles']): string[][] {
  const { bytes = 0, files: count = 0, younger = 0 } = files ?? {}
  const rows: string[][] = []
  if (count > 0) {
    const reason = 'no writer has changed them for a day'
    rows.push(['delete', counted(count, 'unfinished file'), '', humanSize(bytes), reason])
  }
  if (younger > 0) rows.push(['keep', counted(younger, 'unfinished file'), '', '', youngFiles])
  return rows
}

/** Why such files stay. */
export const youngFiles = 'changed within the last day: somebody may be writing there'

/** What was removed of such files, as the end of a line; empty for nothing. */
export function sweptText({ bytes, files, younger }: SweptFiles = { bytes: 0, files: 0, younger: 0 }): string {
  const removed = files > 0 ? `; ${counted(files, 'unfinished file')}, ${humanSize(bytes)}` : ''
  return younger > 0 ? `${removed}; ${counted(younger, 'unfinished file')} left, ${youngFiles}` : removed
}

const otherReasons: Readonly<Partial<Record<OtherObjects['kind'], string>>> = {
  verification: 'their backups go, or have gone',
  probe: 'left by writers that were ended while they tested the storage',
}

const otherNames = {
  partial: 'partial segment',
  label: 'backup label',
  sidecar: 'delta map or metadata',
  chunk: 'chunk of a tail',
  diverged: 'diverged partial segment',
  'gap record': 'gap record',
  verification: 'result of backup-verify',
  probe: 'test object',
} as const

function otherText(kind: OtherObjects['kind'], count: number): string {
  return kind === 'verification' && count !== 1 ? `${count} results of backup-verify` : counted(count, otherNames[kind])
}

function walRow(run: WalRun, { needs }: DeletionPlan, segmentSize: number): string[] {
  const { action, bytes, first, last, neededBy, segments, timeline } = run
  const name = (segno: number) => segmentName(timeline, BigInt(segno), segmentSize)
  const range = first === last ? name(first) : `${name(first)} - ${name(last)}`
  const reason =
    neededBy === undefined ? (needs ? 'no backup that stays needs it' : 'no WAL may go') : `${neededBy} needs it`
  return [action, range, counted(segments, 'segment'), humanSize(bytes), reason]
}

/** Which moments can be recovered to afterwards. */
export function windowText(window: RemainingWindow | undefined): string {
  if (!window) return 'the window that remains: none, no backup stays that can be restored'
  const from = `${timeText(window.fromMs)} (${formatLsn(window.fromLsn)}, the end of ${window.backup})`
  const to = `${timeText(window.toMs)} (${formatLsn(window.toLsn)} on timeline ${window.timeline})`
  const text = `the window that remains: from ${from} to ${to}`
  if (window.missing === 0 || window.firstMissing === undefined) return text
  return `${text}, but ${counted(window.missing, 'segment')} of WAL missing on the way, the first at ${formatLsn(window.firstMissing)}`
}

/** A moment in UTC, to the second. */
export function timeText(ms: number): string {
  return `${new Date(ms).toISOString().slice(0, -'.000Z'.length)}Z`
}

/** The kind of a backup: `full` or `delta`. */
export function kindText({ isParentKnown, parentName }: ArchivedBackup): string {
  if (!isParentKnown) return 'unknown'
  return parentName === undefined ? 'full' : 'delta'
}
