/**
 * All that an archive holds, for one screen: the cluster, the restore windows, the backups and whether they were verified,
 * what is unfinished, what is missing, WAL by day, and what it takes in the storage. Each folder is listed once; beside
 * that two documents of each backup are read, and the end of the WAL of each window.
 */
import type { WalrxError } from '../../primitives/errors.ts'
import type { ObjectInfo, Storage } from '../../storage/storage.ts'
import { BackupArchive } from '../../walg/backup/backup-archive.ts'
import {
  type BackupFolder,
  lackOf,
  type ListedFolders,
  listFolders,
  noFolder,
} from '../../walg/backup/backup-listing.ts'
import { nameOfVerification, type Verification } from '../../walg/backup/verification.ts'
import { orProblem } from '../../walg/damaged-object.ts'
import { intentsPrefix, systemKey, tailFolder, walrxFolder } from '../../walg/names.ts'
import { readSystem } from '../../walg/wal/system-marker.ts'
import { oldestFirst, type OrderedBackup, placeOf } from '../backup-order.ts'
import { type BackupDetail, readDetail } from '../backups.ts'
import { type BackupChain, followChain, linkOf } from '../chains.ts'
import { mapInParallel } from '../map-in-parallel.ts'
import { type OpenGap, openGaps, readGaps } from '../open-gaps.ts'
import { readInventory, type WalInventory } from '../wal-inventory.ts'
import { restoreWindows } from '../window/restore-window.ts'
import { readVerifications, withDamage } from '../window/verified-backups.ts'
import { allWithTimes, type TimedWindow } from '../window/window-times.ts'
import { findUnfinished, type UnfinishedBackup } from './unfinished-backups.ts'
import { CountingWalReader, type WalDay } from './wal-usage.ts'

/** A backup. */
export interface BackupOverview extends Omit<BackupDetail, 'metadata'>, OrderedBackup {
  readonly chain: BackupChain
  /** What it lacks that a restore needs; undefined for nothing. */
  readonly lack: string | undefined
  /** Bytes of all its objects as they are stored. */
  readonly storedBytes: number
  /** The last check of it; undefined where there was none since it was taken. */
  readonly verification: Verification | undefined
}

/** Bytes in the storage by what they are for. */
export interface StorageUse {
  /** Of finished backups. */
  readonly backups: number
  readonly wal: number
  /** Chunks of unfinished segments. */
  readonly tails: number
  /** Of backups without a sentinel. */
  readonly unfinished: number
  /** walrx's own objects, and what belongs to nothing. */
  readonly other: number
}

/** See the file's header. */
export interface ArchiveOverview {
  readonly location: string
  /** Undefined in an archive that walrx has not written to, and where no sentinel says it. */
  readonly systemId: bigint | undefined
  /** server_version_num of the newest backup; undefined without one. */
  readonly pgVersion: number | undefined
  readonly inventory: WalInventory
  readonly windows: readonly TimedWindow[]
  /** Oldest first. */
  readonly backups: readonly BackupOverview[]
  readonly unfinished: readonly UnfinishedBackup[]
  readonly gaps: readonly OpenGap[]
  readonly days: readonly WalDay[]
  readonly use: StorageUse
  /** Objects that cannot be read. */
  readonly problems: readonly WalrxError[]
  /** What the ages are measured against: milliseconds since 1970. */
  readonly nowMs: number
}

/** What {@link readOverview} needs. */
export interface OverviewOptions {
  readonly storage: Storage
  /** Bytes; undefined finds it out. */
  readonly segmentSize: number | undefined
  /** How many days of WAL are counted. */
  readonly dayCount: number
  readonly nowMs: number
  readonly signal: AbortSignal
}

/** Reads an archive. Throws what the storage says; damaged objects are its problems. */
export async function readOverview(options: OverviewOptions): Promise<ArchiveOverview> {
  const { dayCount, nowMs, signal, storage } = options
  const problems: WalrxError[] = []
  const system = await orProblem(readSystem(storage, { signal }), systemKey, problems)
  const own = await readOwnObjects(storage, signal)
  const reader = new CountingWalReader(storage)
  const inventory = await readInventory(reader, options.segmentSize ?? system?.segmentSize, { signal })
  problems.push(...inventory.problems)
  const gaps = openGaps(await readGaps(reader, problems, { signal }), inventory)
  const used = await listFolders(storage, { signal })
  const backups = await readBackups(storage, used, own.verified, problems, signal)
  const unfinished = await findUnfinished(storage, used, own.intents, problems, nowMs, signal)
  const windows = await allWithTimes(reader, inventory, restoreWindows(inventory, gaps, backups), { signal })
  const newest = backups.at(-1)
  const finishedBytes = sum(backups.map(({ storedBytes }) => storedBytes))
  const unfinishedBytes = sum(unfinished.map(({ storedBytes }) => storedBytes))
  return {
    location: storage.location,
    systemId: system?.systemId ?? newest?.systemId,
    pgVersion: newest?.sentinel?.pgVersion,
    inventory,
    windows,
    backups,
    unfinished,
    gaps,
    days: reader.lastDays(dayCount, nowMs),
    use: {
      backups: finishedBytes,
      wal: reader.storedBytes,
      tails: own.tailBytes,
      unfinished: unfinishedBytes,
      other: own.otherBytes + used.otherBytes,
    },
    problems: [...problems, ...backups.flatMap((backup) => [...backup.problems])],
    nowMs,
  }
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, each) => total + each, 0)
}

/** walrx's own objects, by one listing. */
async function readOwnObjects(storage: Storage, signal: AbortSignal) {
  const intents: ObjectInfo[] = []
  const verified = new Set<string>()
  let tailBytes = 0
  let otherBytes = 0
  for await (const info of storage.list(walrxFolder, { signal })) {
    if (info.key.startsWith(tailFolder)) {
      tailBytes += info.size
      continue
    }
    otherBytes += info.size
    const name = nameOfVerification(info.key)
    if (name !== undefined) verified.add(name)
    if (info.key.startsWith(intentsPrefix)) intents.push(info)
  }
  return { intents, verified, tailBytes, otherBytes }
}

async function readBackups(
  storage: Storage,
  { folders, listed }: Pick<ListedFolders, 'folders' | 'listed'>,
  verified: ReadonlySet<string>,
  problems: WalrxError[],
  signal: AbortSignal,
): Promise<BackupOverview[]> {
  const archive = new BackupArchive(storage)
  const read = await mapInParallel(listed, async (backup) => {
    return withoutBulk(await readDetail(archive, backup, { signal }), folders.get(backup.name))
  })
  const verifications = await readVerifications(storage, read, verified, problems, { signal })
  const details = withDamage(read, verifications)
  const sentinelBytes = new Map(listed.map(({ name, size }) => [name, size]))
  const links = new Map(details.map((detail) => [detail.name, linkOf(detail)]))
  const found = details.map((detail): BackupOverview => {
    const { name } = detail
    return {
      ...detail,
      chain: followChain(name, links),
      storedBytes: (folders.get(name)?.bytes ?? 0) + (sentinelBytes.get(name) ?? 0),
      verification: verifications.get(name),
    }
  })
  return oldestFirst(found)
}

/** A backup with its place in the order, and without what a screen has no use for: there may be thousands. */
function withoutBulk(
  { metadata, sentinel, ...detail }: BackupDetail,
  folder: BackupFolder = noFolder,
): Omit<BackupDetail, 'metadata'> & OrderedBackup & { readonly lack: string | undefined } {
  const { lastModifiedMs, name } = detail
  return {
    ...detail,
    lack: sentinel && lackOf(sentinel, folder),
    ...placeOf(sentinel, metadata),
    lastModifiedMs,
    name: ownText(name),
    sentinel: sentinel && {
      ...sentinel,
      ...{ extra: {}, userData: undefined, spec: undefined, hostname: undefined, dataDir: undefined },
      ...(sentinel.startTime !== undefined && { startTime: ownText(sentinel.startTime) }),
      ...(sentinel.finishTime !== undefined && { finishTime: ownText(sentinel.finishTime) }),
      delta: sentinel.delta && {
        ...sentinel.delta,
        parentName: ownText(sentinel.delta.parentName),
        fullName: undefined,
      },
    },
  }
}

/** A copy: V8 makes a part of a text by pointing into the whole document, which stays in memory then. */
function ownText(text: string): string {
  return Buffer.from(text).toString()
}
