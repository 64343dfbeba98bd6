/** What a backup builds on, as far as anybody can know: by its sentinel, else by its name. */
import { parseBackupName } from '../../walg/backup/backup-names.ts'
import type { ArchivedBackup } from './archived-backup.ts'

/**
 * Of the names those that the suffix of a delta means: WAL-G names a delta after the first segment of its parent,
 * WAL-RUS after all of its chain.
 */
export function namesBySuffix(deltaSuffix: string | undefined, names: Iterable<string>): string[] {
  const segments = new Set(deltaSuffix?.split('_D_'))
  if (segments.size === 0) return []
  return [...names].filter((name) => segments.has(parseBackupName(name)?.segment ?? ''))
}

/**
 * Names of the backups that a backup may build on. Where its sentinel cannot be read its name shows them; where that
 * means none of the archive, it may be any other one.
 * @param names of all backups
 */
export function possibleParents(
  { isParentKnown, name, parentName }: Pick<ArchivedBackup, 'isParentKnown' | 'name' | 'parentName'>,
  names: () => Iterable<string>,
): readonly string[] {
  if (isParentKnown) return parentName === undefined ? [] : [parentName]
  const parsed = parseBackupName(name)
  if (parsed && parsed.deltaSuffix === undefined) return []
  const others = [...names()].filter((each) => each !== name)
  const found = namesBySuffix(parsed?.deltaSuffix, others)
  return found.length > 0 ? found : others
}
