/**
 * Copies an archive to another storage, whole or a window of it. Nothing is decoded: the bytes are copied as they are, so
 * the copy has the same codecs and keys. The order is that of a writer, so that the copy is worth all that it shows after
 * any end: the marker of the cluster, gaps, WAL, then backups, each with its sentinel last, then the WAL that has come
 * meanwhile, and tails. What the target has is not copied again, so that the same call goes on after any end.
 */
import { listInOrder } from '../catalog/backup-order.ts'
import { markBackup } from '../catalog/backup-mark.ts'
import { finishSentinelOrder, writeSentinelOrder } from '../catalog/sentinel-order.ts'
import { segmentName } from '../postgres/wal/wal-file.ts'
import type { Logger } from '../observe/log.ts'
import type { Clock } from '../primitives/clock.ts'
import { hasCode, WalrxError } from '../primitives/errors.ts'
import type { Storage } from '../storage/storage.ts'
import { BackupArchive } from '../walg/backup/backup-archive.ts'
import { parseWalKey } from '../walg/names.ts'
import { otherBytes } from '../walg/stored/transfer/stored-copy.ts'
import { copyBackups } from './backup-copies.ts'
import { CopyPool } from './copy-pool.ts'
import { type CopyPlan, planCopy, timelinesOf } from './copy-plan.ts'
import { type CopyRequest, type CopyScope, scopeOf } from './scope/copy-request.ts'
import { proveCopy } from './copy-proof.ts'
import { type KeyRange } from './compare/merged-listing.ts'
import { Mover } from './mover.ts'
import { PairJudge } from './compare/pair-judge.ts'
import { copyTails } from './tail-copy.ts'
import { claimTarget, clusterOf, defaultSegmentSize } from './target-cluster.ts'
import { unarchived } from './scope/wal-coverage.ts'

/** Options of {@link copyArchive}. */
export interface CopyOptions {
  readonly source: Storage
  readonly target: Storage
  readonly request: CopyRequest
  /** Bytes of one segment, where the operator says it; undefined: the archive does, else it is 16 MB. */
  readonly segmentSize: number | undefined
  /** Objects that are copied at the same time. */
  readonly concurrency: number
  /** True: read all of the copy and its source, and compare. */
  readonly verify: boolean
  /** True: write nothing. */
  readonly dryRun: boolean
  readonly log: Logger
  readonly clock: Clock
  readonly signal: AbortSignal
  /** Called before the copy is read again. */
  readonly onVerify: () => Promise<void>
  /** Bytes that came so far, of the copy or of its second reading, and all that are to come. */
  readonly onProgress: (bytes: number, totalBytes: number) => void
}

/** What was done, or would be. */
export interface CopySummary {
  readonly plan: CopyPlan
  readonly scope: CopyScope
  /** Objects and bytes that were copied; of a dry run, that would be. */
  readonly objects: number
  readonly bytes: number
  /** Names of backups that the target got, oldest first; of a dry run, that it would get. */
  readonly backups: readonly string[]
  /** Objects that were read from both sides and compared, besides the proof of each that was copied. */
  readonly compared: number
  /** False where a receiver replaced the tail faster than it could be copied. */
  readonly hasTail: boolean
}

/** Memory of the objects that are under way, in bytes. */
const memoryBytes = 72 * 1024 * 1024

/**
 * Copies.
 * @throws WALRX_OTHER_CLUSTER, WALRX_ARCHIVE_CONFLICT before anything is written; what {@link scopeOf} and
 * {@link copyBackups} throw; what the storages say
 */
export async function copyArchive(options: CopyOptions): Promise<CopySummary> {
  const { dryRun, request, signal, source, target } = options
  const cluster = await clusterOf(source, { signal })
  const segmentSize = options.segmentSize ?? cluster.segmentSize ?? defaultSegmentSize
  const scope = await scopeOf({ source, request, segmentSize, signal })
  const claim = { source, target, cluster, backups: scope.backups }
  await claimTarget(claim, false, { signal })
  const judge = new PairJudge(source, target, { signal })
  const plan = await planCopy({ source, target, scope, judge, signal })
  reportHoles(options, scope, plan)
  if (dryRun) {
    return { plan, scope, ...plan.missing, backups: plan.backups, compared: 0, hasTail: true }
  }
  refuseNothing(plan, scope, source)
  await target.probe({ signal })
  await claimTarget(claim, true, { signal })
  return new Run(options, scope, plan, judge).run()
}

function refuseNothing({ missing, present }: CopyPlan, { backups }: CopyScope, source: Storage): void {
  if (missing.objects + present.objects + backups.length > 0) return
  throw new WalrxError(
    'WALRX_BACKUP_NOT_FOUND',
    `there is nothing to copy at ${source.location}: no backup and no WAL`,
    {
      hint: 'check the prefix of the archive: walrx st ls shows what is there',
    },
  )
}

/** The backup that a window begins with must be restorable; of all others the operator should know. */
function reportHoles({ log, source }: CopyOptions, scope: CopyScope, plan: CopyPlan): void {
  for (const backup of scope.backups) {
    const missing = unarchived(backup, { segments: plan.runs.byTimeline, begun: plan.begun }, scope.segmentSize)
    if (missing === undefined) continue
    const what = `${source.location} lacks segment ${missing}, which backup ${backup.name} needs`
    if (backup.name === scope.base) {
      throw new WalrxError('WALRX_TARGET_UNREACHABLE', `${what}: the copy could not be restored`, {
        hint: 'begin with another backup (walrx backup-list shows them), or copy all of the archive',
      })
    }
    log.warn(`${what}: its copy cannot be restored either`)
  }
}

/** So many segments before the last one may be under way: a receiver looks no further back for what it has to send. */
const underWayMax = 64n

/** Holes that are named. */
const holesNamed = 5

/** The copy goes on with the segment after a hole, where a recovery cannot. Older holes are those of the source, and stay. */
function warnOfHoles({ log, source }: CopyOptions, { segmentSize, wal }: CopyScope, { runs }: CopyPlan): void {
  const names: string[] = []
  for (const timeline of runs.byTimeline.keys()) {
    const end = runs.lastOf(timeline) ?? 0n
    for (const { first, last } of runs.holesOf(timeline, wal.intervalsOf(timeline))) {
      for (let segno = first > end - underWayMax ? first : end - underWayMax; segno <= last; segno++)
        if (segno >= first) names.push(segmentName(timeline, segno, segmentSize))
    }
  }
  if (names.length === 0) return
  const more = names.length > holesNamed ? ` and ${names.length - holesNamed} more` : ''
  log.warn(
    `the copy lacks WAL that ${source.location} does not have yet, before its last segment: run the same copy again when it has`,
    { segments: names.slice(0, holesNamed).join(', ') + more },
  )
}

class Run {
  readonly #options: CopyOptions
  readonly #scope: CopyScope
  readonly #plan: CopyPlan
  readonly #judge: PairJudge
  readonly #pool: CopyPool
  readonly #mover: Mover

  constructor(options: CopyOptions, scope: CopyScope, plan: CopyPlan, judge: PairJudge) {
    this.#options = options
    this.#scope = scope
    this.#plan = plan
    this.#judge = judge
    const { concurrency, onProgress, signal, source, target } = options
    this.#pool = new CopyPool({ parallelMax: concurrency, bytesMax: memoryBytes, signal })
    const report = (bytes: number) => onProgress(bytes, Math.max(bytes, plan.missing.bytes))
    this.#mover = new Mover({ source, target, pool: this.#pool, onProgress: report })
  }

  async run(): Promise<CopySummary> {
    const { clock, log, source, target, verify } = this.#options
    using pool = this.#pool
    for (const range of this.#plan.ranges) await this.#copyRange(range)
    await pool.settle()
    const backups = await copyBackups(
      {
        ...{ source, target, clock, signal: pool.signal },
        mover: this.#mover,
        judge: this.#judge,
        onDeleted: (name) => log.warn('a backup was deleted from the source meanwhile, and is not copied', { name }),
      },
      this.#plan.backups,
    )
    const copyNewWal = () => this.#copyNewWal()
    await copyNewWal()
    const tails = { source, target, scope: this.#scope.wal, mover: this.#mover, signal: pool.signal, copyNewWal }
    const hasTail = await copyTails(tails)
    // A segment that was in the tail when the WAL was looked for may be whole since.
    await copyNewWal()
    warnOfHoles(this.#options, this.#scope, this.#plan)
    await this.#setMarks()
    await this.#orderSentinels(new Set(backups))
    const { bytes, objects } = this.#mover
    const compared = verify ? await this.#prove() : 0
    return { plan: this.#plan, scope: this.#scope, objects, bytes, backups, compared, hasTail }
  }

  async #copyRange(range: KeyRange): Promise<void> {
    const { source, target } = this.#options
    for await (const { info, verdict } of this.#judge.judge(range)) {
      if (verdict === 'missing') await this.#mover.begin(info)
      const name = parseWalKey(info.key)
      if (verdict !== 'extra' && name?.kind === 'segment') this.#plan.runs.add(name.name)
      if (verdict === 'other') throw otherBytes(source, target, [info.key])
    }
  }

  async #copyNewWal(): Promise<void> {
    const { runs } = this.#plan
    const { segmentSize, wal } = this.#scope
    const timelines = await timelinesOf(this.#options.source, { signal: this.#pool.signal })
    for (const range of wal.newWalRanges(timelines, runs, segmentSize)) await this.#copyRange(range)
    await this.#pool.settle()
  }

  /** Backups that the source keeps, and the target had without that mark. */
  async #setMarks(): Promise<void> {
    const { clock, log, signal, target } = this.#options
    const writing = { storage: target, archive: new BackupArchive(target), clock, signal }
    for (const name of this.#plan.toMark) {
      await markBackup(writing, { name, permanent: true, rewriteSentinels: false })
      log.info('marked as permanent, as in the source', { name })
    }
  }

  /** Sentinels that were copied before newer ones, or at the same time, have the others put again after them. */
  async #orderSentinels(copied: ReadonlySet<string>): Promise<void> {
    const { clock, log, signal, target } = this.#options
    const archive = new BackupArchive(target)
    const writing = { storage: target, archive, clock, signal }
    await finishSentinelOrder(writing)
    if (copied.size === 0) return
    const inOrder = await listInOrder(archive, { signal })
    const first = firstOvertaken(inOrder, copied)
    if (first < 0) return
    const known = inOrder.map(({ name }) => name)
    try {
      await writeSentinelOrder(writing, { known, names: known.slice(first), marked: [], permanent: false })
    } catch (error) {
      if (!hasCode(error, 'WALRX_MARK_REFUSED') && !hasCode(error, 'WALRX_STORAGE_DENIED')) throw error
      log.warn('WAL-G and WAL-RUS may take another backup of the copy for LATEST', { error: error.message })
    }
  }

  async #prove(): Promise<number> {
    const { concurrency, onProgress, onVerify, signal, source, target } = this.#options
    await onVerify()
    const { missing, present } = this.#plan
    const total = missing.bytes + present.bytes
    return proveCopy({
      ...{ source, target, scope: this.#scope, plan: this.#plan, concurrency, memoryBytes, signal },
      onProgress: (bytes) => onProgress(bytes, Math.max(bytes, total)),
    })
  }
}

/**
 * Index of the first backup whose sentinel is earlier than one before it, or of the last one, which is LATEST, where its own
 * is not later than all; where one of the two was copied just now.
 */
function firstOvertaken(
  inOrder: readonly { readonly name: string; readonly lastModifiedMs: number }[],
  copied: ReadonlySet<string>,
): number {
  let latest: (typeof inOrder)[number] | undefined
  for (const [index, backup] of inOrder.entries()) {
    const earliestMs = (latest?.lastModifiedMs ?? -Infinity) + (index === inOrder.length - 1 ? 1 : 0)
    const isLate = backup.lastModifiedMs < earliestMs
    if (isLate && (copied.has(backup.name) || copied.has(latest?.name ?? ''))) return index
    if (!isLate) latest = backup
  }
  return -1
}
