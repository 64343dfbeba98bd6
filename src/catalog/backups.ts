/** The backups of an archive: which one a name or LATEST means, and what they say. */
import { hasCode, WalrxError } from '../primitives/errors.ts'
import { nearest } from '../primitives/nearest.ts'
import type { StorageCallOptions } from '../storage/storage.ts'
import type { BackupArchive, ListedBackup } from '../walg/backup/backup-archive.ts'
import { type BackupMetadata, metadataOf } from '../walg/backup/backup-metadata.ts'
import { lackOf, noFolder } from '../walg/backup/backup-listing.ts'
import { metadataKey, sentinelKey } from '../walg/backup/backup-names.ts'
import type { Sentinel } from '../walg/backup/sentinel.ts'
import { orProblem } from '../walg/damaged-object.ts'
import { listInOrder, notesOnLatest, oldestFirst, type OrderedBackup, placeOf } from './backup-order.ts'
import { describeBroken, problemOfChain } from './chains.ts'
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
  return { name, lastModifiedMs, notes: [...notesOnLatest(inOrder), ...(await notesOnUse(archive, inOrder, options))] }
}

/** How many backups are looked at for the newest that can be restored. */
const olderMax = 5

/**
 * What the operator should know of a LATEST that cannot be restored: messages for the log. Two requests for each backup
 * that is looked at, and for each that it builds on.
 * @param inOrder all backups, the oldest first
 * @throws what the storage says
 */
export async function notesOnUse(
  archive: BackupArchive,
  inOrder: readonly ListedBackup[],
  options?: StorageCallOptions,
): Promise<string[]> {
  const [newest, ...older] = inOrder.map(({ name }) => name).reverse()
  if (newest === undefined) return []
  const problem = await problemOfChain(archive, newest, options)
  if (problem === undefined) return []
  const what = `LATEST, ${describeBroken({ name: newest, problem })}`
  for (const name of older.slice(0, olderMax)) {
    if ((await problemOfChain(archive, name, options)) === undefined)
      return [`${what}; ${name} is the newest that can, as far as its documents and parts show`]
  }
  return [what]
}

/** A backup with what its documents say. */
export interface BackupDetail extends ListedBackup {
  /** From metadata.json; from the sentinel where that is missing or damaged; undefined where both are. */
  readonly metadata: BackupMetadata | undefined
  /** Undefined where it is damaged. */
  readonly sentinel: Sentinel | undefined
  readonly permanence: Permanence
  /** What it lacks that a restore needs; undefined for nothing, and where nobody looked. */
  readonly lack?: string | undefined
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
  const { folders, listed } = await archive.listFolders(options)
  const details = await readDetails(archive, listed, options)
  return oldestFirst(
    details.map((detail) => {
      const { metadata, name, sentinel } = detail
      const lack = sentinel && lackOf(sentinel, folders.get(name) ?? noFolder)
      return { ...detail, ...placeOf(sentinel, metadata), lack }
    }),
  )
}

/** What the documents of one backup say. */
export async function readDetail(
  archive: BackupArchive,
  backup: ListedBackup,
  options?: StorageCallOptions,
): Promise<BackupDetail> {
  const { lastModifiedMs, name } = backup
  const problems: WalrxError[] = []
  const sentinel = await orGone(archive.readSentinel(name, options), sentinelKey(name), problems)
  const metadata = await orGone(archive.readMetadata(name, options), metadataKey(name), problems)
  return {
    name,
    lastModifiedMs,
    metadata: metadata ?? (sentinel && metadataOf(sentinel)),
    sentinel,
    permanence: { inMetadata: metadata?.isPermanent, inSentinel: sentinel?.isPermanent },
    problems,
  }
}

/** As {@link orProblem}; a document that has gone since the listing is a problem, too. */
async function orGone<T>(reading: Promise<T>, key: string, problems: WalrxError[]): Promise<T | undefined> {
  try {
    return await orProblem(reading, key, problems)
  } catch (error) {
    if (!hasCode(error, 'WALRX_BACKUP_NOT_FOUND')) throw error
    problems.push(error)
    return undefined
  }
}
