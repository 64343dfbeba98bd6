/**
 * The one order of backups: everything that chooses a newest backup, or keeps some of the newest, goes by it.
 *
 * - Of one server (by its system identifier): by timeline, then by start LSN. A promotion begins a timeline with a higher
 *   number, and a server follows only the newest timeline unless it is asked for another one. Clocks do not decide: those of
 *   two hosts differ, and a host may be promoted with a clock that is late.
 * - Between servers, after a pg_upgrade or an initdb into the same archive: by the times at which the backups began, by
 *   their own documents. So where no document says which server a backup is of.
 *
 * The last one is LATEST. WAL-G and WAL-RUS take the backup with the newest sentinel by the time of the storage. That is
 * the same backup for what one host writes on one timeline. It is another one after a copy of the archive, which gives
 * every object the time of the copying, in any order; when a sentinel was written again; when of two backups at a time the
 * first to begin ends last; and where a former primary still takes backups on the timeline that was left.
 */
import { hasCode } from '../primitives/errors.ts'
import type { Timeline } from '../postgres/lsn.ts'
import type { StorageCallOptions } from '../storage/storage.ts'
import type { BackupArchive, ListedBackup } from '../walg/backup/backup-archive.ts'
import type { BackupMetadata } from '../walg/backup/backup-metadata.ts'
import { lackOf, noFolder } from '../walg/backup/backup-listing.ts'
import { parseBackupName } from '../walg/backup/backup-names.ts'
import { formatBackupTime, knownTime } from '../walg/backup/backup-time.ts'
import type { Sentinel } from '../walg/backup/sentinel.ts'
import { type LinkedBackup, linkOf } from './chains.ts'
import { mapInParallel } from './map-in-parallel.ts'

/** A backup with what decides its place. */
export interface OrderedBackup extends ListedBackup {
  /** Nanoseconds since 1970, by the clock of the host that took the backup; undefined where no document says it. */
  readonly startTime: bigint | undefined
  /** 0 where no document says it. */
  readonly startLsn: bigint
  /** Of the server; undefined where no document says it. Every tool writes it into the sentinel. */
  readonly systemId: bigint | undefined
}

/** Oldest first: see the file's header. What no document says a start of goes before what has one. */
export function oldestFirst<B extends OrderedBackup>(backups: readonly B[]): B[] {
  /** The latest time so far of each server: none of its backups counts as older than one before it. */
  const latest = new Map<bigint, bigint>()
  const placed = backups.toSorted(compareInServer).map((backup) => {
    const { startLsn, startTime = noTime, systemId } = backup
    if (systemId === undefined || startLsn === 0n || timelineOf(backup) === 0) return { backup, time: startTime }
    const before = latest.get(systemId) ?? noTime
    const time = before > startTime ? before : startTime
    latest.set(systemId, time)
    return { backup, time }
  })
  // A sort leaves those with equal times as they are.
  return placed.sort((a, b) => compareBigints(a.time, b.time)).map(({ backup }) => backup)
}

/** Before every time that a document can say. */
const noTime = -1n

/** By server, timeline, position and name. */
function compareInServer(a: OrderedBackup, b: OrderedBackup): number {
  return (
    compareBigints(a.systemId ?? -1n, b.systemId ?? -1n) ||
    timelineOf(a) - timelineOf(b) ||
    compareBigints(positionOf(a), positionOf(b)) ||
    (a.name < b.name ? -1 : 1)
  )
}

/** 0 for a name that does not say it. */
function timelineOf({ name }: OrderedBackup): Timeline {
  return parseBackupName(name)?.timeline ?? 0
}

/** What says neither its server nor a time may lack the position as well: the segment in its name decides. */
function positionOf({ startLsn, startTime, systemId }: OrderedBackup): bigint {
  return systemId === undefined && startTime === undefined ? 0n : startLsn
}

function compareBigints(a: bigint, b: bigint): number {
  return Number(a > b) - Number(a < b)
}

/** What the documents of a backup say of its place; either may be missing. */
export function placeOf(
  sentinel: Pick<Sentinel, 'startLsn' | 'startTime' | 'systemIdentifier'> | undefined,
  metadata: Pick<BackupMetadata, 'startLsn' | 'startTime' | 'systemIdentifier'> | undefined,
): Omit<OrderedBackup, keyof ListedBackup> {
  return {
    startTime: knownTime(sentinel?.startTime) ?? knownTime(metadata?.startTime),
    startLsn: sentinel?.startLsn ?? metadata?.startLsn ?? 0n,
    systemId: sentinel ? sentinel.systemIdentifier : metadata?.systemIdentifier,
  }
}

/** All backups, the oldest first. Reads a document of each, several at a time. Throws what the storage throws. */
export async function listInOrder(archive: BackupArchive, options?: StorageCallOptions): Promise<OrderedBackup[]> {
  const listed = await archive.listBackups(options)
  return oldestFirst(
    await mapInParallel(listed, async (backup) => {
      const sentinel = await ifReadable(archive.readSentinel(backup.name, options))
      return placed(archive, backup, sentinel, options)
    }),
  )
}

/** The same, with what each builds on and lacks: every object of all backups is listed. */
export async function listLinkedInOrder(
  archive: BackupArchive,
  options?: StorageCallOptions,
): Promise<(OrderedBackup & LinkedBackup)[]> {
  const { folders, listed } = await archive.listFolders(options)
  return oldestFirst(
    await mapInParallel(listed, async ({ lastModifiedMs, name }) => {
      const sentinel = await ifReadable(archive.readSentinel(name, options))
      const lack = sentinel && lackOf(sentinel, folders.get(name) ?? noFolder)
      const link = linkOf({ name, sentinel, lack })
      return { ...(await placed(archive, { name, lastModifiedMs }, sentinel, options)), ...link }
    }),
  )
}

async function placed(
  archive: BackupArchive,
  { lastModifiedMs, name }: ListedBackup,
  sentinel: Sentinel | undefined,
  options?: StorageCallOptions,
): Promise<OrderedBackup> {
  // WAL-G wrote times into metadata.json before it wrote them into sentinels.
  const isDated = knownTime(sentinel?.startTime) !== undefined
  const metadata = isDated ? undefined : await ifReadable(archive.readMetadata(name, options))
  return { name, lastModifiedMs, ...placeOf(sentinel, metadata) }
}

/**
 * Names of the backups that come after one that has no sentinel yet, the oldest first.
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
