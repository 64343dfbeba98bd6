/** Which backups `delete target` means: one with all that builds on it, or with its whole family. */
import { latest } from '../../catalog/backups.ts'
import { WalrxError } from '../../primitives/errors.ts'
import { formatJson, type JsonValue } from '../../primitives/json/json.ts'
import { nearest } from '../../primitives/nearest.ts'
import type { ArchivedBackup } from '../contents/archived-backup.ts'
import type { ArchiveContents } from '../contents/archive-contents.ts'
import type { Restorability } from '../contents/restorable.ts'
import type { TargetRule } from './rule.ts'

/** The backups of a target. */
export interface Targets {
  /** The one that was asked for; undefined where it has gone before. */
  readonly named: string | undefined
  /** With it, all that go. */
  readonly names: ReadonlySet<string>
}

/**
 * Finds them.
 * @throws WALRX_BACKUP_NOT_FOUND; WALRX_DELETE_REFUSED where several have the same user data
 */
export function targetsOf(
  { backups, deletion, location }: ArchiveContents,
  { target, wholeFamily }: TargetRule,
  restorability: Restorability,
): Targets {
  // An earlier deletion of it was ended before it was done: what is left of its family goes now.
  const isGone = 'name' in target && deletion.has(target.name) && !restorability.find(target.name)
  if (isGone && !wholeFamily) return { named: undefined, names: new Set() }
  if (isGone) return { named: undefined, names: familyOf(target.name, backups, deletion) }
  const found =
    'name' in target ? byName(backups, target.name, location) : byUserData(backups, target.userData, location)
  const root = wholeFamily ? (restorability.chainOf(found).names[0] ?? found.name) : found.name
  const targets = withChildren(root, backups)
  return { named: found.name, names: new Set([...targets].filter((name) => restorability.find(name))) }
}

/** A backup and all that builds on it. */
function withChildren(root: string, links: Iterable<Pick<ArchivedBackup, 'name' | 'parentName'>>): ReadonlySet<string> {
  const children = new Map<string, string[]>()
  for (const { name, parentName } of links) {
    if (parentName !== undefined) children.set(parentName, [...(children.get(parentName) ?? []), name])
  }
  const targets = new Set([root])
  // A set that grows while it is walked is walked to its end.
  for (const name of targets) for (const child of children.get(name) ?? []) targets.add(child)
  return targets
}

/** The backups of a family, of which some are gone: the record of the deletion has the parents of those. */
function familyOf(
  name: string,
  backups: readonly ArchivedBackup[],
  deletion: ArchiveContents['deletion'],
): ReadonlySet<string> {
  const present = new Map(backups.map((backup) => [backup.name, backup]))
  const links = new Map<string, Pick<ArchivedBackup, 'name' | 'parentName'>>([...deletion, ...present])
  const seen = new Set<string>()
  let root = name
  for (let next: string | undefined = name; next !== undefined && links.has(next) && !seen.has(next);) {
    seen.add(next)
    root = next
    next = links.get(next)?.parentName
  }
  return new Set([...withChildren(root, links.values())].filter((each) => present.has(each)))
}

function byName(backups: readonly ArchivedBackup[], name: string, location: string): ArchivedBackup {
  const found = name === latest ? backups.at(-1) : backups.find((backup) => backup.name === name)
  if (found) return found
  const near = nearBackup(name, backups)
  throw new WalrxError('WALRX_BACKUP_NOT_FOUND', `there is no backup "${name}" at ${location}`, {
    hint: near === undefined ? 'walrx backup-list shows the backups of the archive' : `did you mean ${near}?`,
  })
}

/** What may be meant by a name that no backup has: undefined where nothing is near. */
export function nearBackup(name: string, backups: readonly Pick<ArchivedBackup, 'name'>[]): string | undefined {
  if (name.toUpperCase() === latest) return latest
  // As the sentinel of a backup is called, or the folder of its parts.
  const bare = name.replace(/^.*\/(?=.)|\/$|_backup_stop_sentinel\.json$/g, '')
  const names = backups.map((backup) => backup.name)
  return names.includes(bare) ? bare : nearest(name, names)
}

function byUserData(backups: readonly ArchivedBackup[], userData: JsonValue, location: string): ArchivedBackup {
  const wanted = canonical(userData)
  const found = backups.filter((backup) => backup.userData !== undefined && canonical(backup.userData) === wanted)
  const [first, second] = found
  if (!first) {
    throw new WalrxError('WALRX_BACKUP_NOT_FOUND', `no backup at ${location} has the user data ${wanted}`, {
      hint: 'walrx backup-list --detail --json shows the user data of each backup',
    })
  }
  if (second) {
    throw new WalrxError(
      'WALRX_DELETE_REFUSED',
      `${found.length} backups have the user data ${wanted}: ${first.name}, ${second.name}${found.length > 2 ? ' and others' : ''}`,
      { hint: 'write the name of the one that is to go' },
    )
  }
  return first
}

/** JSON with the keys of objects in order: the same for what Go would take for equal. */
function canonical(value: JsonValue): string {
  return formatJson(inOrder(value))
}

function inOrder(value: JsonValue): JsonValue {
  if (typeof value !== 'object' || value === null) return value
  if (Array.isArray(value)) return (value as readonly JsonValue[]).map(inOrder)
  return Object.fromEntries(
    Object.entries(value)
      .toSorted(([a], [b]) => (a < b ? -1 : 1))
      .map(([key, each]) => [key, inOrder(each as JsonValue)]),
  )
}
