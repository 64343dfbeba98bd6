/** What `wal-show` shows: the WAL of an archive, what it lacks, its backups, and to which moments it can bring a cluster. */
import { parseBackupName } from '../../walg/backup/backup-names.ts'
import { BackupArchive, type ListedBackup } from '../../walg/backup/backup-archive.ts'
import type { WalReader } from '../../walg/wal/wal-reader.ts'
import { hasCode, type WalrxError } from '../../primitives/errors.ts'
import { formatJson } from '../../primitives/json.ts'
import { segmentNumber, type Timeline } from '../../postgres/lsn.ts'
import type { StorageCallOptions } from '../../storage/storage.ts'
import { backupToJson, detailToJson } from '../backup-json.ts'
import { type BackupDetail, readDetail } from '../backups.ts'
import { mapInParallel } from '../map-in-parallel.ts'
import { type OpenGap, openGaps } from '../open-gaps.ts'
import { readInventory, type TimelineInventory, type WalInventory } from '../wal-inventory.ts'
import { restoreWindows, type WindowBackup } from './restore-window.ts'
import { allWithTimes, type TimedWindow } from './window-times.ts'

/** A backup: thousands of these are in memory at a time, so it has no more than is needed. */
export interface ShownBackup extends WindowBackup {
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
  /** Documents of backups that cannot be read. */
  readonly problems: readonly WalrxError[]
}

/** What {@link readArchive} reads. */
export interface ShownArchiveOptions extends StorageCallOptions {
  /** Bytes; undefined reads it from a segment. */
  readonly segmentSize: number | undefined
  readonly withBackups: boolean
  /** True also reads what only the JSON of backups has. */
  readonly asJson: boolean
}

/** The windows whose last WAL is read: an archive with holes may have thousands. */
const timedMax = 20

/** Why a window has no times, where there are more of them. */
const untimed = `times are read for the last ${timedMax} windows only`

/** Reads it. @throws what the storage throws, and what an inventory does */
export async function readArchive(reader: WalReader, options: ShownArchiveOptions): Promise<ShownArchive> {
  const inventory = await readInventory(reader, options.segmentSize, options)
  const gaps = openGaps(await reader.gaps(options), inventory)
  if (!options.withBackups) return { inventory, gaps, backups: undefined, windows: [], problems: [] }
  const problems: WalrxError[] = []
  const backups = await readBackups(new BackupArchive(reader.storage), options, problems)
  const windows = restoreWindows(inventory, gaps, backups)
  const first = Math.max(0, windows.length - timedMax)
  const timed = await allWithTimes(reader, inventory, windows.slice(first), options)
  const before = windows.slice(0, first).map((window): TimedWindow => {
    return { ...window, startTime: undefined, endTime: undefined, note: untimed }
  })
  return { inventory, gaps, backups, windows: [...before, ...timed], problems }
}

async function readBackups(
  archive: BackupArchive,
  options: ShownArchiveOptions,
  problems: WalrxError[],
): Promise<ShownBackup[]> {
  const listed = await archive.listBackups(options)
  const all = await mapInParallel(listed, async (backup) => {
    return options.asJson ? withJson(archive, backup, options, problems) : plain(archive, backup, options, problems)
  })
  const start = ({ sentinel }: ShownBackup) => sentinel?.startLsn ?? 0n
  return all.sort((a, b) => Number(start(a) > start(b)) - Number(start(a) < start(b)) || (a.name < b.name ? -1 : 1))
}

async function withJson(
  archive: BackupArchive,
  backup: ListedBackup,
  options: StorageCallOptions,
  problems: WalrxError[],
): Promise<ShownBackup> {
  const detail = await readDetail(archive, backup, options)
  problems.push(...detail.problems)
  return shown(detail, formatJson({ ...backupToJson(backup), ...detailToJson(detail) }))
}

async function plain(
  archive: BackupArchive,
  { name }: ListedBackup,
  options: StorageCallOptions,
  problems: WalrxError[],
): Promise<ShownBackup> {
  try {
    return shown({ name, sentinel: await archive.readSentinel(name, options) }, undefined)
  } catch (error) {
    if (!hasCode(error, 'WALRX_OBJECT_DAMAGED') && !hasCode(error, 'WALRX_BACKUP_NOT_FOUND')) throw error
    problems.push(error)
    return shown({ name, sentinel: undefined }, undefined)
  }
}

function shown({ name, sentinel }: Pick<BackupDetail, 'name' | 'sentinel'>, json: string | undefined): ShownBackup {
  const { delta, finishLsn, finishTime, startLsn } = sentinel ?? {}
  const timeline = parseBackupName(name)?.timeline ?? 0
  return { name, timeline, json, sentinel: sentinel && { delta, finishLsn, finishTime, startLsn } }
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
