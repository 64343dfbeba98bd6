/** Chains of backups as their sentinels tell them: what a delta builds on, down to the full backup. */
import type { BackupDetail } from './backups.ts'

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
export function linkOf({ name, sentinel }: BackupDetail): LinkedBackup {
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
