/** The backups that a deletion removes, as its steps are given them. */
import type { Clock } from '../../primitives/clock.ts'
import type { Storage, StorageCallOptions } from '../../storage/storage.ts'
import type { ArchiveContents } from '../contents/archive-contents.ts'
import type { Refusals } from './refusals.ts'

/** What is to be removed, and with what. */
export interface BackupDeletion extends StorageCallOptions {
  readonly storage: Storage
  readonly clock: Clock
  readonly contents: ArchiveContents
  /** Names of backups with sentinels. */
  readonly doomed: readonly string[]
  /** Names of leftovers without one. */
  readonly leftovers: readonly string[]
  readonly refusals: Refusals
}
