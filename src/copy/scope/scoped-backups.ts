/** The backups of an archive in their order, with what decides whether a copy takes them. */
import { oldestFirst, placeOf } from '../../catalog/backup-order.ts'
import { mapInParallel } from '../../catalog/map-in-parallel.ts'
import { nearest } from '../../primitives/nearest.ts'
import { hasCode, WalrxError } from '../../primitives/errors.ts'
import type { Lsn, Timeline } from '../../postgres/lsn.ts'
import type { TimestampTz } from '../../postgres/timestamp.ts'
import type { Storage, StorageCallOptions } from '../../storage/storage.ts'
import { BackupArchive } from '../../walg/backup/backup-archive.ts'
import { parseBackupName } from '../../walg/backup/backup-names.ts'
import { knownTime, knownTimestamp } from '../../walg/backup/backup-time.ts'
import type { Sentinel } from '../../walg/backup/sentinel.ts'

/** A backup. What none of its documents says is undefined. */
export interface ScopedBackup {
  readonly name: string
  readonly timeline: Timeline | undefined
  readonly startLsn: Lsn | undefined
  readonly finishLsn: Lsn | undefined
  readonly finishTime: TimestampTz | undefined
  readonly parentName: string | undefined
  readonly systemId: bigint | undefined
}

/** All backups of an archive. */
export interface BackupArchiveOrder {
  /** Oldest first. */
  readonly backups: readonly ScopedBackup[]
  /** The backup of a name, or the newest for LATEST. Throws WALRX_BACKUP_NOT_FOUND. */
  readonly find: (name: string) => ScopedBackup
}

/** Reads the sentinel of each backup once, several at a time. A damaged one says nothing of its backup. */
export async function orderOf(source: Storage, options?: StorageCallOptions): Promise<BackupArchiveOrder> {
  const archive = new BackupArchive(source)
  const known = await mapInParallel(await archive.listBackups(options), async (backup) => {
    const sentinel = await ifReadable(archive.readSentinel(backup.name, options))
    if (sentinel === 'gone') return []
    // WAL-G wrote times into metadata.json before it wrote them into sentinels.
    const isTimed = knownTime(sentinel?.startTime) !== undefined
    const metadata = isTimed ? undefined : await ifReadable(archive.readMetadata(backup.name, options))
    const place = placeOf(sentinel, metadata === 'gone' ? undefined : metadata)
    return [{ ...backup, ...place, scoped: scoped(backup.name, sentinel) }]
  })
  const backups = oldestFirst(known.flat()).map((backup) => backup.scoped)
  const find = (name: string) => {
    const found = name === 'LATEST' ? backups.at(-1) : backups.find((backup) => backup.name === name)
    if (found) return found
    const near = nearest(name, ['LATEST', ...backups.map((backup) => backup.name)])
    const which = name === 'LATEST' ? 'there is no backup' : `there is no backup "${name}"`
    throw new WalrxError('WALRX_BACKUP_NOT_FOUND', `${which} at ${source.location}`, {
      hint: near === undefined ? 'walrx backup-list shows the backups of the archive' : `did you mean ${near}?`,
    })
  }
  return { backups, find }
}

async function ifReadable<T>(reading: Promise<T>): Promise<T | undefined | 'gone'> {
  try {
    return await reading
  } catch (error) {
    if (hasCode(error, 'WALRX_OBJECT_DAMAGED')) return undefined
    if (hasCode(error, 'WALRX_BACKUP_NOT_FOUND')) return 'gone'
    throw error
  }
}

function scoped(name: string, sentinel: Sentinel | undefined): ScopedBackup {
  return {
    name,
    timeline: parseBackupName(name)?.timeline,
    startLsn: sentinel?.startLsn,
    finishLsn: sentinel?.finishLsn,
    finishTime: knownTimestamp(sentinel?.finishTime),
    parentName: sentinel?.delta?.parentName,
    systemId: sentinel?.systemIdentifier,
  }
}

/**
 * A backup and all that it builds on.
 * @throws WALRX_BACKUP_NOT_FOUND for a parent that is missing: nothing restores the backup
 */
export function chainOf({ backups }: BackupArchiveOrder, backup: ScopedBackup, location: string): ScopedBackup[] {
  const chain: ScopedBackup[] = []
  for (let next: ScopedBackup | undefined = backup; next;) {
    chain.push(next)
    const { name, parentName }: ScopedBackup = next
    if (parentName === undefined) break
    next = backups.find((each) => each.name === parentName)
    if (next && !chain.includes(next)) continue
    throw new WalrxError(
      'WALRX_BACKUP_NOT_FOUND',
      `${name} builds on ${parentName}, which is not among the backups at ${location}`,
      { hint: 'this delta cannot be restored: copy another backup' },
    )
  }
  return chain
}
