/** Reads all that a deletion is planned from, by a few listings and two documents of each backup. */
import { oldestFirst } from '../../catalog/backup-order.ts'
import { segmentSizeOfFile } from '../../catalog/wal-inventory.ts'
import type { Clock } from '../../primitives/clock.ts'
import { WalrxError } from '../../primitives/errors.ts'
import { formatLsn } from '../../postgres/lsn.ts'
import { parseSegmentName, segmentSizeMax, segmentSizeMin } from '../../postgres/wal/wal-file.ts'
import type { Storage, StorageCallOptions, SweptFiles } from '../../storage/storage.ts'
import { BackupArchive } from '../../walg/backup/backup-archive.ts'
import { parseBackupName } from '../../walg/backup/backup-names.ts'
import { storageTime } from '../../walg/backup/storage-time.ts'
import { readSystem } from '../../walg/wal/system-marker.ts'
import { WalReader } from '../../walg/wal/wal-reader.ts'
import type { ArchivedBackup, UnfinishedBackup } from './archived-backup.ts'
import { type DeletionEntry, readDeletion } from './deletion-record.ts'
import { type OwnRecord, readOwnRecords } from './own-records.ts'
import { readBackups } from './read-backups.ts'
import { foreignExpiryMs, readUnfinished } from './read-unfinished.ts'
import { readWalStock } from './read-wal-stock.ts'
import type { WalStock } from './wal-stock.ts'

/** What an archive holds, as far as retention goes. */
export interface ArchiveContents {
  readonly location: string
  /** Bytes. */
  readonly segmentSize: number
  /** The oldest first, as catalog/backup-order.ts has it: never by name alone, for names begin again after pg_upgrade. */
  readonly backups: readonly ArchivedBackup[]
  readonly unfinished: readonly UnfinishedBackup[]
  /** What a deletion has begun to remove that was ended before it was done. */
  readonly deletion: ReadonlyMap<string, DeletionEntry>
  readonly wal: WalStock
  /** Those that may outlive what they are about. */
  readonly records: readonly OwnRecord[]
  /** Files of a directory that were never renamed to objects; undefined where there can be none. */
  readonly unfinishedFiles: SweptFiles | undefined
  /** Milliseconds since 1970. */
  readonly nowMs: number
}

/** Options of {@link readArchiveContents}. */
export interface ReadContentsOptions extends StorageCallOptions {
  /** As configured, in bytes; undefined: the archive says it. */
  readonly segmentSize: number | undefined
  readonly clock: Clock
  /** True: ages go by the clock of the storage where this machine's is ahead of it. It writes an object for that. */
  readonly asksTime?: boolean
}

/**
 * Reads the archive.
 * @throws WALRX_USAGE where the segment size is not that of the archive; what the storage says
 */
export async function readArchiveContents(storage: Storage, options: ReadContentsOptions): Promise<ArchiveContents> {
  const call = options.signal ? { signal: options.signal } : {}
  const reader = new WalReader(storage)
  const archive = new BackupArchive(storage)
  const nowMs = await timeNow(storage, options)
  const { found, folders } = await readBackups(archive, storage, call)
  const segmentSize = await findSegmentSize(reader, found, options.segmentSize, call)
  const placedOnes = found.map((each) => placed(each, segmentSize))
  const deletion = await readDeletion(storage, call)
  const known = { folders, backups: placedOnes, segmentSize, nowMs, deletion }
  const unfinished = await readUnfinished(storage, known, call)
  const wal = await readWalStock(reader, segmentSize, nowMs - foreignExpiryMs, call)
  const backups = oldestFirst(placedOnes)
  const records = await readOwnRecords(storage, nowMs, call)
  const unfinishedFiles = await storage.sweepUnfinished?.({
    ...call,
    beforeMs: nowMs - foreignExpiryMs,
    removes: false,
  })
  return {
    location: storage.location,
    segmentSize,
    backups,
    unfinished,
    deletion,
    wal,
    records,
    unfinishedFiles,
    nowMs,
  }
}

/** The backups alone, for which no listing of WAL is needed. Throws what the storage says. */
export async function readBackupsOnly(
  storage: Storage,
  options: Omit<ReadContentsOptions, 'segmentSize'>,
): Promise<Pick<ArchiveContents, 'backups' | 'unfinished'>> {
  const call = options.signal ? { signal: options.signal } : {}
  const { folders, found } = await readBackups(new BackupArchive(storage), storage, call)
  const deletion = await readDeletion(storage, call)
  const known = {
    folders,
    backups: found,
    segmentSize: defaultSegmentSize,
    nowMs: await timeNow(storage, options),
    deletion,
  }
  return { backups: found, unfinished: await readUnfinished(storage, known, call) }
}

/**
 * Milliseconds since 1970. A clock that is ahead would have what is at work look dead: the earlier one counts.
 * @throws what the storage says
 */
export async function timeNow(storage: Storage, { asksTime, clock, signal }: Omit<ReadContentsOptions, 'segmentSize'>) {
  const call = signal ? { signal } : {}
  return asksTime === true ? Math.min(clock.now(), await storageTime(storage, clock, call)) : clock.now()
}

const defaultSegmentSize = 16 * 1024 * 1024

/** The configured size, else that of the archive's marker, of the backups, or of a segment's header. */
async function findSegmentSize(
  reader: WalReader,
  backups: readonly ArchivedBackup[],
  configured: number | undefined,
  call: StorageCallOptions,
): Promise<number> {
  const size = configured ?? (await readSystem(reader.storage, call))?.segmentSize
  const possible = sizesOf(backups)
  if (size !== undefined && !possible.sizes.includes(size)) throw contradiction(size, possible.example)
  const [only] = possible.sizes
  if (size !== undefined || (only !== undefined && possible.sizes.length === 1)) return size ?? only!
  if (possible.sizes.length === 0) throw contradiction(undefined, possible.example)
  const first = await firstSegment(reader, call)
  const fromHeader = first === undefined ? defaultSegmentSize : await sizeByHeader(reader, first, call)
  if (possible.sizes.includes(fromHeader)) return fromHeader
  throw contradiction(fromHeader, possible.example)
}

async function sizeByHeader(reader: WalReader, name: string, call: StorageCallOptions): Promise<number> {
  try {
    return await segmentSizeOfFile(reader, name, call)
  } catch (error) {
    if (!(error instanceof WalrxError) || error.hint !== undefined) throw error
    const hint =
      'set WALG_PG_WAL_SIZE to the wal_segment_size of the server, in MB: nothing else in the archive says it'
    throw new WalrxError(error.code, error.message, { hint, cause: error })
  }
}

async function firstSegment(reader: WalReader, call: StorageCallOptions): Promise<string | undefined> {
  for await (const { kind, name } of reader.walObjects(call)) if (kind === 'segment') return name
  return undefined
}

/** The sizes with which the name of every backup says the segment of its start: a wrong one would delete wrong WAL. */
function sizesOf(backups: readonly ArchivedBackup[]): { sizes: number[]; example: ArchivedBackup | undefined } {
  let sizes: number[] = []
  for (let size = segmentSizeMin; size <= segmentSizeMax; size *= 2) sizes.push(size)
  for (const backup of backups) {
    const left = sizes.filter((size) => agrees(backup, size))
    if (left.length === 0) return { sizes: left, example: backup }
    sizes = left
  }
  return { sizes, example: backups[0] }
}

/** WAL-G's own backups are called after the segment of the byte before (see docs/walg-format.md, 1.3). */
function agrees({ name, startLsn }: ArchivedBackup, segmentSize: number): boolean {
  const segment = parseBackupName(name)?.segment
  if (segment === undefined) return true
  const id = parseSegmentName(segment, segmentSize)
  if (!id) return false
  if (startLsn === 0n) return true
  const size = BigInt(segmentSize)
  return id.segno === startLsn / size || id.segno === (startLsn - 1n) / size
}

function contradiction(size: number | undefined, backup: ArchivedBackup | undefined): WalrxError {
  const start = backup && backup.startLsn > 0n ? `, which starts at ${formatLsn(backup.startLsn as never)}` : ''
  const sized = size === undefined ? 'no wal_segment_size' : `a wal_segment_size of ${size / 1024 / 1024} MB`
  return new WalrxError(
    'WALRX_OBJECT_DAMAGED',
    `${sized} fits the name of the backup ${backup?.name ?? ''}${start}: nothing is deleted where names are not understood`,
    {
      hint: 'set WALG_PG_WAL_SIZE to the wal_segment_size of the server, in MB; walrx backup-show NAME shows the backup',
    },
  )
}

function placed(backup: ArchivedBackup, segmentSize: number): ArchivedBackup {
  const segment = parseBackupName(backup.name)?.segment
  const id = segment === undefined ? undefined : parseSegmentName(segment, segmentSize)
  const byLsn = backup.startLsn > 0n ? backup.startLsn / BigInt(segmentSize) : undefined
  const segno = id?.segno ?? byLsn
  return { ...backup, timeline: id?.timeline, segno: segno === undefined ? undefined : Number(segno) }
}
