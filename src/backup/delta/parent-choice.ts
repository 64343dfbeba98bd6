/**
 * Which backup a new one builds on, by WAL-G's rules (docs/walg-format.md, 6.3; wal-g: delta_backup_configurator.go),
 * and whether it can: any backup of WAL-G's layout can, as long as its table of files says what it has.
 */
import { isDeepStrictEqual } from 'node:util'
import { listInOrder, notesOnLatest } from '../../catalog/backup-order.ts'
import { isPermanent, readDetail, readDetailsInOrder, selectBackup } from '../../catalog/backups.ts'
import type { BackupDetail } from '../../catalog/backups.ts'
import { problemOfChain } from '../../catalog/chains.ts'
import type { Logger } from '../../observe/log.ts'
import { hasCode, isOfKey, WalrxError } from '../../primitives/errors.ts'
import type { JsonValue } from '../../primitives/json/json.ts'
import type { ClusterFacts } from '../../postgres/backup/cluster-facts.ts'
import { formatLsn, type Lsn, type Timeline } from '../../postgres/lsn.ts'
import { isMainFork } from '../../postgres/relations/relation-file.ts'
import type { BackupArchive } from '../../walg/backup/backup-archive.ts'
import { parseBackupName } from '../../walg/backup/backup-names.ts'
import type { FilesMetadata } from '../../walg/backup/files-metadata.ts'
import type { Sentinel } from '../../walg/backup/sentinel.ts'
import type { EntryNames } from '../parts/tar-rewriter.ts'
import type { FullReason } from './full-reason.ts'
import { reasonOfChecksums } from './parent-checksums.ts'

/** What the settings say of deltas. */
export interface DeltaRules {
  /** True takes a full backup, whatever else is said. */
  readonly full: boolean
  /** Deltas of a chain at most; 0 for full backups only. */
  readonly maxSteps: number
  /** What a delta builds on: the newest backup, or the full one at the root of its chain. */
  readonly origin: 'LATEST' | 'LATEST_FULL'
  /** In place of the newest backup: a name, or the data that was kept with one. */
  readonly fromName: string | undefined
  readonly fromUserData: JsonValue | undefined
}

/** A backup that a new one builds on. */
export interface DeltaParent extends EntryNames {
  readonly name: string
  readonly timeline: Timeline
  readonly startLsn: Lsn
  readonly finishLsn: Lsn
  /** The full backup at the root of the chain; itself, where it is one. */
  readonly fullName: string
  /** Steps that the new backup is away from the full one, as WAL-G counts. */
  readonly count: number
  /** Relation files that it has, relative to the data directory, without a leading slash. */
  readonly paths: ReadonlySet<string>
}

/** What is going to be done. */
export type ParentChoice =
  | { readonly parent: DeltaParent; readonly full?: undefined }
  | { readonly parent?: undefined; readonly full: FullReason }

/** Longest chain that is followed: WAL-RUS restores no longer one either. */
const chainMax = 64

/**
 * Chooses.
 * @param isPermanentToBe of the new backup
 * @param cluster of the server
 * @throws WALRX_BACKUP_NOT_FOUND for a name that is not there, WALRX_USAGE where data is kept with several backups; what
 * the storage says
 */
export async function chooseParent(
  archive: BackupArchive,
  rules: DeltaRules,
  isPermanentToBe: boolean,
  cluster: Pick<ClusterFacts, 'checksums' | 'systemId'>,
  log: Logger,
  signal: AbortSignal,
): Promise<ParentChoice> {
  const asked = reasonBySettings(rules)
  if (asked) return { full: asked }
  const candidate = await findCandidate(archive, rules, log, signal)
  if (!candidate) return { full: { code: 'no-backup', message: `there is no backup yet to build on` } }
  const judged = judgeCandidate(candidate, rules, isPermanentToBe)
  if ('code' in judged) return { full: judged }
  const { count, parentName } = judged
  try {
    const sentinel =
      parentName === candidate.name && candidate.sentinel
        ? candidate.sentinel
        : await archive.readSentinel(parentName, { signal })
    const chain = await chainOf(archive, parentName, sentinel, signal)
    const found = await archive.readFilesMetadata(parentName, sentinel, { signal })
    if (found.kind !== 'found') throw unfit(parentName, 'has no table of its files')
    await refuseIncomplete(archive, parentName, found.metadata, signal)
    const problem = await problemOfChain(archive, parentName, { signal })
    if (problem !== undefined) throw new UnfitParent(`${parentName} cannot be built on: ${problem}`, undefined)
    await refuseLocked(archive, chain, signal)
    const standing = { count, fullName: chain.at(-1) ?? parentName, systemId: cluster.systemId }
    const parent = parentOf(parentName, sentinel, found.metadata, standing)
    const full = await reasonOfChecksums(archive, chain, cluster.checksums, signal)
    return full ? { full } : { parent }
  } catch (error) {
    if (error instanceof UnfitParent) {
      const { hint, message } = error
      return { full: { code: 'parent', message, ...(hint !== undefined && { hint }) } }
    }
    if (!hasCode(error, 'WALRX_OBJECT_DAMAGED') && !hasCode(error, 'WALRX_BACKUP_NOT_FOUND')) throw error
    return { full: { code: 'parent', message: `${parentName} cannot be built on: ${error.message}` } }
  }
}

/** A backup that cannot be built on; the message says why. */
class UnfitParent extends Error {
  /** What makes the next one a delta. */
  readonly hint: string | undefined

  constructor(message: string, hint: string | undefined) {
    super(message)
    this.hint = hint
  }
}

function unfit(name: string, why: string, hint?: string): UnfitParent {
  return new UnfitParent(`${name} cannot be built on: it ${why}`, hint)
}

function reasonBySettings({ full, maxSteps }: DeltaRules): FullReason | undefined {
  if (full) return { code: 'asked', message: '--full asks for a full backup' }
  if (maxSteps > 0) return undefined
  const hint = 'WALG_DELTA_MAX_STEPS says how many deltas a chain may have'
  return { code: 'off', message: 'deltas are off: WALG_DELTA_MAX_STEPS is 0', hint }
}

/** Undefined where there is none. */
async function findCandidate(
  archive: BackupArchive,
  { fromName, fromUserData }: DeltaRules,
  log: Logger,
  signal: AbortSignal,
): Promise<BackupDetail | undefined> {
  if (fromName !== undefined) {
    const selected = await selectBackup(archive, fromName, { signal })
    for (const note of selected.notes) log.warn(note)
    return readDetail(archive, selected, { signal })
  }
  if (fromUserData === undefined) {
    const inOrder = await listInOrder(archive, { signal })
    for (const note of notesOnLatest(inOrder)) log.warn(note)
    const newest = inOrder.at(-1)
    return newest && readDetail(archive, newest, { signal })
  }
  const details = await readDetailsInOrder(archive, { signal })
  const found = details.filter(({ metadata }) => isDeepStrictEqual(metadata?.userData, fromUserData))
  if (found.length <= 1) return found[0]
  throw new WalrxError(
    'WALRX_USAGE',
    `${found.length} backups have these user data: ${found.map(({ name }) => name).join(', ')}`,
    { hint: 'name the one to build on: --delta-from-name' },
  )
}

/**
 * By WAL-G's rules alone; no other object is looked at.
 * @returns the backup to build on and the steps that the new one will count; or why it must be full
 */
export function judgeCandidate(
  { name, permanence, problems, sentinel }: Pick<BackupDetail, 'name' | 'permanence' | 'problems' | 'sentinel'>,
  { maxSteps, origin }: Pick<DeltaRules, 'maxSteps' | 'origin'>,
  isPermanentToBe: boolean,
): { readonly parentName: string; readonly count: number } | FullReason {
  if (!sentinel) {
    return { code: 'parent', message: `${name} cannot be built on: ${problems[0]?.message ?? 'it has no sentinel'}` }
  }
  const count = (sentinel.delta?.count ?? 0) + 1
  if (count > maxSteps) {
    const message = `${name} is ${count - 1} steps away from its full backup, and ${maxSteps} are allowed`
    return { code: 'steps', message, hint: 'WALG_DELTA_MAX_STEPS says how many' }
  }
  if (problems.length > 0 || permanence.inMetadata === undefined) {
    const why = problems[0]?.message ?? 'its metadata.json is missing'
    return { code: 'parent', message: `${name} cannot be built on: ${why}` }
  }
  if (origin === 'LATEST_FULL') return { parentName: sentinel.delta?.fullName ?? name, count }
  if (isPermanent(permanence) && !isPermanentToBe) {
    // Else somebody who lets old backups go would keep what they build on for ever, and not know why.
    return { code: 'permanent', message: `${name} is permanent, and this backup is not to be` }
  }
  return { parentName: name, count }
}

/** The names of a chain, the full backup last. Throws {@link UnfitParent} for whatever makes it unreadable. */
async function chainOf(archive: BackupArchive, name: string, leaf: Sentinel, signal: AbortSignal): Promise<string[]> {
  const names = [name]
  let at = name
  let sentinel = leaf
  for (let length = 1; sentinel.delta; length++) {
    const { incrementFormat, parentName } = sentinel.delta
    if (incrementFormat !== undefined) {
      throw unfit(name, `builds on "${incrementFormat}" increments of ${at}, which WAL-G cannot restore`)
    }
    if (length > chainMax) throw unfit(name, `has more than ${chainMax} ancestors`)
    at = parentName
    names.push(at)
    sentinel = await archive.readSentinel(at, { signal })
  }
  return names
}

/** Whether everything is there, as far as a listing shows: WAL-G names parts with their extension, WAL-RUS without. */
async function refuseIncomplete(
  archive: BackupArchive,
  name: string,
  { tarFileSets }: FilesMetadata,
  signal: AbortSignal,
): Promise<void> {
  const parts = await archive.listParts(name, { signal })
  if (!parts.some(({ kind }) => kind !== 'data')) throw unfit(name, 'has no pg_control.tar')
  if (!parts.some(({ kind }) => kind === 'data')) throw unfit(name, 'has no parts')
  const there = new Set(parts.flatMap(({ base, fileName }) => [fileName, base]))
  for (const [part, names] of tarFileSets) {
    if (names.length > 0 && !there.has(part)) throw unfit(name, `lacks ${part}`)
  }
}

/** What is known of where a backup stands. */
interface Standing {
  readonly count: number
  readonly fullName: string
  readonly systemId: bigint
}

/**
 * What the present keys don't open cannot be restored with them: after a change of keys the next backup is a full one, and
 * says so.
 */
async function refuseLocked(archive: BackupArchive, chain: readonly string[], signal: AbortSignal): Promise<void> {
  for (const name of chain) {
    try {
      await archive.checkKeys(await archive.listParts(name, { signal }), { signal })
    } catch (error) {
      if (!isOfKey(error)) throw error
      throw unfit(chain[0] ?? name, `cannot be read with the keys that are set: ${error.message}`, error.hint)
    }
  }
}

/** The parent that a backup makes, by its documents. Throws {@link UnfitParent}. */
function parentOf(name: string, sentinel: Sentinel, { files }: FilesMetadata, standing: Standing): DeltaParent {
  const { finishLsn, startLsn, systemIdentifier } = sentinel
  const { count, fullName, systemId } = standing
  const timeline = parseBackupName(name)?.timeline
  if (timeline === undefined) throw unfit(name, 'has a name that does not show its timeline')
  if (startLsn === undefined) throw unfit(name, 'does not say where it starts')
  if (finishLsn === undefined) throw unfit(name, 'does not say where it ends')
  if (finishLsn < startLsn) {
    throw unfit(name, `says that it starts at ${formatLsn(startLsn)} and ends at ${formatLsn(finishLsn)}`)
  }
  if (systemIdentifier !== systemId) {
    const cluster = systemIdentifier === undefined ? 'has no system identifier' : `is of cluster ${systemIdentifier}`
    throw unfit(name, `${cluster}, and the server's is ${systemId}`)
  }
  const { paths, prefix } = relationPaths(files.keys())
  if (paths.size === 0) throw unfit(name, 'has no relation in the table of its files')
  const has = (entry: string) => entry.startsWith(prefix) && paths.has(entry.slice(prefix.length))
  return { name, timeline, startLsn, finishLsn, fullName, count, paths, prefix, has }
}

/**
 * Main forks among the names of entries, as paths. Spellings with a leading slash and without one are different files to
 * those who restore: the first one decides, and what is spelt otherwise is left out.
 */
export function relationPaths(names: Iterable<string>): { paths: ReadonlySet<string>; prefix: '/' | '' } {
  const paths = new Set<string>()
  let prefix: '/' | '' | undefined
  for (const name of names) {
    const own = name.startsWith('/') ? '/' : ''
    const path = name.slice(own.length)
    if (!isMainFork(path)) continue
    prefix ??= own
    if (own === prefix) paths.add(path)
  }
  return { paths, prefix: prefix ?? '/' }
}
