/**
 * Deltas that have come since the archive was read. A walrx that takes one announces it before its first object, and
 * looks for the sentinel of the parent just before it writes its own. So one that still saw the sentinel is found here,
 * after that has been removed: by its intent, or by its own sentinel.
 */
import { hasCode } from '../../primitives/errors.ts'
import type { Storage, StorageCallOptions } from '../../storage/storage.ts'
import { BackupArchive } from '../../walg/backup/backup-archive.ts'
import { nameOfSentinel, parseBackupName } from '../../walg/backup/backup-names.ts'
import { basebackupsFolder } from '../../walg/names.ts'
import type { ArchiveContents } from '../contents/archive-contents.ts'
import { readRunning } from '../contents/read-unfinished.ts'

/**
 * Names of backups that must stay, because something new builds on them.
 * @throws what the storage says
 */
export async function parentsOfLateDeltas(
  storage: Storage,
  { backups, nowMs }: ArchiveContents,
  options: StorageCallOptions,
): Promise<ReadonlySet<string>> {
  const parents = new Set<string>()
  for (const { parentNames } of await readRunning(storage, backups, nowMs, options)) {
    for (const name of parentNames) parents.add(name)
  }
  const archive = new BackupArchive(storage)
  for await (const name of lateNames(storage, backups, options)) {
    if (parseBackupName(name)?.deltaSuffix === undefined) continue
    try {
      const { delta } = await archive.readSentinel(name, options)
      if (delta) parents.add(delta.parentName)
    } catch (error) {
      if (!hasCode(error, 'WALRX_OBJECT_DAMAGED') && !hasCode(error, 'WALRX_BACKUP_NOT_FOUND')) throw error
    }
  }
  return parents
}

/** Names that sort after all known ones of their timeline: positions in the WAL only go on. */
async function* lateNames(
  storage: Storage,
  backups: ArchiveContents['backups'],
  options: StorageCallOptions,
): AsyncGenerator<string, void> {
  const newest = new Map<string, string>()
  for (const { name } of backups) {
    const line = name.slice(0, 'base_'.length + 8)
    if (name > (newest.get(line) ?? '')) newest.set(line, name)
  }
  const known = new Set(backups.map(({ name }) => name))
  for (const [line, name] of newest) {
    const prefix = basebackupsFolder + line
    for await (const { key } of storage.list(prefix, { ...options, startAfter: `${basebackupsFolder}${name}0` })) {
      const late = nameOfSentinel(key)
      if (late !== undefined && !known.has(late)) yield late
    }
  }
}
