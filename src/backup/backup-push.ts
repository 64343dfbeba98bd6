/**
 * A full backup over the replication protocol, stored as WAL-G and WAL-RUS read it. In this order, so that at no moment
 * anything looks like a backup that is none:
 *
 *   intent, parts (while the server sends), backup_label.tar, pg_control.tar, the server's manifest, walrx.json,
 *   metadata.json, files_metadata.json, then the WAL is waited for, then the sentinel
 */
import { hostname } from 'node:os'
import type { WriteCodec } from '../compression/codec.ts'
import type { Logger } from '../observe/log.ts'
import type { Clock } from '../primitives/clock.ts'
import { WalrxError } from '../primitives/errors.ts'
import type { JsonValue } from '../primitives/json.ts'
import { type BaseBackup, type BaseBackupEnd, startBaseBackup } from '../postgres/base-backup.ts'
import { type BaseBackupOptions, linkBytesMax } from '../postgres/base-backup-command.ts'
import type { BackupTablespace } from '../postgres/base-backup-sink.ts'
import type { ChecksumFailure } from '../postgres/checksum-failures.ts'
import { type ClusterFacts, readClusterFacts } from '../postgres/cluster-facts.ts'
import { formatLsn, type Timeline } from '../postgres/lsn.ts'
import type { PgSession } from '../postgres/pg-session.ts'
import { BackupArchive } from '../walg/backup-archive.ts'
import { formatContents } from '../walg/backup-contents.ts'
import { metadataOf } from '../walg/backup-metadata.ts'
import { backupFolder, backupName, contentsKey, sentinelKey } from '../walg/backup-names.ts'
import { formatBackupTime } from '../walg/backup-time.ts'
import { formatSentinel, type Sentinel } from '../walg/sentinel.ts'
import type { WalArchive } from '../walg/wal-archive.ts'
import type { Storage } from '../storage/storage.ts'
import { finishBackup } from './backup-finish.ts'
import { BackupReceiver, type StoredContent } from './backup-receiver.ts'
import { Intent, removeExpiredBackups } from './intent.ts'
import { segmentsBetween } from './wal-wait.ts'

/** What {@link pushBackup} is to do. */
export interface PushOptions {
  readonly server: { connect(signal: AbortSignal): Promise<PgSession> }
  readonly storage: Storage
  readonly archive: WalArchive
  readonly codec: WriteCodec
  readonly clock: Clock
  readonly log: Logger
  readonly signal: AbortSignal
  readonly backup: BaseBackupOptions
  readonly partBytesMax: number
  readonly laneCount?: number
  readonly isPermanent: boolean
  readonly userData: JsonValue | undefined
  /** Milliseconds to wait for the WAL; undefined writes the sentinel at once. */
  readonly walTimeoutMs: number | undefined
  /** Told the bytes that have come, now and then. */
  readonly onProgress?: (progress: PushProgress) => void
}

/** How far a backup is. */
export interface PushProgress {
  readonly receivedBytes: number
  /** The server's estimate; undefined where it gives none. */
  readonly totalBytes: number | undefined
}

/** A backup that is finished. */
export interface PushedBackup {
  readonly name: string
  readonly sentinel: Sentinel
  readonly parts: number
  readonly files: number
  /** Damage that it holds, because that was accepted. */
  readonly checksumFailures: readonly ChecksumFailure[]
}

/**
 * Takes a backup.
 * @throws WALRX_BACKUP_EXISTS, WALRX_BACKUP_CHECKSUM, WALRX_BACKUP_INCOMPLETE, WALRX_OTHER_CLUSTER, and what server and
 * storage say. Nothing is left then that any command takes for a backup
 */
export async function pushBackup(options: PushOptions): Promise<PushedBackup> {
  const { archive, clock, log, server, signal, storage } = options
  const session = await server.connect(signal)
  let opened: Opened
  try {
    const cluster = await readClusterFacts(session)
    await archive.bindSystem(cluster.systemId, cluster.segmentSize, { signal })
    for (const name of await removeExpiredBackups(storage, clock, signal))
      log.warn('removed what a dead backup left', { name })
    opened = { cluster, startedAt: clock.now(), backup: await begin(options, session) }
  } catch (error) {
    await session.close()
    throw error
  }
  try {
    return await take(options, opened)
  } finally {
    await opened.backup.close()
  }
}

/** A backup whose archives are about to come. */
interface Opened {
  readonly backup: BaseBackup
  readonly cluster: ClusterFacts
  readonly startedAt: number
}

/**
 * Asks for a backup without a tablespace_map: restored into another folder by a tool that knows nothing of it, the map
 * keeps the server from starting or ties the clone to the original's folders; without it the links of pg_tblspc are taken
 * as they are, and folders there with allow_in_place_tablespaces. Only where a link does not fit into the server's tar is
 * there no other way.
 */
async function begin({ backup, log, server, signal }: PushOptions, session: PgSession): Promise<BaseBackup> {
  const { checkpoint } = backup
  log.info('asking for a base backup: the server writes a checkpoint first', { host: session.host, checkpoint })
  const begun = await startBaseBackup(session, { ...backup, tablespaceMap: false }, signal)
  const tooLong = begun.start.tablespaces.find(({ location }) => Buffer.byteLength(location) > linkBytesMax)
  if (!tooLong) return begun
  log.warn('the path of a tablespace is too long for a link in a tar: asking again, for a tablespace_map', {
    location: tooLong.location,
  })
  await begun.close()
  const second = await server.connect(signal)
  try {
    return await startBaseBackup(second, { ...backup, tablespaceMap: true }, signal)
  } catch (error) {
    await second.close()
    throw error
  }
}

async function take(options: PushOptions, opened: Opened): Promise<PushedBackup> {
  const { clock, log, signal, storage } = options
  const { startLsn, timeline } = opened.backup.start
  const name = backupName(timeline, startLsn, opened.cluster.segmentSize)
  const intent = await Intent.announce(storage, name, hostname(), clock, signal)
  log.info('backup begins', { name, startLsn, timeline })
  let isStored = false
  try {
    return await receive(options, opened, intent, () => (isStored = true))
  } catch (error) {
    await intent.leave()
    // Only the WAL or the sentinel is missing.
    if (isStored) throw leftForFinish(options, intent, error)
    await discard(options, intent).catch(() => {})
    throw error
  }
}

/** @param onStored called when everything but the sentinel is stored, and the intent says so */
async function receive(
  options: PushOptions,
  opened: Opened,
  intent: Intent,
  onStored: () => void,
): Promise<PushedBackup> {
  const { backup, cluster } = opened
  const { codec, log, signal, storage } = options
  const { name } = intent
  const folder = backupFolder(name)
  const receiver = new BackupReceiver({
    storage,
    codec,
    folder,
    partBytesMax: options.partBytesMax,
    ...(options.laneCount === undefined ? {} : { laneCount: options.laneCount }),
    hasManifest: options.backup.manifestChecksums !== undefined,
    log,
    signal,
    tablespaces: backup.start.tablespaces,
    onProgress: options.onProgress ?? (() => {}),
  })
  let end: BaseBackupEnd
  let content: StoredContent
  try {
    end = await backup.receive(receiver, signal)
    refuseOtherTimeline(backup.start.timeline, end.endTimeline)
    content = await receiver.finish()
  } catch (error) {
    await receiver.drop(error as Error)
    throw error
  }
  const sentinel = makeSentinel(options, opened, end, content)
  const objects = content.objects
  await storage.put(contentsKey(name), formatContents(objects), { signal })
  const documents = new BackupArchive(storage)
  await documents.putMetadata(name, metadataOf(sentinel), { signal })
  await documents.putFilesMetadata(name, { files: content.files, tarFileSets: content.tarFileSets }, { signal })
  log.info('all data is stored', { name, endLsn: end.endLsn, parts: content.parts, files: content.files.size })
  const segments = segmentsBetween(backup.start.timeline, backup.start.startLsn, end.endLsn, cluster.segmentSize)
  await intent.update({
    sentinel: formatSentinel(sentinel).toString('utf8'),
    segments: [segments[0] ?? '', segments.at(-1) ?? ''],
    objects: objects.map(({ name: object, size }) => ({ name: object, size })),
  })
  onStored()
  await finishBackup({ ...options, intent, segments })
  return { name, sentinel, parts: content.parts, files: content.files.size, checksumFailures: end.checksumFailures }
}

function refuseOtherTimeline(start: Timeline, end: Timeline): void {
  if (start === end) return
  throw new WalrxError('WALRX_BACKUP_INCOMPLETE', `the server went from timeline ${start} to ${end} during the backup`)
}

function makeSentinel(
  options: PushOptions,
  { backup, cluster, startedAt }: Opened,
  end: BaseBackupEnd,
  content: { readonly tarBytes: number; readonly storedBytes: number },
): Sentinel {
  // The place is only told, never used by walrx.
  const dataDirectory = cluster.dataDirectory ?? '/'
  const tablespaces = backup.start.tablespaces.filter(isElsewhere).map(({ location, oid }) => {
    return { oid, location, link: `pg_tblspc/${oid}` }
  })
  return {
    startLsn: backup.start.startLsn,
    finishLsn: end.endLsn,
    delta: undefined,
    pgVersion: cluster.serverVersion,
    systemIdentifier: cluster.systemId,
    uncompressedSize: content.tarBytes,
    compressedSize: content.storedBytes,
    dataCatalogSize: 0,
    spec: { basePrefix: dataDirectory, tablespaces },
    userData: options.userData,
    filesMetadataDisabled: false,
    version: 2,
    startTime: formatBackupTime(startedAt),
    finishTime: formatBackupTime(options.clock.now()),
    hostname: hostname(),
    dataDir: dataDirectory,
    isPermanent: options.isPermanent,
    extra: {},
  }
}

/** A tablespace outside of the data directory: one in place is part of it. */
function isElsewhere(tablespace: BackupTablespace): tablespace is BackupTablespace & { readonly oid: number } {
  return tablespace.oid !== undefined && tablespace.location.startsWith('/')
}

/** The error of a backup whose data is stored but which is not complete, with the command that completes it. */
function leftForFinish({ log }: PushOptions, { name }: Intent, error: unknown): unknown {
  if (error instanceof WalrxError && error.hint !== undefined) return error
  const command = `walrx backup-finish ${name}`
  log.warn('the data of the backup is stored, and stays for a day', { name, completeBy: command })
  if (!(error instanceof WalrxError)) return error
  const hint = `the data is stored; when the WAL is there, complete the backup within a day by: ${command}`
  return new WalrxError(error.code, error.message, { hint, cause: error })
}

/** Removes what a failed backup has stored, if it is still ours. What cannot be removed now is left to a later run. */
async function discard({ storage }: PushOptions, intent: Intent): Promise<void> {
  await intent.prove()
  if (await storage.head(sentinelKey(intent.name))) return
  const keys: string[] = []
  for await (const { key } of storage.list(backupFolder(intent.name))) keys.push(key)
  await storage.delete(keys)
  // Without its intent nobody would look for them again.
  await storage.removeUnfinished?.(backupFolder(intent.name)).catch(() => {})
  await intent.withdraw()
}

/** A line for people. */
export function describeBackup({ name, sentinel }: PushedBackup): string {
  const start = sentinel.startLsn === undefined ? '?' : formatLsn(sentinel.startLsn)
  const finish = sentinel.finishLsn === undefined ? '?' : formatLsn(sentinel.finishLsn)
  return `${name} from ${start} to ${finish}, ${sentinel.uncompressedSize} bytes stored as ${sentinel.compressedSize}`
}
