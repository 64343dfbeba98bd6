/**
 * A plan of what goes and what stays, with reasons and bytes. It is a pure function of the archive's contents and of a
 * rule: an execution, a dry run and a test see the same.
 */
import { WalrxError } from '../../primitives/errors.ts'
import type { Timeline } from '../../postgres/lsn.ts'
import { isLeftover, type UnfinishedBackup } from '../contents/archived-backup.ts'
import type { SweptFiles } from '../../storage/storage.ts'
import type { ArchiveContents } from '../contents/archive-contents.ts'
import { type Choice } from '../rules/choice.ts'
import { chooseBackups } from '../rules/choose-backups.ts'
import type { OwnRecord } from '../contents/own-records.ts'
import { type OwnWal, ownWalOf, Restorability } from '../contents/restorable.ts'
import type { RetentionRule } from '../rules/rule.ts'
import { type WalObjectKind } from '../contents/wal-keys.ts'
import type { StoredGap, TimelineStock } from '../contents/wal-stock.ts'
import { type RemainingWindow, remainingWindow } from './remaining-window.ts'
import { needsOf, type RecoveryStart, type TimelineNeeds, whoNeeds } from './wal-needs.ts'

/** Segments in a row that share a fate. */
export interface WalRun {
  readonly timeline: Timeline
  readonly action: 'keep' | 'delete'
  /** The backup that needs them; undefined for those that go. */
  readonly neededBy: string | undefined
  /** Numbers of the first and the last that is there, both included; segments between them may be missing. */
  readonly first: number
  last: number
  /** How many segments are there, and in how many objects: one may be stored in two codecs. */
  segments: number
  objects: number
  bytes: number
}

/** Objects that go with segments (labels, sidecars, chunks, partials), or with backups. */
export interface OtherObjects {
  readonly kind: Exclude<WalObjectKind, 'segment'> | 'gap record' | OwnRecord['kind']
  objects: number
  bytes: number
}

/** What an unfinished backup leaves. */
export interface PlannedLeftover {
  readonly backup: UnfinishedBackup
  readonly action: 'keep' | 'delete'
  readonly reason: string
}

/** See the file's header. */
export interface DeletionPlan {
  /** The oldest first. */
  readonly backups: readonly Choice[]
  readonly leftovers: readonly PlannedLeftover[]
  /** Undefined where no WAL may go, whatever it is. */
  readonly needs: ReadonlyMap<Timeline, TimelineNeeds> | undefined
  readonly wal: readonly WalRun[]
  /** Objects that go with the WAL or the backups that go, or have gone. */
  readonly others: readonly OtherObjects[]
  readonly gapRecords: readonly StoredGap[]
  /** Records of walrx that go. */
  readonly records: readonly OwnRecord[]
  readonly window: RemainingWindow | undefined
  /** Files that are no objects; undefined where there can be none, or none may go. */
  readonly unfinishedFiles: SweptFiles | undefined
  /** What goes of objects. */
  readonly total: { readonly backups: number; readonly objects: number; readonly bytes: number }
}

/** Plans. Throws what {@link chooseBackups} throws. */
export function planDeletion(contents: ArchiveContents, rule: RetentionRule): DeletionPlan {
  const { choices, firstOnwards, wal: walMayGo } = chooseBackups(contents, rule)
  checkChains(contents, choices)
  const leftovers = contents.unfinished.flatMap((backup) => planLeftover(backup, rule, choices[firstOnwards]))
  const needs = walMayGo ? walNeeds(contents, choices) : undefined
  const { others, wal } = sortWal(contents, needs)
  const gapRecords = needs ? contents.wal.gaps.filter((gap) => !gapMatters(gap, needs, contents.segmentSize)) : []
  if (gapRecords.length > 0) others.push({ kind: 'gap record', objects: gapRecords.length, bytes: 0 })
  const records = recordsOver(contents, rule, [...choices, ...leftovers])
  for (const { bytes, kind } of records) addOther(others, kind, bytes)
  const window = remainingWindow(contents, choices)
  const total = totalOf(choices, leftovers, wal, others)
  const unfinishedFiles = rule.kind === 'target' ? undefined : contents.unfinishedFiles
  return { backups: choices, leftovers, needs, wal, others, gapRecords, records, window, unfinishedFiles, total }
}

/**
 * Whatever a rule says: nothing that stays may lose what it builds on.
 * @throws WALRX_INTERNAL where it would
 */
function checkChains(contents: ArchiveContents, choices: readonly Choice[]): void {
  const gone = new Set(choices.filter(({ action }) => action === 'delete').map(({ backup }) => backup.name))
  const restorability = new Restorability(contents)
  const check = (name: string, parents: readonly string[]) => {
    const lost = parents.find((each) => gone.has(each))
    if (lost === undefined) return
    throw new WalrxError('WALRX_INTERNAL', `${lost} was about to be deleted, and ${name}, which stays, builds on it`)
  }
  if (gone.size === 0) return
  for (const { action, backup } of choices) {
    if (action === 'keep')
      check(
        backup.name,
        restorability.parentsOf(backup).map(({ name }) => name),
      )
  }
  for (const backup of contents.unfinished) if (!isLeftover(backup)) check(backup.name, backup.parentNames)
}

/** What a dead backup has left goes where it is older than the backups that stay; `garbage` removes all of it. */
function planLeftover(backup: UnfinishedBackup, rule: RetentionRule, first: Choice | undefined): PlannedLeftover[] {
  if (backup.folder.objects === 0 && backup.state !== 'running') return []
  const keep = (reason: string): PlannedLeftover[] => [{ backup, action: 'keep', reason }]
  if (backup.state === 'running') return keep('it is being written, or waits for its WAL')
  if (backup.state === 'young') return keep('another tool may be writing it: it has grown within the last day')
  if (backup.state === 'needed') return keep('it has no sentinel, and a delta builds on it')
  if (rule.kind === 'garbage' && rule.what === 'ARCHIVES') return keep('only WAL is asked for')
  if (backup.state === 'deleted') return [{ backup, action: 'delete', reason: 'an earlier deletion was ended in it' }]
  if (rule.kind === 'target') return keep('it is not the target')
  const isOld = first !== undefined && backup.folder.newestMs < first.backup.startMs
  if (rule.kind !== 'garbage' && !isOld) return keep('it is not older than the backups that stay')
  return [{ backup, action: 'delete', reason: 'it was never completed' }]
}

/** The records of what goes, and, but for `target`, of what has gone before. */
function recordsOver(
  { backups, records, unfinished }: ArchiveContents,
  rule: RetentionRule,
  decided: readonly (Choice | PlannedLeftover)[],
): OwnRecord[] {
  const going = new Set(decided.filter(({ action }) => action === 'delete').map(({ backup }) => backup.name))
  const there = new Set([...backups, ...unfinished].map(({ name }) => name))
  return records.filter(({ backup }) => {
    if (backup !== undefined && going.has(backup)) return true
    return rule.kind !== 'target' && (backup === undefined || !there.has(backup))
  })
}

/** What the backups that stay, and those that are being written, need of the WAL. */
export function walNeeds(
  contents: Pick<ArchiveContents, 'segmentSize' | 'unfinished' | 'wal'>,
  choices: readonly Choice[],
): ReadonlyMap<Timeline, TimelineNeeds> | undefined {
  const { segmentSize, unfinished, wal } = contents
  const starts: RecoveryStart[] = []
  const own: OwnWal[] = []
  for (const choice of choices) {
    if (choice.action === 'delete') continue
    const { name, segno, startLsn, timeline } = choice.backup
    const alone = choice.wal === 'own' ? ownWalOf(choice.backup, segmentSize) : undefined
    if (alone) own.push(alone)
    // A backup that nobody knows the place of may need any WAL.
    else if (segno === undefined) return undefined
    else starts.push({ timeline, segno, lsn: startLsn > 0n ? (startLsn as RecoveryStart['lsn']) : undefined, name })
  }
  for (const backup of unfinished) {
    if (isLeftover(backup)) continue
    if (backup.segno === undefined) return undefined
    starts.push({ timeline: backup.timeline, segno: backup.segno, lsn: undefined, name: backup.name })
  }
  const timelines = [...wal.timelines.keys(), ...wal.gaps.map(({ timeline }) => timeline)]
  const young = youngTimelines(contents, starts, segmentSize)
  return needsOf({ segmentSize, timelines, histories: wal.histories, starts: oldestOf(starts), own, young })
}

/**
 * Timelines that were written to within the last day, each with the segment from which on it stays: where a backup that
 * stays has left it, else its beginning. An upgraded server begins again at timeline 1, after all WAL of the old one, and
 * may be about to take its first backup there: until its first object is stored nothing shows that. What was written before
 * that segment does not count: it goes, and the next run would decide otherwise without it.
 */
function youngTimelines({ wal }: Pick<ArchiveContents, 'wal'>, starts: readonly RecoveryStart[], segmentSize: number) {
  const left = new Map<Timeline, number>()
  for (const { timeline } of starts) {
    for (const entry of wal.histories.get(timeline ?? 0) ?? []) {
      const segno = Number(entry.switchpoint / BigInt(segmentSize))
      left.set(entry.timeline, Math.min(segno, left.get(entry.timeline) ?? Infinity))
    }
  }
  const young = new Map<Timeline, number>()
  for (const [timeline, { lastRecent }] of wal.timelines) {
    const from = left.get(timeline) ?? 0
    if (lastRecent >= from) young.set(timeline, from)
  }
  return young
}

/** Of the backups of one timeline the one that starts first needs all that the others need. */
function oldestOf(starts: readonly RecoveryStart[]): RecoveryStart[] {
  const oldest = new Map<Timeline | undefined, RecoveryStart>()
  for (const start of starts) {
    const known = oldest.get(start.timeline)
    if (!known || startOf(start) < startOf(known)) oldest.set(start.timeline, start)
  }
  return [...oldest.values()]
}

/** Two that start in one segment: the LSN decides, and without one it is the first byte. */
function startOf({ lsn, segno }: RecoveryStart): number {
  return lsn === undefined ? segno : segno + 0.5
}

function sortWal(
  { wal }: ArchiveContents,
  needs: ReadonlyMap<Timeline, TimelineNeeds> | undefined,
): { wal: WalRun[]; others: OtherObjects[] } {
  const others: OtherObjects[] = []
  const runs: WalRun[] = []
  for (const [timeline, stock] of [...wal.timelines].sort(([a], [b]) => a - b)) {
    const needed = needs?.get(timeline)
    runs.push(...runsOf(timeline, stock, needed))
    for (const [kind, column] of stock.columns) {
      if (kind === 'segment' || !needed) continue
      for (let index = 0; index < column.length; index++) {
        if (whoNeeds(needed, column.first(index), column.last(index)) !== undefined) continue
        addOther(others, kind, column.bytes(index))
      }
    }
  }
  return { wal: runs, others }
}

function addOther(others: OtherObjects[], kind: OtherObjects['kind'], bytes: number): void {
  let sum = others.find((each) => each.kind === kind)
  if (!sum) others.push((sum = { kind, objects: 0, bytes: 0 }))
  sum.objects++
  sum.bytes += bytes
}

function runsOf(timeline: Timeline, stock: TimelineStock, needed: TimelineNeeds | undefined): WalRun[] {
  const runs: WalRun[] = []
  const column = stock.columns.get('segment')
  for (let index = 0; column && index < column.length; index++) {
    const segno = column.first(index)
    const neededBy = needed && whoNeeds(needed, segno, segno)
    const action = needed && neededBy === undefined ? 'delete' : 'keep'
    const run = runs.at(-1)
    if (run?.action !== action || run.neededBy !== neededBy) {
      runs.push({
        timeline,
        action,
        neededBy,
        first: segno,
        last: segno,
        segments: 1,
        objects: 1,
        bytes: column.bytes(index),
      })
      continue
    }
    if (run.last !== segno) run.segments++
    run.last = segno
    run.objects++
    run.bytes += column.bytes(index)
  }
  return runs
}

/** A record matters as long as any segment that it speaks of is needed. */
export function gapMatters(
  { endLsn, startLsn, timeline }: StoredGap,
  needs: ReadonlyMap<Timeline, TimelineNeeds>,
  segmentSize: number,
): boolean {
  const needed = needs.get(timeline)
  const size = BigInt(segmentSize)
  return !needed || whoNeeds(needed, Number(startLsn / size), Number((endLsn - 1n) / size)) !== undefined
}

function totalOf(
  choices: readonly Choice[],
  leftovers: readonly PlannedLeftover[],
  wal: readonly WalRun[],
  others: readonly OtherObjects[],
): DeletionPlan['total'] {
  const gone = choices.filter(({ action }) => action === 'delete').map(({ backup }) => backup.folder)
  const left = leftovers.filter(({ action }) => action === 'delete').map(({ backup }) => backup.folder)
  const runs = wal.filter(({ action }) => action === 'delete')
  let [objects, bytes] = [gone.length, 0]
  for (const folder of [...gone, ...left]) {
    objects += folder.objects
    bytes += folder.bytes
  }
  for (const run of runs) {
    objects += run.objects
    bytes += run.bytes
  }
  for (const other of others) {
    objects += other.objects
    bytes += other.bytes
  }
  return { backups: gone.length, objects, bytes }
}
