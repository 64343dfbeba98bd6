/**
 * What a copy has to do: both storages are listed side by side, and nothing is written. Of WAL it keeps ranges of numbers, of
 * backups their names.
 */
import type { Timeline } from '../postgres/lsn.ts'
import type { ObjectInfo, Storage, StorageCallOptions } from '../storage/storage.ts'
import { backupFolder, metadataKey, nameOfSentinel, partsPrefix, sentinelKey } from '../walg/backup/backup-names.ts'
import { basebackupsFolder, parseWalKey, walFolder } from '../walg/names.ts'
import { otherBytes } from '../walg/stored/transfer/stored-copy.ts'
import { listTails } from '../walg/wal/tail-reader.ts'
import { WalReader } from '../walg/wal/wal-reader.ts'
import { compareMarks } from './compare/backup-marks.ts'
import type { CopyScope } from './scope/copy-request.ts'
import { WalRuns } from './scope/wal-runs.ts'
import type { KeyRange } from './compare/merged-listing.ts'
import type { Judged, OnlyInTarget, PairJudge } from './compare/pair-judge.ts'

/** Objects and their bytes as stored. */
export interface Amount {
  objects: number
  bytes: number
}

/** See the file's header. */
export interface CopyPlan {
  /** Ranges with something to copy, from the first key on that is missing. */
  readonly ranges: readonly KeyRange[]
  /** Names of backups that the target lacks, or lacks objects of; oldest first. */
  readonly backups: readonly string[]
  /** Names of backups that the source keeps and the target would delete, oldest first. */
  readonly toMark: readonly string[]
  /** To be copied. */
  readonly missing: Amount
  /** There already. */
  readonly present: Amount
  /** Segments of the source within the scope; those that come while it is copied are added. */
  readonly runs: WalRuns
  /** When the newest of the objects was stored that the source has in the scope, by its clock, in milliseconds since 1970. */
  readonly newestMs: number
  /** Names of segments of which the source has a beginning: a tail or a partial. */
  readonly begun: ReadonlySet<string>
}

/** What {@link planCopy} needs. */
export interface PlanOptions extends StorageCallOptions {
  readonly source: Storage
  readonly target: Storage
  readonly scope: CopyScope
  readonly judge: PairJudge
}

/** Conflicts that are named. All are counted. */
const namedMax = 5

/** Where so many backups are copied, one listing of all is cheaper than one of each. */
const manyBackups = 20

/**
 * Plans a copy.
 * @throws WALRX_ARCHIVE_CONFLICT where the target has other bytes under names of the source, or parts of a backup that the
 * source does not have; what the storages say
 */
export async function planCopy(options: PlanOptions): Promise<CopyPlan> {
  const planning = new Planning(options)
  for (const range of options.scope.wal.ownRanges()) await planning.add(range)
  const timelines = await timelinesOf(options.source, options)
  for (const range of options.scope.wal.walRanges(timelines)) await planning.add(range)
  await planning.addTails()
  await planning.addBackups()
  return planning.end()
}

/** The timelines of an archive. One page of a listing for each. */
export async function timelinesOf(storage: Storage, { signal }: StorageCallOptions): Promise<Timeline[]> {
  const timelines: Timeline[] = []
  for await (const timeline of new WalReader(storage).timelinesAfter(0, signal && { signal })) timelines.push(timeline)
  return timelines
}

class Planning {
  readonly #options: PlanOptions
  readonly #ranges: KeyRange[] = []
  readonly #incomplete = new Set<string>()
  readonly #toMark = new Set<string>()
  readonly #missing = { objects: 0, bytes: 0 }
  readonly #present = { objects: 0, bytes: 0 }
  readonly #conflicts: string[] = []
  #conflictCount = 0
  readonly #runs: WalRuns
  #newestMs = 0
  readonly #begun = new Set<string>()

  constructor(options: PlanOptions) {
    this.#options = options
    this.#runs = new WalRuns(options.scope.segmentSize)
  }

  async add(range: KeyRange): Promise<void> {
    let firstMissing: string | undefined
    for await (const judged of this.#options.judge.judge(range)) {
      this.#count(judged)
      if (judged.verdict === 'extra') continue
      this.#noteSegment(judged.info)
      if (judged.verdict === 'missing' && (firstMissing === undefined || judged.info.key < firstMissing))
        firstMissing = judged.info.key
    }
    if (firstMissing !== undefined) this.#ranges.push({ ...range, after: justBefore(firstMissing, range) })
  }

  async addTails(): Promise<void> {
    const { source, signal } = this.#options
    for await (const { segment } of listTails(source, undefined, signal && { signal })) this.#begun.add(segment)
  }

  async addBackups(): Promise<void> {
    const { backups } = this.#options.scope
    const names = new Set(backups.map(({ name }) => name))
    if (names.size > manyBackups) await this.#addBackupRange({ prefix: basebackupsFolder }, names)
    else {
      for (const name of names) {
        await this.#addBackupRange({ prefix: backupFolder(name) }, names)
        await this.#addBackupRange({ prefix: sentinelKey(name) }, names)
      }
    }
  }

  async #addBackupRange(range: KeyRange, names: ReadonlySet<string>): Promise<void> {
    for await (const judged of this.#options.judge.judge(range)) {
      const { info, verdict } = judged
      const name = backupOf(info.key)
      if (!names.has(name)) continue
      if (verdict === 'missing') this.#incomplete.add(name)
      if (verdict === 'extra') await this.#judgeExtra(name, info.key)
      if (verdict === 'other' && (info.key === metadataKey(name) || info.key === sentinelKey(name))) {
        const marks = await compareMarks(this.#options.source, this.#options.target, info.key, this.#options)
        if (marks === 'differ') this.#addConflict(info.key)
        else add(this.#present, info.size)
        if (marks === 'only source') this.#toMark.add(name)
      } else this.#count(judged)
    }
  }

  /** A restore extracts all parts that are there. A backup that has gone meanwhile is not copied. */
  async #judgeExtra(name: string, key: string): Promise<void> {
    if (!key.startsWith(partsPrefix(name))) return
    const { source, signal } = this.#options
    if (await source.head(sentinelKey(name), signal && { signal })) this.#addConflict(key)
  }

  end(): CopyPlan {
    const { scope, source, target } = this.#options
    if (this.#conflictCount > 0) throw otherBytes(source, target, this.#conflicts, this.#conflictCount)
    const inOrder = (set: ReadonlySet<string>) => scope.backups.map(({ name }) => name).filter((name) => set.has(name))
    return {
      ranges: this.#ranges,
      backups: inOrder(this.#incomplete),
      toMark: inOrder(this.#toMark),
      missing: this.#missing,
      present: this.#present,
      runs: this.#runs,
      newestMs: this.#newestMs,
      begun: this.#begun,
    }
  }

  #count({ info, verdict }: Judged | OnlyInTarget): void {
    if (verdict === 'missing') add(this.#missing, info.size)
    if (verdict === 'present') add(this.#present, info.size)
    if (verdict === 'other') this.#addConflict(info.key)
  }

  #addConflict(key: string): void {
    this.#conflictCount++
    if (this.#conflicts.length < namedMax) this.#conflicts.push(key)
  }

  #noteSegment({ key, lastModifiedMs }: ObjectInfo): void {
    this.#newestMs = Math.max(this.#newestMs, lastModifiedMs)
    const parsed = parseWalKey(key)
    if (parsed?.kind === 'partial') this.#begun.add(parsed.name.slice(0, 24))
    if (parsed?.kind === 'segment') this.#runs.add(parsed.name)
  }
}

/** Name of the backup that a key of `basebackups_005` belongs to. */
function backupOf(key: string): string {
  return nameOfSentinel(key) ?? key.slice(basebackupsFolder.length).split('/', 1)[0] ?? ''
}

/** A key after which the listing shows this one: forms of one segment are judged together. Undefined: from the beginning. */
function justBefore(key: string, { after, prefix }: KeyRange): string | undefined {
  const name = /^[0-9A-F]{24}/.exec(key.slice(walFolder.length))?.[0]
  const stem = key.startsWith(walFolder) && name !== undefined ? walFolder + name : key
  const before = stem.slice(0, -1)
  if (after !== undefined && after > before) return after
  return before > prefix ? before : undefined
}

function add(amount: Amount, bytes: number): void {
  amount.objects++
  amount.bytes += bytes
}
