/** The end of a backup: its WAL, the proof that everything is still there, the sentinel. */
import { namesAfter } from '../catalog/backup-order.ts'
import { finishSentinelOrder, putOvertaken } from '../catalog/sentinel-order.ts'
import type { Logger } from '../observe/log.ts'
import type { Clock } from '../primitives/clock.ts'
import { hasCode, WalrxError } from '../primitives/errors.ts'
import { formatLsn } from '../postgres/lsn.ts'
import { BackupArchive } from '../walg/backup/backup-archive.ts'
import { backupFolder, sentinelKey } from '../walg/backup/backup-names.ts'
import { parseSentinel, type Sentinel } from '../walg/backup/sentinel.ts'
import type { WalReader } from '../walg/wal/wal-reader.ts'
import type { Storage } from '../storage/storage.ts'
import type { Intent } from './intent.ts'
import { waitForWal } from './wal-wait.ts'

/** What {@link finishBackup} needs. */
export interface FinishOptions {
  readonly storage: Storage
  readonly archive: WalReader
  /** With the sentinel and the objects in it. */
  readonly intent: Intent
  /** Names of the segments that the backup needs. */
  readonly segments: readonly string[]
  /** Their size in bytes. */
  readonly segmentSize: number
  /** Undefined does not wait. */
  readonly walTimeoutMs: number | undefined
  readonly clock: Clock
  readonly log: Logger
  readonly signal: AbortSignal
}

/**
 * Waits for the WAL and writes the sentinel: from then on the backup exists.
 * @throws WALRX_BACKUP_INCOMPLETE
 */
export async function finishBackup(options: FinishOptions): Promise<void> {
  const { intent, log, signal, storage, walTimeoutMs } = options
  const { name } = intent
  if (walTimeoutMs !== undefined) {
    await waitForWal({ ...options, name, timeoutMs: walTimeoutMs })
  }
  await intent.prove(signal)
  await proveObjects(storage, name, intent.content.objects ?? [], signal)
  const sentinel = Buffer.from(intent.content.sentinel ?? '')
  const parsed = parseSentinel(sentinel, sentinelKey(name))
  await proveParent(storage, parsed, signal)
  await putInOrder(options, name, parsed, () => putSentinel(storage, name, sentinel, signal))
  // From here on nothing may make the backup look as if it had failed; a later run removes an intent that stays.
  await intent.withdraw().catch((error: unknown) => {
    log.warn('the backup is complete, but its intent could not be removed: a later backup-push removes it', {
      name,
      error,
    })
  })
}

/**
 * Backups that began later may have been finished already. Then the sentinel must not become LATEST to WAL-G and WAL-RUS,
 * which go by the times in the storage. What goes wrong after the put only shows in the log: the backup is complete.
 */
async function putInOrder(
  { clock, log, signal, storage }: FinishOptions,
  name: string,
  sentinel: Sentinel,
  put: () => Promise<void>,
): Promise<void> {
  const archive = new BackupArchive(storage)
  const writing = { archive, storage, clock, signal }
  let putting: Promise<void> | undefined
  let isRefused = false
  const putOnce = () => (putting ??= put())
  try {
    await finishSentinelOrder(writing)
    const newer = await namesAfter(archive, { name, ...sentinel }, { signal })
    const putFirst = () =>
      putOnce().catch((error: unknown) => {
        isRefused = true
        throw error
      })
    if (newer.length > 0) await putOvertaken(writing, name, newer, putFirst)
  } catch (error) {
    if (!isRefused) {
      const hint = 'the next backup-push, backup-finish or backup-mark tries again to put newer sentinels after it'
      log.warn('WAL-G and WAL-RUS may take the backup as LATEST, although others began later', { name, error, hint })
    }
  }
  await putOnce()
}

/**
 * A put that fails may have been carried out, or may be later: the data must stay then, for there must never be a
 * sentinel without it.
 */
async function putSentinel(storage: Storage, name: string, bytes: Buffer, signal: AbortSignal): Promise<void> {
  const archive = new BackupArchive(storage)
  if (await storage.head(sentinelKey(name), { signal })) {
    // Ours: the answer to an attempt before was lost.
    if ((await archive.readSentinelBytes(name, { signal })).equals(bytes)) return
    throw new WalrxError('WALRX_BACKUP_EXISTS', `${name} exists already at ${storage.location}`, {
      hint: 'another tool has written a backup with this name in the meantime: take the backup again',
    })
  }
  try {
    await archive.putSentinelBytes(name, bytes, { signal })
  } catch (error) {
    const what = `whether the sentinel of ${name} is at ${storage.location} is not known`
    throw new WalrxError('WALRX_BACKUP_INCOMPLETE', `${what}: ${(error as Error).message}`, { cause: error })
  }
}

/** What a delta builds on is still there, and still the same. */
async function proveParent(storage: Storage, { delta }: Sentinel, signal: AbortSignal): Promise<void> {
  if (!delta) return
  const hint = 'the parent was removed or replaced while the delta was taken: take the backup again'
  let found: Sentinel
  try {
    found = await new BackupArchive(storage).readSentinel(delta.parentName, { signal })
  } catch (error) {
    if (!hasCode(error, 'WALRX_BACKUP_NOT_FOUND')) throw error
    const message = `${delta.parentName}, which the delta builds on, is gone from ${storage.location}`
    throw new WalrxError('WALRX_BACKUP_INCOMPLETE', message, { hint, cause: error })
  }
  if (found.startLsn === delta.parentLsn) return
  const now = found.startLsn === undefined ? 'nowhere' : formatLsn(found.startLsn)
  const then = delta.parentLsn === undefined ? 'nowhere' : formatLsn(delta.parentLsn)
  const message = `${delta.parentName} at ${storage.location} starts at ${now}, and the delta builds on one from ${then}`
  throw new WalrxError('WALRX_BACKUP_INCOMPLETE', message, { hint })
}

/** Every object is there, with the size that it was stored with. */
async function proveObjects(
  storage: Storage,
  name: string,
  objects: readonly { readonly name: string; readonly size: number }[],
  signal: AbortSignal,
): Promise<void> {
  const folder = backupFolder(name)
  const sizes = new Map<string, number>()
  for await (const { key, size } of storage.list(folder, { signal })) sizes.set(key.slice(folder.length), size)
  for (const object of objects) {
    const size = sizes.get(object.name)
    if (size === object.size) continue
    const what = size === undefined ? 'is gone' : `has ${size} bytes instead of ${object.size}`
    throw new WalrxError('WALRX_BACKUP_INCOMPLETE', `${storage.location}/${folder}${object.name} ${what}`, {
      hint: 'another process removes or writes objects there: take the backup again',
    })
  }
}
