/** Whether a backup can be restored, as far as the documents and the listings show it. */
import { type BackupChain, followChain, type LinkedBackup } from '../../catalog/chains.ts'
import type { Timeline } from '../../postgres/lsn.ts'
import type { ArchivedBackup } from './archived-backup.ts'
import type { ArchiveContents } from './archive-contents.ts'
import { possibleParents } from './possible-parents.ts'

/** The WAL that a backup needs to be consistent. Segment numbers, both included. */
export interface OwnWal {
  readonly timeline: Timeline
  readonly first: number
  readonly last: number
  readonly name: string
}

/** The backups of an archive, and what each needs to be restored. */
export class Restorability {
  readonly #contents: Pick<ArchiveContents, 'backups' | 'segmentSize' | 'wal'>
  readonly #byName: ReadonlyMap<string, ArchivedBackup>
  readonly #known = new Map<string, boolean>()

  constructor(contents: Pick<ArchiveContents, 'backups' | 'segmentSize' | 'wal'>) {
    this.#contents = contents
    this.#byName = new Map(contents.backups.map((backup) => [backup.name, backup]))
  }

  /** A backup by its name. */
  find(name: string): ArchivedBackup | undefined {
    return this.#byName.get(name)
  }

  /** What a backup builds on, and itself; see catalog/chains.ts. */
  chainOf(backup: LinkedBackup): BackupChain {
    return followChain(backup.name, this.#byName)
  }

  /** The backups that one may build on: where its sentinel cannot be read, all that its name may mean. */
  parentsOf(backup: ArchivedBackup): ArchivedBackup[] {
    return possibleParents(backup, () => this.#byName.keys()).flatMap((name) => this.find(name) ?? [])
  }

  /** All that a backup may build on, at whatever distance, and itself. */
  familyBelow(backup: ArchivedBackup): ReadonlySet<ArchivedBackup> {
    const family = new Set([backup])
    // A set that grows while it is walked is walked to its end.
    for (const each of family) for (const parent of this.parentsOf(each)) family.add(parent)
    return family
  }

  /** True where the archive has its whole chain, with parts, and its WAL from its start to its end. */
  isRestorable(backup: ArchivedBackup): boolean {
    const known = this.#known.get(backup.name)
    if (known !== undefined) return known
    const { names, problem } = this.chainOf(backup)
    const chain = names.map((name) => this.#byName.get(name))
    const isWhole = chain.every((each) => each !== undefined && each.problem === undefined && each.lack === undefined)
    const result = problem === undefined && isWhole && this.#hasOwnWal(backup)
    this.#known.set(backup.name, result)
    return result
  }

  #hasOwnWal(backup: ArchivedBackup): boolean {
    const own = ownWalOf(backup, this.#contents.segmentSize)
    if (!own) return true
    const stock = this.#contents.wal.timelines.get(own.timeline)
    for (let segno = startSegno(backup, this.#contents.segmentSize) ?? own.first; segno <= own.last; segno++) {
      if (stock?.holds(segno) !== true) return false
    }
    return true
  }
}

function startSegno({ startLsn }: ArchivedBackup, segmentSize: number): number | undefined {
  return startLsn > 0n ? Number(startLsn / BigInt(segmentSize)) : undefined
}

/**
 * The WAL that makes a backup consistent; undefined where its documents do not say where it ends. WAL-G keeps the segment
 * of the byte before its start as well, by which it may be called.
 */
export function ownWalOf(backup: ArchivedBackup, segmentSize: number): OwnWal | undefined {
  const { finishLsn, name, segno, startLsn, timeline } = backup
  if (timeline === undefined || segno === undefined || finishLsn === undefined || finishLsn === 0n) return undefined
  if (finishLsn < startLsn) return undefined
  const size = BigInt(segmentSize)
  const last = Number((finishLsn - 1n) / size)
  const first = Math.min(segno, startLsn > 0n ? Number((startLsn - 1n) / size) : segno)
  return last < first ? undefined : { timeline, first, last, name }
}
