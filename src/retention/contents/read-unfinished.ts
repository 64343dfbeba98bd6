/** Reads what the archive has of backups without a sentinel, and judges whether anybody still writes them. */
import { hasCode } from '../../primitives/errors.ts'
import { parseSegmentName } from '../../postgres/wal/wal-file.ts'
import type { Storage, StorageCallOptions } from '../../storage/storage.ts'
import { parseBackupName } from '../../walg/backup/backup-names.ts'
import { expiryOf, readIntent } from '../../walg/backup/intent-document.ts'
import { parseSentinel } from '../../walg/backup/sentinel.ts'
import { intentsPrefix } from '../../walg/names.ts'
import {
  type ArchivedBackup,
  type BackupFolder,
  noFolder,
  type UnfinishedBackup,
  type UnfinishedState,
} from './archived-backup.ts'
import type { DeletionRecord } from './deletion-record.ts'

/** An upload of another tool that has stood still for so long is dead: one object of it takes minutes. */
export const foreignExpiryMs = 24 * 3600_000

/** What is known already. */
export interface KnownBackups {
  readonly folders: ReadonlyMap<string, BackupFolder>
  readonly backups: readonly ArchivedBackup[]
  readonly segmentSize: number
  readonly nowMs: number
  readonly deletion: DeletionRecord | undefined
}

/** An intent of the archive. */
interface FoundIntent {
  readonly isAlive: boolean
  /** What its sentinel says, where it has one already. */
  readonly parentName: string | undefined
}

/**
 * Ages go by the clock of the storage as far as it shows: the newest time of any backup counts as now where the clock
 * of this machine is late.
 * @throws what the storage says
 */
export async function readUnfinished(
  storage: Storage,
  known: KnownBackups,
  options: StorageCallOptions,
): Promise<UnfinishedBackup[]> {
  const { backups, deletion, folders, nowMs, segmentSize } = known
  const intents = await readIntents(storage, nowMs, options)
  const complete = new Set(backups.map(({ name }) => name))
  const parents = new Set(backups.flatMap(({ parentName }) => parentName ?? []))
  const names = new Set([...folders.keys(), ...intents.keys()].filter((name) => !complete.has(name)))
  return [...names].sort().map((name) => {
    const folder = folders.get(name) ?? noFolder
    const intent = intents.get(name)
    const isOurs = deletion?.names.includes(name) === true && folder.newestMs <= deletion.writtenMs
    const parsed = parseBackupName(name)
    const id = parsed && parseSegmentName(parsed.segment, segmentSize)
    const parentNames = parentsOf(parsed?.deltaSuffix, intent?.parentName, backups)
    let state: UnfinishedState
    if (intent?.isAlive === true) state = 'running'
    else if (isOurs) state = 'deleted'
    else if (parents.has(name)) state = 'needed'
    else state = nowMs - folder.newestMs < foreignExpiryMs ? 'young' : 'dead'
    // An intent whose writer is dead, and that has no object, is nothing.
    if (intent?.isAlive === false && state === 'young') state = 'dead'
    return { name, timeline: id?.timeline, segno: id && Number(id.segno), folder, state, parentNames }
  })
}

/** The backups that a walrx is writing just now, with those that they may build on. Throws what the storage says. */
export async function readRunning(
  storage: Storage,
  backups: readonly ArchivedBackup[],
  nowMs: number,
  options: StorageCallOptions,
): Promise<Pick<UnfinishedBackup, 'name' | 'parentNames'>[]> {
  const intents = await readIntents(storage, nowMs, options)
  return [...intents].flatMap(([name, { isAlive, parentName }]) => {
    return isAlive ? [{ name, parentNames: parentsOf(parseBackupName(name)?.deltaSuffix, parentName, backups) }] : []
  })
}

/** WAL-G names a delta after the first segment of its parent, WAL-RUS after all of its chain. */
function parentsOf(
  suffix: string | undefined,
  parentName: string | undefined,
  backups: readonly ArchivedBackup[],
): string[] {
  if (parentName !== undefined) return [parentName]
  const segments = suffix?.split('_D_') ?? []
  if (segments.length === 0) return []
  return backups.map(({ name }) => name).filter((name) => segments.includes(parseBackupName(name)?.segment ?? ''))
}

async function readIntents(
  storage: Storage,
  nowMs: number,
  options: StorageCallOptions,
): Promise<Map<string, FoundIntent>> {
  const intents = new Map<string, FoundIntent>()
  for await (const { key, lastModifiedMs } of storage.list(intentsPrefix, options)) {
    const name = key.slice(intentsPrefix.length, -'.json'.length)
    if (!key.endsWith('.json') || name.includes('/')) continue
    const content = await readable(readIntent(storage, name, options.signal))
    const sentinel = content?.sentinel
    const parsed = sentinel === undefined ? undefined : await readable(parsedSentinel(sentinel, key))
    intents.set(name, {
      isAlive: nowMs - lastModifiedMs < expiryOf(content),
      parentName: parsed?.delta?.parentName,
    })
  }
  return intents
}

async function parsedSentinel(text: string, key: string): Promise<ReturnType<typeof parseSentinel>> {
  return Promise.resolve(parseSentinel(Buffer.from(text), key))
}

async function readable<T>(reading: Promise<T>): Promise<T | undefined> {
  try {
    return await reading
  } catch (error) {
    if (hasCode(error, 'WALRX_OBJECT_DAMAGED')) return undefined
    throw error
  }
}
