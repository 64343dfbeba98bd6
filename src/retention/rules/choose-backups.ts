/** Decides about every backup of an archive by a rule. Pure: the same contents and rule give the same decisions. */
import { WalrxError } from '../../primitives/errors.ts'
import { type ArchivedBackup, isLeftover, type UnfinishedBackup } from '../contents/archived-backup.ts'
import type { ArchiveContents } from '../contents/archive-contents.ts'
import { ownWalOf, Restorability } from '../contents/restorable.ts'
import { type Choice, Keeping } from './choice.ts'
import { keepByWalgRule } from './walg-rules.ts'
import { keepByCalendar, keepFulls, keepWindow } from './keep-rules.ts'
import type { RetentionRule, TargetRule } from './rule.ts'
import { targetsOf } from './target.ts'

/** What was decided. */
export interface Choices {
  /** The oldest first. */
  readonly choices: readonly Choice[]
  /**
   * True where WAL from before the kept backups may go: not by `target`, and not where the rule found nothing that
   * could go, or no backup from which recovery goes on.
   */
  readonly wal: boolean
  /** The first backup from which recovery goes on, as an index; Infinity for none. */
  readonly firstOnwards: number
}

/**
 * Decides.
 * @throws WALRX_DELETE_REFUSED, WALRX_BACKUP_NOT_FOUND, WALRX_USAGE for a rule that cannot be carried out
 */
export function chooseBackups(contents: ArchiveContents, rule: RetentionRule): Choices {
  const restorability = new Restorability(contents)
  if (rule.kind === 'target') return chooseTarget(contents, rule, restorability)
  const keeping = new Keeping()
  const isEffective = keepByRule(contents, rule, restorability, keeping)
  if (!isEffective) {
    const choices = contents.backups.map((backup): Choice => {
      return { backup, action: 'keep', wal: 'onwards', reason: 'nothing is old enough' }
    })
    return { choices, wal: false, firstOnwards: choices.length > 0 ? 0 : Infinity }
  }
  const last = contents.backups.findLast((backup) => restorability.isRestorable(backup))
  if (last && rule.kind !== 'garbage') keeping.keep(last, 'onwards', 'the last one that can be restored')
  const firstOnwards = indexOfFirst(contents.backups, (each) => keeping.of(each)?.wal === 'onwards')
  keepRegardless(contents, restorability, keeping, firstOnwards)
  const choices = contents.backups.map((backup, index) => decided(backup, keeping, index >= firstOnwards, contents))
  return { choices, wal: walMayGo(rule, firstOnwards), firstOnwards }
}

function walMayGo(rule: RetentionRule, firstOnwards: number): boolean {
  if (rule.kind === 'garbage') return rule.what !== 'BACKUPS'
  return firstOnwards !== Infinity
}

/** What the rule itself keeps. False where it asks for nothing to be deleted. */
function keepByRule(
  contents: ArchiveContents,
  rule: Exclude<RetentionRule, TargetRule>,
  restorability: Restorability,
  keeping: Keeping,
): boolean {
  switch (rule.kind) {
    case 'retain':
    case 'before':
      return keepByWalgRule(contents, rule, restorability, keeping)
    case 'garbage': {
      const first = contents.backups.findIndex(({ isPermanent }) => !isPermanent)
      if (first < 0 && !rule.withoutBackupCheck) return false
      for (const [index, backup] of contents.backups.entries()) {
        const isOnwards = first >= 0 && index >= first
        keeping.keep(backup, isOnwards ? 'onwards' : 'own', 'garbage removes no backup')
      }
      return true
    }
    case 'keep': {
      if (rule.windowMs !== undefined) keepWindow(contents, rule.windowMs, restorability, keeping)
      if (rule.fullCount !== undefined) keepFulls(contents, rule.fullCount, restorability, keeping)
      keepByCalendar(contents, rule.periods, restorability, keeping)
      return true
    }
    default:
      return rule satisfies never
  }
}

/** What stays whatever the rule says: permanent ones, those that nobody can read, and what others build on. */
function keepRegardless(
  { backups, unfinished }: ArchiveContents,
  restorability: Restorability,
  keeping: Keeping,
  firstOnwards: number,
): void {
  for (const [index, backup] of backups.entries()) {
    const wal = index >= firstOnwards ? 'onwards' : 'own'
    if (backup.isPermanent) keeping.keep(backup, wal, 'permanent')
    const remedy = `walrx delete target ${backup.name} removes it`
    if (backup.problem !== undefined) keeping.keep(backup, wal, `it may be needed: ${backup.problem}; ${remedy}`)
    if (!backup.isMarkKnown) keeping.keep(backup, wal, `${mayBePermanent}: ${howToMark(backup.name)}`)
    if (backup.timeline === undefined) keeping.keep(backup, wal, 'its name is none of WAL-G, WAL-RUS or walrx')
  }
  for (const each of unfinished) {
    if (isLeftover(each)) continue
    for (const parentName of each.parentNames) {
      const parent = restorability.find(parentName)
      if (parent) keeping.keep(parent, 'own', `${each.name}, which ${stateOf(each)}, builds on it`)
    }
  }
  // A chain may be long: each kept backup keeps its parent, the newest first.
  for (const backup of backups.filter((each) => keeping.of(each))) keepAncestors(backup, restorability, keeping)
}

/** Why a backup without a metadata.json stays. */
export const mayBePermanent = 'it may be permanent: it has no metadata.json, which says so'

/** How a backup gets a metadata.json. */
export function howToMark(name: string): string {
  return `walrx backup-mark --impermanent ${name} writes that it is not`
}

function keepAncestors(backup: ArchivedBackup, restorability: Restorability, keeping: Keeping): void {
  for (const child of restorability.familyBelow(backup)) {
    const how = child.isParentKnown ? 'builds' : 'may build'
    for (const parent of restorability.parentsOf(child)) keeping.keep(parent, 'own', `${child.name} ${how} on it`)
  }
}

function stateOf({ state }: UnfinishedBackup): string {
  return state === 'needed' ? 'has lost its sentinel' : 'is being written'
}

/** What is at least as new as the first backup from which recovery goes on has all of its WAL anyway. */
function decided(backup: ArchivedBackup, keeping: Keeping, isLate: boolean, { segmentSize }: ArchiveContents): Choice {
  const kept = keeping.of(backup)
  if (!kept) return { backup, action: 'delete', reason: 'no rule keeps it' }
  const isUnknown = ownWalOf(backup, segmentSize) === undefined
  const wal = kept.wal === 'onwards' || isLate || isUnknown ? 'onwards' : 'own'
  return { backup, action: 'keep', wal, reason: kept.reason }
}

function chooseTarget(contents: ArchiveContents, rule: TargetRule, restorability: Restorability): Choices {
  const { named, names: targets } = targetsOf(contents, rule, restorability)
  const permanent = [...targets].find((name) => restorability.find(name)?.isPermanent)
  if (permanent !== undefined) {
    throw new WalrxError('WALRX_DELETE_REFUSED', `${permanent} is permanent, and would go as well`, {
      hint: `walrx backup-mark --impermanent ${permanent} takes the mark away`,
    })
  }
  const unknown = [...targets].find((name) => name !== named && restorability.find(name)?.isMarkKnown === false)
  if (unknown !== undefined) {
    throw new WalrxError('WALRX_DELETE_REFUSED', `${unknown} would go as well, and ${mayBePermanent}`, {
      hint: howToMark(unknown),
    })
  }
  checkDependants(contents, targets, restorability)
  const choices = contents.backups.map((backup): Choice => {
    if (targets.has(backup.name)) return { backup, action: 'delete', reason: 'it is the target, or builds on it' }
    return { backup, action: 'keep', wal: 'onwards', reason: 'it is not the target' }
  })
  return { choices, wal: false, firstOnwards: indexOfFirst(choices, ({ action }) => action === 'keep') }
}

/** Refuses a target that something else builds on, or may build on. */
function checkDependants(
  { backups, unfinished }: ArchiveContents,
  targets: ReadonlySet<string>,
  restorability: Restorability,
): void {
  const child = unfinished.find(
    (each) => !isLeftover(each) && !targets.has(each.name) && each.parentNames.some((name) => targets.has(name)),
  )
  if (child) {
    const parent = child.parentNames.find((name) => targets.has(name))
    const hint =
      child.state === 'needed'
        ? 'delete the deltas that build on that backup before'
        : 'wait until that backup is complete, and delete it as well'
    throw new WalrxError('WALRX_DELETE_REFUSED', `${child.name}, which ${stateOf(child)}, builds on ${parent}`, {
      hint,
    })
  }
  for (const backup of backups) {
    if (backup.isParentKnown || targets.has(backup.name)) continue
    const parent = restorability.parentsOf(backup).find(({ name }) => targets.has(name))
    if (!parent) continue
    throw new WalrxError(
      'WALRX_DELETE_REFUSED',
      `the sentinel of ${backup.name} cannot be read: it may build on ${parent.name}`,
      { hint: `walrx delete target ${backup.name} --confirm removes that one before` },
    )
  }
}

function indexOfFirst<T>(items: readonly T[], is: (item: T) => boolean): number {
  const index = items.findIndex(is)
  return index < 0 ? Infinity : index
}
