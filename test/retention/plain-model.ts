/**
 * What an archive can be used for, found out the plain way from its keys and from what happened: by sets of names, one
 * moment after the other. It shares no code with what it judges.
 */
import { parseJson } from '../../src/primitives/json/json.ts'
import { segmentName } from '../../src/postgres/wal/wal-file.ts'
import type { MemoryStorage } from '../harness/store/memory-storage.ts'
import { type MadeArchive, type Moment, segmentBytes, type TrueBackup } from './made-archive.ts'

/** See the file's header. */
export class PlainModel {
  readonly #made: MadeArchive
  readonly #storage: MemoryStorage
  readonly #keys: readonly string[]
  readonly #segments = new Set<string>()

  /** @param storage the archive as it is now; a later change is not seen */
  constructor(made: MadeArchive, storage: MemoryStorage) {
    this.#made = made
    this.#storage = storage
    this.#keys = [...storage.objects.keys()]
    for (const key of this.#keys) {
      const name = /^wal_005\/([0-9A-F]{24})(\.(zst|lz4|lzma|br|lzo))?$/.exec(key)?.[1]
      if (name !== undefined) this.#segments.add(name)
    }
  }

  /** Backups that have a sentinel. */
  get listed(): TrueBackup[] {
    return this.#made.backups.filter(({ name }) =>
      this.#keys.includes(`basebackups_005/${name}_backup_stop_sentinel.json`),
    )
  }

  /** True where a segment is there in any codec. */
  hasSegment(timeline: number, segno: number): boolean {
    return this.#segments.has(segmentName(timeline, BigInt(segno), segmentBytes))
  }

  /** True where a backup has its sentinel, all of its parts, its whole chain, and the WAL that makes it consistent. */
  restores(backup: TrueBackup): boolean {
    for (let at: TrueBackup | undefined = backup; at; at = at.parent) if (!this.#isWhole(at)) return false
    for (let segno = backup.first; segno <= backup.last; segno++) {
      if (!this.hasSegment(backup.timeline, segno)) return false
    }
    return true
  }

  /** True where some backup leads to a moment. */
  reaches(moment: Moment): boolean {
    return this.#made.backups.some((backup) => this.leadsTo(backup, moment))
  }

  /** True where a recovery from this backup comes to a moment. */
  leadsTo(backup: TrueBackup, { segno, server, timeline }: Moment): boolean {
    if (backup.server !== server || backup.last > segno || !this.restores(backup)) return false
    const own = this.#made.timelines[server]
    if (timeline !== backup.timeline && this.#history(timeline) !== own?.get(timeline)?.history) return false
    // From the end to the start: the newest timeline that had begun by then has the segment.
    let at = timeline
    for (let each = segno; each >= backup.first; each--) {
      for (let origin = own?.get(at); origin && each < origin.segno; origin = own?.get(at)) at = origin.parent
      if (each > backup.last && !this.hasSegment(at, each)) return false
      if (each <= backup.last && at !== backup.timeline && !this.#beganWithin(backup, at)) return false
    }
    for (let origin = own?.get(at); origin && at !== backup.timeline; origin = own?.get(at)) at = origin.parent
    return at === backup.timeline
  }

  #history(timeline: number): string | undefined {
    return this.#storage.peek(`wal_005/${timeline.toString(16).toUpperCase().padStart(8, '0')}.history`)?.toString()
  }

  /** A backup whose last segment is the one in which its timeline was left. */
  #beganWithin({ finishLsn, last, timeline }: TrueBackup, at: number): boolean {
    const origin = this.#made.timelines.flatMap((own) => [...own]).find(([id]) => id === at)?.[1]
    return origin !== undefined && origin.parent === timeline && origin.segno === last && origin.lsn >= finishLsn
  }

  #isWhole({ name }: TrueBackup): boolean {
    const folder = `basebackups_005/${name}/tar_partitions/`
    const parts = this.#keys.filter((key) => key.startsWith(folder))
    return parts.length === 2 && this.#keys.includes(`basebackups_005/${name}_backup_stop_sentinel.json`)
  }

  /** True where a backup may be permanent for all that its documents say: WAL-G's mark is in metadata.json alone. */
  mayBeMarked(backup: TrueBackup): boolean {
    return this.isMarked(backup) || !this.#keys.includes(`basebackups_005/${backup.name}/metadata.json`)
  }

  /** True where either document says that a backup is permanent. */
  isMarked({ name }: TrueBackup): boolean {
    const read = (key: string) => {
      const bytes = this.#storage.peek(key)
      return bytes === undefined ? {} : (parseJson(bytes.toString()) as Record<string, unknown>)
    }
    const metadata = read(`basebackups_005/${name}/metadata.json`)
    const sentinel = read(`basebackups_005/${name}_backup_stop_sentinel.json`)
    return metadata['is_permanent'] === true || sentinel['IsPermanent'] === true
  }
}
