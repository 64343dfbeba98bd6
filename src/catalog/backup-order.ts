/**
 * The order of backups: the one that began last, by its own documents, is LATEST. The times of the storage do not decide,
 * as they do for WAL-G and WAL-RUS: a copy of a bucket gives every object the time of the copying, in any order.
 */
import { hasCode } from '../primitives/errors.ts'
import type { StorageCallOptions } from '../storage/storage.ts'
import type { BackupArchive, ListedBackup } from '../walg/backup/backup-archive.ts'
import type { BackupMetadata } from '../walg/backup/backup-metadata.ts'
import { formatBackupTime, knownTime } from '../walg/backup/backup-time.ts'
import type { Sentinel } from '../walg/backup/sentinel.ts'
import { mapInParallel } from './map-in-parallel.ts'

/** A backup with what decides its place. */
export interface OrderedBackup extends ListedBackup {
  /** Nanoseconds since 1970, by the clock of the host that took the backup; undefined where no document says it. */
  readonly startTime: bigint | undefined
  /** 0 where no document says it. */
  readonly startLsn: bigint
  /** Of the server; undefined where no document says it. */
  readonly systemId: bigint | undefined
}

/**
 * Oldest first. Only the first versions of the tools wrote no start: what has none goes before what has one, by timeline
 * and segment, which its name begins with.
 * Of two backups of one server on one timeline the LSN shows which began later, whatever the clocks of the hosts say that
 * took them. So none counts as older than one before it on its timeline.
 */
export function oldestFirst<B extends OrderedBackup>(backups: readonly B[]): B[] {
  const times = new Map<OrderedBackup, bigint>()
  /** The latest time so far, by server and timeline. */
  const latest = new Map<string, bigint>()
  for (const backup of backups.toSorted((a, b) => compareBigints(a.startLsn, b.startLsn))) {
    const { name, startLsn, startTime, systemId } = backup
    if (startTime === undefined) continue
    const line = `${systemId} ${name.slice('base_'.length, 'base_'.length + 8)}`
    const before = startLsn > 0n && systemId !== undefined ? latest.get(line) : undefined
    const time = before !== undefined && before > startTime ? before : startTime
    times.set(backup, time)
    latest.set(line, time)
  }
  return backups.toSorted((a, b) => compare(a, b, (each) => times.get(each) ?? -1n))
}

function compare(a: OrderedBackup, b: OrderedBackup, timeOf: (backup: OrderedBackup) => bigint): number {
  return (
    compareBigints(timeOf(a), timeOf(b)) ||
    (a.startTime === undefined ? 0 : compareBigints(a.startLsn, b.startLsn)) ||
    (a.name < b.name ? -1 : 1)
  )
}

function compareBigints(a: bigint, b: bigint): number {
  return Number(a > b) - Number(a < b)
}

/** What the documents of a backup say of its place; either may be missing. */
export function placeOf(
  sentinel: Pick<Sentinel, 'startLsn' | 'startTime' | 'systemIdentifier'> | undefined,
  metadata: Pick<BackupMetadata, 'startLsn' | 'startTime'> | undefined,
): Omit<OrderedBackup, keyof ListedBackup> {
  return {
    startTime: knownTime(sentinel?.startTime) ?? knownTime(metadata?.startTime),
    startLsn: sentinel?.startLsn ?? metadata?.startLsn ?? 0n,
    systemId: sentinel?.systemIdentifier,
  }
}

/** All backups, the oldest first. Reads a document of each, several at a time. Throws what the storage throws. */
export async function listInOrder(archive: BackupArchive, options?: StorageCallOptions): Promise<OrderedBackup[]> {
  const listed = await archive.listBackups(options)
  const known = await mapInParallel(listed, async (backup): Promise<OrderedBackup> => {
    const sentinel = await ifReadable(archive.readSentinel(backup.name, options))
    const own = knownTime(sentinel?.startTime)
    // WAL-G wrote times into metadata.json before it wrote them into sentinels.
    const metadata = own === undefined ? await ifReadable(archive.readMetadata(backup.name, options)) : undefined
    return { ...backup, ...placeOf(sentinel, metadata) }
  })
  return oldestFirst(known)
}

/**
 * Names of the backups that began after one that has no sentinel yet, the oldest first.
 * @throws what the storage throws
 */
export async function namesAfter(
  archive: BackupArchive,
  backup: { readonly name: string } & Pick<Sentinel, 'startLsn' | 'startTime' | 'systemIdentifier'>,
  options?: StorageCallOptions,
): Promise<string[]> {
  const { name, startLsn = 0n, systemIdentifier: systemId } = backup
  const own = { name, startLsn, startTime: knownTime(backup.startTime), systemId, lastModifiedMs: 0 }
  const others = (await listInOrder(archive, options)).filter((each) => each.name !== name)
  const inOrder = oldestFirst([...others, own])
  return inOrder.slice(inOrder.indexOf(own) + 1).map((each) => each.name)
}

/** A document that is damaged, or gone since the listing, says nothing. */
async function ifReadable<T>(reading: Promise<T>): Promise<T | undefined> {
  try {
    return await reading
  } catch (error) {
    if (hasCode(error, 'WALRX_OBJECT_DAMAGED') || hasCode(error, 'WALRX_BACKUP_NOT_FOUND')) return undefined
    throw error
  }
}

/**
 * What the operator should know of LATEST: messages for the log.
 * @param inOrder all backups, the oldest first
 */
export function notesOnLatest(inOrder: readonly OrderedBackup[]): string[] {
  const latest = inOrder.at(-1)
  if (!latest) return []
  const rival = inOrder.reduce((newest, each) => (each.lastModifiedMs > newest.lastModifiedMs ? each : newest), latest)
  if (rival !== latest) {
    return [
      `LATEST is ${describe(latest)}; by the times in the storage it would be ${describe(rival)}, which WAL-G and WAL-RUS take`,
    ]
  }
  const equals = inOrder.filter(({ lastModifiedMs }) => lastModifiedMs === latest.lastModifiedMs)
  if (equals.length === 1) return []
  const time = new Date(latest.lastModifiedMs).toISOString()
  const others = equals.length === 2 ? `${equals[0]?.name} has` : `${equals.length - 1} others have`
  return [`LATEST is ${describe(latest)}; ${others} the same time in the storage, ${time}`]
}

function describe({ name, startTime }: OrderedBackup): string {
  if (startTime === undefined) return `${name} (no document says when it began)`
  return `${name} (began at ${formatBackupTime(Number(startTime / 1_000_000n))})`
}
