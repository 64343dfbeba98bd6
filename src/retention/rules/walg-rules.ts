/**
 * WAL-G's `retain` and `before` (wal-g: internal/delete_handler.go): all that is older than one backup goes. Which one
 * that is follows from the order of time, where WAL-G goes by names: those begin again after pg_upgrade.
 */
import { latest } from '../../catalog/backups.ts'
import { WalrxError } from '../../primitives/errors.ts'
import type { ArchivedBackup } from '../contents/archived-backup.ts'
import type { ArchiveContents } from '../contents/archive-contents.ts'
import type { Restorability } from '../contents/restorable.ts'
import type { Keeping } from './choice.ts'
import { nearBackup } from './target.ts'
import type { BeforeRule, Point, RetainRule } from './rule.ts'

/**
 * Keeps what is as new as the backup that the rule means.
 * @returns false where there is no such backup: then nothing is old enough
 * @throws WALRX_DELETE_REFUSED where it is a delta, WALRX_BACKUP_NOT_FOUND for a name
 */
export function keepByWalgRule(
  contents: ArchiveContents,
  rule: RetainRule | BeforeRule,
  restorability: Restorability,
  keeping: Keeping,
): boolean {
  const { backups } = contents
  const index = rule.kind === 'retain' ? retained(contents, rule, restorability) : notBefore(contents, rule)
  const first = index === undefined ? undefined : backups[index]
  if (index === undefined || !first) return false
  if (isDelta(first)) {
    const call = rule.kind === 'retain' ? `retain FIND_FULL ${rule.count}` : `before FIND_FULL ${first.name}`
    throw new WalrxError('WALRX_DELETE_REFUSED', `${first.name} is a delta, and needs backups that are older`, {
      hint: `FIND_FULL keeps from its full backup on: walrx delete ${call}`,
    })
  }
  const reason = index === 0 ? 'nothing is older' : `it is not older than ${first.name}`
  for (const backup of backups.slice(index)) keeping.keep(backup, 'onwards', reason)
  return true
}

function isDelta({ isParentKnown, parentName }: ArchivedBackup): boolean {
  return isParentKnown && parentName !== undefined
}

/**
 * The oldest of the newest that stay. Only what can be restored counts: WAL-G counts all. With fewer than that all stay,
 * also with `--after`, where WAL-G then goes by that alone. With `--after` and FULL the full backup of that one is the
 * oldest: WAL-G takes the next full one after it, and deletes the one that was named.
 */
function retained(contents: ArchiveContents, rule: RetainRule, restorability: Restorability): number | undefined {
  const { backups } = contents
  const { after, count, modifier } = rule
  let found = 0
  let index: number | undefined
  for (let at = backups.length - 1; at >= 0 && index === undefined; at--) {
    const backup = backups[at]!
    if (restorability.isRestorable(backup) && (modifier !== 'FULL' || !isDelta(backup))) found++
    if (found >= count) index = modifier === 'FIND_FULL' ? fullAt(backups, at) : at
  }
  if (index === undefined || after === undefined) return index
  const since = firstSince(contents, after, rule)
  if (since === undefined) return index
  const place = modifier === 'none' ? since : fullAt(backups, since)
  return place === undefined ? undefined : Math.min(index, place)
}

/** The first full backup at or before a place. */
function fullAt(backups: readonly ArchivedBackup[], index: number): number | undefined {
  const at = backups.slice(0, index + 1).findLastIndex((backup) => !isDelta(backup))
  return at < 0 ? undefined : at
}

/** The first backup that is as new as a point; undefined where all are older. */
function firstSince(
  contents: ArchiveContents,
  point: Point,
  { usesSentinelTime }: { readonly usesSentinelTime: boolean },
): number | undefined {
  if ('name' in point) return indexByName(contents, point.name)
  const at = contents.backups.findIndex((backup) => timeOf(backup, usesSentinelTime) >= point.timeMs)
  return at < 0 ? undefined : at
}

function notBefore(contents: ArchiveContents, rule: BeforeRule): number | undefined {
  const { backups } = contents
  const index = firstSince(contents, rule.point, rule)
  return index !== undefined && rule.modifier === 'FIND_FULL' ? fullAt(backups, index) : index
}

function timeOf({ lastModifiedMs, startMs }: ArchivedBackup, usesSentinelTime: boolean): number {
  return usesSentinelTime ? startMs : lastModifiedMs
}

/** The newest backup whose name begins so; the newest of all for LATEST, which WAL-G takes for `target` alone. */
function indexByName({ backups, location }: ArchiveContents, name: string): number {
  if (name === latest && backups.length > 0) return backups.length - 1
  const exact = backups.findIndex((backup) => backup.name === name)
  const at = exact >= 0 ? exact : backups.findLastIndex((backup) => backup.name.startsWith(name))
  if (at >= 0) return at
  const near = nearBackup(name, backups)
  throw new WalrxError('WALRX_BACKUP_NOT_FOUND', `there is no backup "${name}" at ${location}`, {
    hint:
      near === undefined
        ? 'write the name of a backup, as walrx backup-list shows it, or a time such as 2026-03-01T12:00:00Z'
        : `did you mean ${near}?`,
  })
}
