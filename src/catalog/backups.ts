/** The backups of an archive: which one a name or LATEST means, and what they say. */
import { hasCode, WalrxError } from '../primitives/errors.ts'
import { nearest } from '../primitives/nearest.ts'
import type { StorageCallOptions } from '../storage/storage.ts'
import type { BackupArchive, ListedBackup } from '../walg/backup/backup-archive.ts'
import { type BackupMetadata, metadataOf } from '../walg/backup/backup-metadata.ts'
import type { Sentinel } from '../walg/backup/sentinel.ts'
import { listInOrder, notesOnLatest, oldestFirst, type OrderedBackup, placeOf } from './backup-order.ts'
import { mapInParallel } from './map-in-parallel.ts'

/** What stands for the last backup in the order of backup-order.ts. */
export const latest = 'LATEST'

/** A backup that was asked for. */
export interface SelectedBackup extends ListedBackup {
  /** What the operator should know of the choice: messages for the log. */
  readonly notes: readonly string[]
}

/**
 * The backup of this name, or for LATEST the last one in the order of backup-order.ts.
 * @throws WALRX_BACKUP_NOT_FOUND, with the nearest name that there is
 */
export async function selectBackup(
  archive: BackupArchive,
  name: string,
  options?: StorageCallOptions,
): Promise<SelectedBackup> {
  if (name === latest) return selectLatest(archive, options)
  // What cannot be part of a key cannot be a name either.
  const found = isPlainName(name) ? await archive.headBackup(name, options) : undefined
  if (found) return { ...found, notes: [] }
  const names = (await archive.listBackups(options)).map((backup) => backup.name)
  const near = nearest(name, [latest, ...names])
  throw new WalrxError('WALRX_BACKUP_NOT_FOUND', `there is no backup "${name}" at ${archive.location}`, {
    hint: near === undefined ? 'walrx backup-list shows the backups of the archive' : `did you mean ${near}?`,
  })
}

function isPlainName(name: string): boolean {
  return /^[\x21-\x7e]{1,200}$/.test(name) && !name.includes('/')
}

async function selectLatest(archive: BackupArchive, options?: StorageCallOptions): Promise<SelectedBackup> {
  const inOrder = await listInOrder(archive, options)
  const newest = inOrder.at(-1)
  if (!newest) {
    throw new WalrxError('WALRX_BACKUP_NOT_FOUND', `there is no backup at ${archive.location}`, {
      hint: 'walrx backup-push takes one',
    })
  }
  const { lastModifiedMs, name } = newest
  return { name, lastModifiedMs, notes: notesOnLatest(inOrder) }
}

/** A backup with what its documents say. */
export interface BackupDetail extends ListedBackup {
  /** From metadata.json; from the sentinel where that is missing or damaged; undefined where both are. */
  readonly metadata: BackupMetadata | undefined
  /** Undefined where it is damaged. */
  readonly sentinel: Sentinel | undefined
  readonly permanence: Permanence
  /** Documents that cannot be read. */
  readonly problems: readonly WalrxError[]
}

/** What the two places say where a backup can be marked as one to keep; undefined for a document that says nothing. */
export interface Permanence {
  /** WAL-G reads and writes this one. */
  readonly inMetadata: boolean | undefined
  /** WAL-RUS reads and writes this one. */
  readonly inSentinel: boolean | undefined
}

/** True for a backup that any of the tools would keep: walrx goes by both. */
export function isPermanent({ inMetadata, inSentinel }: Permanence): boolean {
  return inMetadata === true || inSentinel === true
}

/** What the documents of some backups say, in the same order; a damaged one is no failure. */
export function readDetails(
  archive: BackupArchive,
  backups: readonly ListedBackup[],
  options?: StorageCallOptions,
): Promise<BackupDetail[]> {
  return mapInParallel(backups, (backup) => readDetail(archive, backup, options))
}

/** What the documents of all backups say, the oldest first. Each document is read once. */
export async function readDetailsInOrder(
  archive: BackupArchive,
  options?: StorageCallOptions,
): Promise<(BackupDetail & OrderedBackup)[]> {
  const details = await readDetails(archive, await archive.listBackups(options), options)
  return oldestFirst(details.map((detail) => ({ ...detail, ...placeOf(detail.sentinel, detail.metadata) })))
}

/** What the documents of one backup say. */
export async function readDetail(
  archive: BackupArchive,
  backup: ListedBackup,
  options?: StorageCallOptions,
): Promise<BackupDetail> {
  const { lastModifiedMs, name } = backup
  const problems: WalrxError[] = []
  const sentinel = await orProblem(archive.readSentinel(name, options), problems)
  const metadata = await orProblem(archive.readMetadata(name, options), problems)
  return {
    name,
    lastModifiedMs,
    metadata: metadata ?? (sentinel && metadataOf(sentinel)),
    sentinel,
    permanence: { inMetadata: metadata?.isPermanent, inSentinel: sentinel?.isPermanent },
    problems,
  }
}

async function orProblem<T>(reading: Promise<T>, problems: WalrxError[]): Promise<T | undefined> {
  try {
    return await reading
  } catch (error) {
    if (!hasCode(error, 'WALRX_OBJECT_DAMAGED') && !hasCode(error, 'WALRX_BACKUP_NOT_FOUND')) throw error
    problems.push(error)
    return undefined
  }
}
