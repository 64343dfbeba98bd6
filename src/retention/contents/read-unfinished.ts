/** Reads what the archive has of backups without a sentinel, and judges whether anybody still writes them. */
import { hasCode } from '../../primitives/errors.ts'
import { parseSegmentName } from '../../postgres/wal/wal-file.ts'
import type { Storage, StorageCallOptions } from '../../storage/storage.ts'
import { nameOfIntent, parseBackupName } from '../../walg/backup/backup-names.ts'
import { expiryOf, readIntent } from '../../walg/backup/intent-document.ts'
import { parseSentinel } from '../../walg/backup/sentinel.ts'
import { intentsPrefix } from '../../walg/names.ts'
import { type BackupFolder, noFolder } from '../../walg/backup/backup-listing.ts'
import type { ArchivedBackup, UnfinishedBackup, UnfinishedState } from './archived-backup.ts'
import type { DeletionEntry } from './deletion-record.ts'
import { namesBySuffix, possibleParents } from './possible-parents.ts'

/** An upload of another tool that has stood still for so long is dead: one object of it takes minutes. */
export const foreignExpiryMs = 24 * 3600_000

/** What is known already. */
export interface KnownBackups {
  readonly folders: ReadonlyMap<string, BackupFolder>
  readonly backups: readonly ArchivedBackup[]
  readonly segmentSize: number
  readonly nowMs: number
  readonly deletion: ReadonlyMap<string, DeletionEntry>
}

/** An intent of the archive. */
interface FoundIntent {
  readonly isAlive: boolean
  /** What its sentinel says, where it has one already. */
  readonly parentName: string | undefined
}

/**
 * Reads them. What anything else builds on that is complete or may become so is `needed`, whatever else it looks like.
 * @throws what the storage says
 */
export async function readUnfinished(
  storage: Storage,
  known: KnownBackups,
  options: StorageCallOptions,
): Promise<UnfinishedBackup[]> {
  const { backups, folders, nowMs } = known
  const intents = await readIntents(storage, nowMs, options)
  const complete = new Set(backups.map(({ name }) => name))
  const all = new Set([...complete, ...folders.keys(), ...intents.keys()])
  const unfinished = [...all]
    .filter((name) => !complete.has(name))
    .sort()
    .map((name) => judged(name, intents.get(name), known, all))
  const needed = new Set(backups.flatMap((backup) => possibleParents(backup, () => all)))
  for (const { parentNames, state } of unfinished) {
    if (state === 'running' || state === 'young') for (const name of parentNames) needed.add(name)
  }
  const byName = new Map(unfinished.map((each) => [each.name, each]))
  // A set that grows while it is walked is walked to its end.
  for (const name of needed) for (const parent of byName.get(name)?.parentNames ?? []) needed.add(parent)
  return unfinished.map((each) => (needed.has(each.name) && each.state !== 'running' ? asNeeded(each) : each))
}

function asNeeded(backup: UnfinishedBackup): UnfinishedBackup {
  return { ...backup, state: 'needed' }
}

/** One of them, as it looks by itself. */
function judged(
  name: string,
  intent: FoundIntent | undefined,
  { deletion, folders, nowMs, segmentSize }: KnownBackups,
  all: ReadonlySet<string>,
): UnfinishedBackup {
  const folder = folders.get(name) ?? noFolder
  const entry = deletion.get(name)
  const isOurs = entry !== undefined && folder.newestMs <= entry.writtenMs
  const parsed = parseBackupName(name)
  const id = parsed && parseSegmentName(parsed.segment, segmentSize)
  const parentName = intent?.parentName ?? (isOurs ? entry.parentName : undefined)
  const parentNames = parentsOf(name, parentName, all)
  let state: UnfinishedState
  if (intent?.isAlive === true) state = 'running'
  else if (isOurs) state = 'deleted'
  else state = nowMs - folder.newestMs < foreignExpiryMs ? 'young' : 'dead'
  // An intent whose writer is dead, and that has no object, is nothing.
  if (intent?.isAlive === false && state === 'young') state = 'dead'
  return { name, timeline: id?.timeline, segno: id && Number(id.segno), folder, state, parentNames }
}

/** What an unfinished backup may build on. */
function parentsOf(name: string, parentName: string | undefined, all: ReadonlySet<string>): string[] {
  if (parentName !== undefined) return [parentName]
  return namesBySuffix(parseBackupName(name)?.deltaSuffix, all).filter((each) => each !== name)
}

async function readIntents(
  storage: Storage,
  nowMs: number,
  options: StorageCallOptions,
): Promise<Map<string, FoundIntent>> {
  const intents = new Map<string, FoundIntent>()
  for await (const { key, lastModifiedMs } of storage.list(intentsPrefix, options)) {
    const name = nameOfIntent(key)
    if (name === undefined) continue
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
