/** Chains of backups as their sentinels describe them: what a delta builds on, down to the full backup. */
import { hasCode } from '../primitives/errors.ts'
import type { StorageCallOptions } from '../storage/storage.ts'
import type { BackupArchive } from '../walg/backup/backup-archive.ts'
import { lackOf } from '../walg/backup/backup-listing.ts'
import { parseBackupName } from '../walg/backup/backup-names.ts'
import type { Sentinel } from '../walg/backup/sentinel.ts'

/** A backup, and what it builds on. */
export interface LinkedBackup {
  readonly name: string
  /** Undefined for a full one, and where the sentinel cannot be read. */
  readonly parentName: string | undefined
  /** False where the sentinel cannot be read. */
  readonly isParentKnown: boolean
  /** What it lacks itself, as {@link lackOf} says it; undefined for nothing, and where nobody looked. */
  readonly lack?: string | undefined
}

/** All that is needed to restore a backup. */
export interface BackupChain {
  /** The full backup first, this one last; as far down as the sentinels lead. */
  readonly names: readonly string[]
  /** Why it cannot be restored: it does not lead to a full backup, or one of it lacks something. Undefined where it can. */
  readonly problem: string | undefined
}

/** What the details of a backup say. */
export function linkOf({
  lack,
  name,
  sentinel,
}: {
  readonly name: string
  readonly sentinel: Pick<Sentinel, 'delta'> | undefined
  readonly lack?: string | undefined
}): LinkedBackup {
  return { name, parentName: sentinel?.delta?.parentName, isParentKnown: sentinel !== undefined, lack }
}

/** Follows the links of a backup. @param byName all backups of the archive */
export function followChain(name: string, byName: ReadonlyMap<string, LinkedBackup>): BackupChain {
  const names: string[] = []
  let problem: string | undefined
  for (let next: string | undefined = name; next !== undefined;) {
    const backup = byName.get(next)
    if (!backup) return { names, problem: `${next} is missing` }
    if (names.includes(next)) return { names, problem: `${next} builds on itself` }
    names.unshift(next)
    if (!backup.isParentKnown) return { names, problem: `the sentinel of ${next} cannot be read` }
    if (backup.lack !== undefined) problem ??= `${next} ${backup.lack}`
    next = backup.parentName
  }
  return { names, problem }
}

/** A backup that cannot be restored. */
export interface BrokenBackup {
  readonly name: string
  /** As {@link BackupChain.problem}. */
  readonly problem: string
}

/** For people: `NAME cannot be restored: it has no part with pg_control`. */
export function describeBroken({ name, problem }: BrokenBackup): string {
  const why = problem.startsWith(`${name} `) ? `it ${problem.slice(name.length + 1)}` : problem
  return `${name} cannot be restored: ${why}`
}

/** Those of the backups that cannot be restored, in their order. @param backups all of the archive */
export function brokenBackups(backups: readonly LinkedBackup[]): BrokenBackup[] {
  const links = new Map(backups.map((backup) => [backup.name, backup]))
  return backups.flatMap(({ name }) => {
    const { problem } = followChain(name, links)
    return problem === undefined ? [] : [{ name, problem }]
  })
}

/**
 * Why a backup cannot be restored, as far as the sentinels and folders of its chain show it: {@link followChain} for one
 * backup. Undefined where it can. Two requests for each step. Throws what the storage says.
 */
export async function problemOfChain(
  archive: BackupArchive,
  name: string,
  options?: StorageCallOptions,
): Promise<string | undefined> {
  const links = new Map<string, LinkedBackup>()
  for (let next: string | undefined = name; next !== undefined && !links.has(next);) {
    const link: LinkedBackup | undefined = await readLink(archive, next, options)
    if (!link) break
    links.set(next, link)
    next = link.parentName
  }
  return followChain(name, links).problem
}

/** Undefined for a backup that is not there. */
async function readLink(
  archive: BackupArchive,
  name: string,
  options?: StorageCallOptions,
): Promise<LinkedBackup | undefined> {
  try {
    const sentinel = await archive.readSentinel(name, options)
    return linkOf({ name, sentinel, lack: lackOf(sentinel, await archive.listFolder(name, options)) })
  } catch (error) {
    if (hasCode(error, 'WALRX_BACKUP_NOT_FOUND')) return undefined
    if (hasCode(error, 'WALRX_OBJECT_DAMAGED')) return linkOf({ name, sentinel: undefined })
    throw error
  }
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
