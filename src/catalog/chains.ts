/** Chains of backups as their sentinels describe them: what a delta builds on, down to the full backup. */
import { hasCode } from '../primitives/errors.ts'
import type { StorageCallOptions } from '../storage/storage.ts'
import type { BackupArchive } from '../walg/backup/backup-archive.ts'
import { parseBackupName } from '../walg/backup/backup-names.ts'
import type { Sentinel } from '../walg/backup/sentinel.ts'

/** A backup, and what it builds on. */
export interface LinkedBackup {
  readonly name: string
  /** Undefined for a full one, and where the sentinel cannot be read. */
  readonly parentName: string | undefined
  /** False where the sentinel cannot be read. */
  readonly isParentKnown: boolean
}

/** All that is needed to restore a backup. */
export interface BackupChain {
  /** The full backup first, this one last; as far down as the sentinels lead. */
  readonly names: readonly string[]
  /** Why it does not lead to a full backup; undefined where it does. */
  readonly problem: string | undefined
}

/** What the details of a backup say. */
export function linkOf({
  name,
  sentinel,
}: {
  readonly name: string
  readonly sentinel: Pick<Sentinel, 'delta'> | undefined
}): LinkedBackup {
  return { name, parentName: sentinel?.delta?.parentName, isParentKnown: sentinel !== undefined }
}

/** Follows the links of a backup. @param byName all backups of the archive */
export function followChain(name: string, byName: ReadonlyMap<string, LinkedBackup>): BackupChain {
  const names: string[] = []
  for (let next: string | undefined = name; next !== undefined;) {
    const backup = byName.get(next)
    if (!backup) return { names, problem: `${next} is missing` }
    if (names.includes(next)) return { names, problem: `${next} builds on itself` }
    names.unshift(next)
    if (!backup.isParentKnown) return { names, problem: `the sentinel of ${next} cannot be read` }
    next = backup.parentName
  }
  return { names, problem: undefined }
}

/**
 * Whether any delta of the archive builds on a backup: nothing may remove its data then. A delta with a sentinel that
 * cannot be read might.
 */
export async function isBuiltOn(archive: BackupArchive, name: string, options?: StorageCallOptions): Promise<boolean> {
  for (const delta of await archive.listBackups(options)) {
    // Every tool writes `_D_` into the name of a delta.
    if (parseBackupName(delta.name)?.deltaSuffix === undefined) continue
    try {
      const { delta: origin } = await archive.readSentinel(delta.name, options)
      if (origin?.parentName === name) return true
    } catch (error) {
      if (hasCode(error, 'WALRX_OBJECT_DAMAGED')) return true
      if (!hasCode(error, 'WALRX_BACKUP_NOT_FOUND')) throw error
    }
  }
  return false
}
