/**
 * A backup over the replication protocol, full or a delta, stored as WAL-G and WAL-RUS read it. In this order, so that at
 * no moment anything looks like a backup that is none:
 *
 *   intent, parts (while the server sends), backup_label.tar, pg_control.tar, the server's manifest, walrx.json,
 *   metadata.json, files_metadata.json, then the WAL is waited for, then the sentinel
 */
import { hostname } from 'node:os'
import { markBackup } from '../catalog/backup-mark.ts'
import type { WriteCodec } from '../compression/codec.ts'
import type { Clock } from '../primitives/clock.ts'
import { hasCode, isAbort, StoppedError, WalrxError } from '../primitives/errors.ts'
import type { JsonValue } from '../primitives/json/json.ts'
import type { BaseBackup, BaseBackupEnd } from '../postgres/backup/base-backup.ts'
import type { ChecksumFailure } from '../postgres/backup/checksum-failures.ts'
import { type ClusterFacts, readClusterFacts, readOutside } from '../postgres/backup/cluster-facts.ts'
import { LeftOutFiles } from '../postgres/backup/left-out-files.ts'
import type { ChecksumState } from '../postgres/control-file.ts'
import { findUnusableNames, refuseUnusableNames } from '../postgres/backup/unusable-names.ts'
import type { PgSession } from '../postgres/connect/pg-session.ts'
import { formatLsn, type Timeline } from '../postgres/lsn.ts'
import { BackupArchive } from '../walg/backup/backup-archive.ts'
import { formatContents, type LeftOut } from '../walg/backup/backup-contents.ts'
import { metadataOf } from '../walg/backup/backup-metadata.ts'
import { backupFolder, backupName, contentsKey, deltaName, sentinelKey } from '../walg/backup/backup-names.ts'
import type { IntentContent } from '../walg/backup/intent-document.ts'
import { formatSentinel, type Sentinel } from '../walg/backup/sentinel.ts'
import { putDocument } from '../walg/stored/stored-writer.ts'
import { checkKeys } from '../walg/wal/key-check.ts'
import type { WalArchive } from '../walg/wal/wal-archive.ts'
import { beginBackup, type BeginOptions, type BegunBackup } from './backup-begin.ts'
import { finishBackup } from './backup-finish.ts'
import { BackupReceiver, type StoredContent } from './parts/backup-receiver.ts'
import type { FullReason } from './delta/full-reason.ts'
import { Intent, removeExpiredBackups } from './intent.ts'
import { sentinelOf } from './build-sentinel.ts'
import { segmentsBetween } from './wal-wait.ts'

/** What {@link pushBackup} is to do. */
export interface PushOptions extends BeginOptions {
  readonly archive: WalArchive
  readonly codec: WriteCodec
  readonly clock: Clock
  readonly partBytesMax: number
  readonly laneCount?: number
  readonly userData: JsonValue | undefined
  /** Milliseconds to wait for the WAL; undefined writes the sentinel at once. */
  readonly walTimeoutMs: number | undefined
  /** Called with the bytes that have come, now and then. */
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
  /** Why it is a full one; undefined for a delta. */
  readonly full: FullReason | undefined
  /** Damage that it holds, because that was accepted. */
  readonly checksumFailures: readonly ChecksumFailure[]
  readonly leftOut: LeftOut
}

/**
 * Takes a backup.
 * @throws WALRX_BACKUP_EXISTS, WALRX_BACKUP_CHECKSUM, WALRX_BACKUP_INCOMPLETE, WALRX_BACKUP_NOT_INCREMENTAL,
 * WALRX_OTHER_CLUSTER, WALRX_KEY_MISSING, WALRX_KEY_WRONG, and what server and storage say. Nothing is left then that any
 * command takes for a backup
 */
export async function pushBackup(options: PushOptions): Promise<PushedBackup> {
  const { archive, clock, log, server, signal, storage } = options
  const session = await server.connect(signal)
  let cluster: ClusterFacts
  let outside: Readonly<Record<string, string>>
  let unusable: readonly Buffer[]
  try {
    cluster = await readClusterFacts(session)
    outside = await readOutside(session, cluster.dataDirectory)
    unusable = await lookForUnusableNames(options, session)
    // A full backup only writes: a public key is enough for it.
    await checkKeys(storage, { signal })
    await archive.bindSystem(cluster.systemId, cluster.segmentSize, { signal })
    const onKept = (name: string, error: WalrxError) => {
      log.warn('the objects of a dead backup stay: the storage lets us remove nothing', { name, error })
    }
    for (const name of await removeExpiredBackups(storage, clock, signal, onKept))
      log.warn('removed the objects of a dead backup', { name })
  } catch (error) {
    await session.close()
    throw error
  }
  const startedAt = clock.now()
  const opened = { cluster, outside, startedAt, ...(await beginBackup(options, session, cluster)) }
  try {
    if (unusable.length > 0) refuseUnusableNames(unusable, leftOutSoFar(opened.backup))
    return await take(options, opened)
  } finally {
    await opened.backup.close()
  }
}

/** What the server has said, while it added up the sizes, that it leaves out. */
function leftOutSoFar(backup: BaseBackup): readonly string[] {
  const leftOut = new LeftOutFiles()
  for (const notice of backup.noticesSoFar) leftOut.note(notice)
  return leftOut.list
}

/** Looks before anything is sent, where the role may list files: others meet such a name when the server sends it. */
async function lookForUnusableNames(
  { log, server, signal }: PushOptions,
  session: PgSession,
): Promise<readonly Buffer[]> {
  if (!server.trySql || (await session.show('is_superuser')) !== 'on') return []
  const { sql } = await server.trySql(session, signal)
  if (!sql) return []
  try {
    return await findUnusableNames(sql, signal)
  } catch (error) {
    if (!hasCode(error, 'WALRX_SERVER_ERROR') && !hasCode(error, 'WALRX_NO_PRIVILEGE')) throw error
    log.debug('the names of files cannot be looked at before the backup', { error })
    return []
  } finally {
    await sql.close()
  }
}

/** A backup just before its first archive. */
interface Opened extends BegunBackup {
  readonly cluster: ClusterFacts
  readonly startedAt: number
  /** See {@link readOutside}. */
  readonly outside: Readonly<Record<string, string>>
}

async function take(options: PushOptions, opened: Opened): Promise<PushedBackup> {
  const { clock, log, signal, storage } = options
  const { backup, cluster, parent } = opened
  const { startLsn, timeline } = backup.start
  const name = parent
    ? deltaName(timeline, startLsn, cluster.segmentSize, parent.name)
    : backupName(timeline, startLsn, cluster.segmentSize)
  const intent = await Intent.announce(storage, name, hostname(), clock, signal)
  log.info('backup begins', { name, startLsn, timeline, buildsOn: parent?.name })
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

/** @param onStored called when everything but the sentinel is stored, where the intent says so */
async function receive(
  options: PushOptions,
  opened: Opened,
  intent: Intent,
  onStored: () => void,
): Promise<PushedBackup> {
  const { backup, cluster, parent } = opened
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
    parent,
    onProgress: options.onProgress ?? (() => {}),
  })
  let end: BaseBackupEnd
  let content: StoredContent
  try {
    end = await backup.receive(receiver, signal)
    refuseOtherTimeline(backup.start.timeline, end.endTimeline)
    content = await receiver.finish()
    if (parent) refuseNewChecksums(cluster.checksums, content.checksums)
  } catch (error) {
    await receiver.drop(error as Error)
    throw error
  }
  const finishedAt = options.clock.now()
  const { isPermanent, userData } = options
  const { start } = backup
  const sentinel = sentinelOf({ ...opened, start, end, content, finishedAt, isPermanent, userData })
  const objects = content.objects
  const leftOut = { paths: content.leftOut, outside: opened.outside }
  await putDocument(storage, contentsKey(name), formatContents(objects, leftOut, content.tree), { signal })
  const documents = new BackupArchive(storage)
  if (parent && isPermanent) await keepAncestors(options, documents, parent.name)
  await documents.putMetadata(name, metadataOf(sentinel), { signal })
  await documents.putFilesMetadata(name, { files: content.files, tarFileSets: content.tarFileSets }, { signal })
  log.info('all data is stored', { name, endLsn: end.endLsn, parts: content.parts, files: content.files.size })
  const segments = segmentsBetween(backup.start.timeline, backup.start.startLsn, end.endLsn, cluster.segmentSize)
  const stored: Partial<IntentContent> = {
    sentinel: formatSentinel(sentinel).toString('utf8'),
    segments: [segments[0] ?? '', segments.at(-1) ?? ''],
    objects: objects.map(({ name: object, size }) => ({ name: object, size })),
  }
  if (await noteStored(options, intent, stored)) onStored()
  await finishBackup({ ...options, intent, segments, segmentSize: cluster.segmentSize })
  const { checksumFailures } = end
  const { files, parts } = content
  return { name, sentinel, parts, files: files.size, full: opened.full, checksumFailures, leftOut }
}

/**
 * Has the intent say that the data is stored. False on a store that lets nothing be written over: nothing needs that note
 * but a later backup-finish.
 */
async function noteStored({ log }: PushOptions, intent: Intent, stored: Partial<IntentContent>): Promise<boolean> {
  try {
    await intent.update(stored)
    return true
  } catch (error) {
    if (!hasCode(error, 'WALRX_STORAGE_DENIED')) throw error
    log.warn('the storage lets no object be written over: backup-finish cannot complete this backup if it is stopped', {
      name: intent.name,
      error: error.message,
    })
    return false
  }
}

function refuseOtherTimeline(start: Timeline, end: Timeline): void {
  if (start === end) return
  throw new WalrxError(
    'WALRX_BACKUP_INCOMPLETE',
    `the server went from timeline ${start} to ${end} during the backup`,
    {
      hint: 'take the backup again',
    },
  )
}

/**
 * PostgreSQL 19 switches checksums on while it runs. Then nothing shows how the backup that this one builds on was without
 * them, and what lies in between.
 */
function refuseNewChecksums(start: ChecksumState, end: ChecksumState | undefined): void {
  if (start !== 'off' || end === undefined || end === 'off') return
  throw new WalrxError('WALRX_BACKUP_INCOMPLETE', `data_checksums went from ${start} to ${end} during the delta`, {
    hint: 'take the backup again: it will be a full one',
  })
}

/** A delta that is to stay is nothing without what it builds on: that is marked first, as WAL-G does. */
async function keepAncestors({ clock, log, signal, storage }: PushOptions, archive: BackupArchive, name: string) {
  const request = { name, permanent: true, rewriteSentinels: false }
  const { left, metadata } = await markBackup({ archive, storage, clock, signal }, request)
  if (metadata.length > 0) log.info('what a permanent delta builds on is permanent too', { marked: metadata, left })
}

/** The error of a backup that is not complete although its data is stored, with the command that completes it. */
function leftForFinish({ log }: PushOptions, { name }: Intent, error: unknown): unknown {
  if (error instanceof WalrxError && error.hint !== undefined) return error
  const command = `walrx backup-finish ${name}`
  log.warn('the data of the backup is stored, and stays for a day', { name, completeBy: command })
  if (isAbort(error))
    return new StoppedError(`the data is stored; complete the backup within a day by: ${command}`, error)
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
  const base = sentinel.delta ? ` on ${sentinel.delta.parentName}` : ''
  const bytes = `${sentinel.uncompressedSize} bytes stored as ${sentinel.compressedSize}`
  return `${name}${base} from ${start} to ${finish}, ${bytes}`
}
