/** What `wal-show` shows: the WAL of an archive, what it lacks, its backups, and to which moments it can bring a cluster. */
import { type BackupFolder, lackOf, noFolder } from '../../walg/backup/backup-listing.ts'
import type { Sentinel } from '../../walg/backup/sentinel.ts'
import { orProblem } from '../../walg/damaged-object.ts'
import { parseBackupName, sentinelKey } from '../../walg/backup/backup-names.ts'
import { BackupArchive, type ListedBackup } from '../../walg/backup/backup-archive.ts'
import { systemKey } from '../../walg/names.ts'
import { readSystem } from '../../walg/wal/system-marker.ts'
import type { WalReader } from '../../walg/wal/wal-reader.ts'
import { hasCode, type WalrxError } from '../../primitives/errors.ts'
import { formatJson } from '../../primitives/json/json.ts'
import { segmentNumber, type Timeline } from '../../postgres/lsn.ts'
import type { StorageCallOptions } from '../../storage/storage.ts'
import { backupToJson, detailToJson } from '../backup-json.ts'
import { readDetail } from '../backups.ts'
import { type BrokenBackup, brokenBackups, linkOf } from '../chains.ts'
import { mapInParallel } from '../map-in-parallel.ts'
import { type OpenGap, openGaps, readGaps } from '../open-gaps.ts'
import { readInventory, type TimelineInventory, type WalInventory } from '../wal-inventory.ts'
import { listVerified, readVerifications, type VerifiableBackup, withDamage } from './verified-backups.ts'
import { restoreWindows, type WindowBackup } from './restore-window.ts'
import { allWithTimes, type TimedWindow } from './window-times.ts'

/** A backup: thousands of these are in memory at a time, so it has no more than is needed. */
export interface ShownBackup extends WindowBackup, VerifiableBackup {
  /** Undefined where it cannot be read. */
  readonly sentinel: Pick<Sentinel, 'delta' | 'finishLsn' | 'finishTime' | 'startLsn' | 'startTime'> | undefined
  readonly timeline: Timeline
  /** Its row of WAL-G's JSON; undefined where nobody asked for that. */
  readonly json: string | undefined
}

/** See the file's header. */
export interface ShownArchive {
  readonly inventory: WalInventory
  readonly gaps: readonly OpenGap[]
  /** By their first WAL; undefined where nobody asked for backups. */
  readonly backups: readonly ShownBackup[] | undefined
  readonly windows: readonly TimedWindow[]
  /** Backups that cannot be restored, in the same order. */
  readonly broken: readonly BrokenBackup[]
  /** Objects that cannot be read. */
  readonly problems: readonly WalrxError[]
}

/** What {@link readArchive} reads. */
export interface ShownArchiveOptions extends StorageCallOptions {
  /** Bytes; undefined finds it out. */
  readonly segmentSize: number | undefined
  readonly withBackups: boolean
  /** True also reads what only the JSON of backups has. */
  readonly asJson: boolean
}

/** Reads it. @throws what the storage throws, and what an inventory does */
export async function readArchive(reader: WalReader, options: ShownArchiveOptions): Promise<ShownArchive> {
  const problems: WalrxError[] = []
  const system = await orProblem(readSystem(reader.storage, options), systemKey, problems)
  const inventory = await readInventory(reader, options.segmentSize ?? system?.segmentSize, options)
  problems.push(...inventory.problems)
  const gaps = openGaps(await readGaps(reader, problems, options), inventory)
  if (!options.withBackups) return { inventory, gaps, backups: undefined, windows: [], broken: [], problems }
  const read = await readBackups(new BackupArchive(reader.storage), options, problems)
  const verified = new Set(await listVerified(reader.storage, options))
  const verifications = await readVerifications(reader.storage, read, verified, problems, options)
  const backups = withDamage(read, verifications)
  const windows = restoreWindows(inventory, gaps, backups)
  const timed = await allWithTimes(reader, inventory, windows, options)
  return { inventory, gaps, backups, windows: timed, broken: brokenBackups(backups.map(linkOf)), problems }
}

async function readBackups(
  archive: BackupArchive,
  options: ShownArchiveOptions,
  problems: WalrxError[],
): Promise<ShownBackup[]> {
  const { folders, listed } = await archive.listFolders(options)
  const all = await mapInParallel(listed, async (backup) => {
    const { json, sentinel } = await (options.asJson ? withJson : plain)(archive, backup, options, problems)
    return shown(backup.name, sentinel, folders.get(backup.name) ?? noFolder, json)
  })
  const start = ({ sentinel }: ShownBackup) => sentinel?.startLsn ?? 0n
  return all.sort((a, b) => Number(start(a) > start(b)) - Number(start(a) < start(b)) || (a.name < b.name ? -1 : 1))
}

/** What was read of a backup. */
interface ReadBackup extends Pick<ShownBackup, 'json'> {
  readonly sentinel: Sentinel | undefined
}

async function withJson(
  archive: BackupArchive,
  backup: ListedBackup,
  options: StorageCallOptions,
  problems: WalrxError[],
): Promise<ReadBackup> {
  const detail = await readDetail(archive, backup, options)
  problems.push(...detail.problems)
  return { sentinel: detail.sentinel, json: formatJson({ ...backupToJson(backup), ...detailToJson(detail) }) }
}

async function plain(
  archive: BackupArchive,
  { name }: ListedBackup,
  options: StorageCallOptions,
  problems: WalrxError[],
): Promise<ReadBackup> {
  try {
    const sentinel = await orProblem(archive.readSentinel(name, options), sentinelKey(name), problems)
    return { sentinel, json: undefined }
  } catch (error) {
    if (!hasCode(error, 'WALRX_BACKUP_NOT_FOUND')) throw error
    problems.push(error)
    return { sentinel: undefined, json: undefined }
  }
}

function shown(
  name: string,
  sentinel: Sentinel | undefined,
  folder: BackupFolder,
  json: string | undefined,
): ShownBackup {
  const { delta, finishLsn, finishTime, startLsn, startTime } = sentinel ?? {}
  const timeline = parseBackupName(name)?.timeline ?? 0
  const lack = sentinel && lackOf(sentinel, folder)
  return { name, timeline, json, lack, sentinel: sentinel && { delta, finishLsn, finishTime, startLsn, startTime } }
}

/**
 * The backups whose WAL a timeline has from the first segment to the last, as WAL-G's wal-show counts them (wal-g:
 * wal_show_handler.go, getBackupsInRange); its tail counts too.
 */
export function backupsOf(
  backups: readonly ShownBackup[],
  { durableEnd, ranges, timeline }: TimelineInventory,
  segmentSize: number,
): ShownBackup[] {
  const first = ranges[0]?.first
  return backups.filter(({ sentinel, timeline: own }) => {
    const { finishLsn, startLsn } = sentinel ?? {}
    if (own !== timeline || startLsn === undefined || finishLsn === undefined || durableEnd === undefined) return false
    return (first === undefined || segmentNumber(startLsn, segmentSize) >= first) && finishLsn < durableEnd
  })
}
