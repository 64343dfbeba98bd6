/** What a deletion has to know of the backups of an archive, and nothing else: ten thousand of them fit into memory. */
import type { OrderedBackup } from '../../catalog/backup-order.ts'
import type { JsonValue } from '../../primitives/json/json.ts'
import type { Lsn, Timeline } from '../../postgres/lsn.ts'
import type { BackupFolder } from '../../walg/backup/backup-listing.ts'

/** A backup with a sentinel. */
export interface ArchivedBackup extends OrderedBackup {
  /** By its name; undefined for a name that is none of WAL-G's. */
  readonly timeline: Timeline | undefined
  /** Number of the segment that it starts in: by its name, and for a foreign name by its start LSN. */
  readonly segno: number | undefined
  readonly finishLsn: Lsn | undefined
  /** When it began and ended, in milliseconds since 1970: by its documents, else when its sentinel was written. */
  readonly startMs: number
  readonly finishMs: number
  /** Name of the backup that it builds on; undefined for a full one, and where the sentinel cannot be read. */
  readonly parentName: string | undefined
  readonly isParentKnown: boolean
  /** True where either place says so; see catalog/backups.ts. */
  readonly isPermanent: boolean
  /**
   * False where it may be permanent and nothing says it: WAL-G keeps the mark in metadata.json alone, and its sentinel goes
   * on to say false.
   */
  readonly isMarkKnown: boolean
  /** Why a document of it cannot be read; undefined where all can. */
  readonly problem: string | undefined
  /** Whatever `--add-user-data` said. */
  readonly userData: JsonValue | undefined
  readonly folder: BackupFolder
  /** What it lacks that a restore needs; undefined for nothing, and where its sentinel cannot be read. */
  readonly lack: string | undefined
}

/** A backup without a sentinel: one that is being written, or what one has left. */
export interface UnfinishedBackup {
  readonly name: string
  readonly timeline: Timeline | undefined
  readonly segno: number | undefined
  readonly folder: BackupFolder
  readonly state: UnfinishedState
  /** Names of the backups that it may build on. */
  readonly parentNames: readonly string[]
}

/**
 * - `running`: a walrx writes it, or it waits for its WAL
 * - `young`: its newest object is younger than a day, so another tool may be writing it
 * - `dead`: nobody has written to it for so long that nobody will
 * - `deleted`: a walrx delete has removed its sentinel, and was ended before it had removed the rest
 * - `needed`: a delta with a sentinel builds on it
 */
export type UnfinishedState = 'running' | 'young' | 'dead' | 'deleted' | 'needed'

/** True where its objects may be removed. */
export function isLeftover({ state }: UnfinishedBackup): boolean {
  return state === 'dead' || state === 'deleted'
}
