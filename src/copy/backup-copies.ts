/**
 * Copies backups: of each first its parts and tables, then metadata.json, and last the sentinel, which makes it exist. The
 * objects of several backups are copied side by side, the sentinels one after the other in the order in which the backups
 * began. None has an earlier time than the one before, and the last one has a later time than all: WAL-G and WAL-RUS go by
 * these times to find LATEST. Stores stamp whole seconds, so that a later time for each would take a second for each.
 */
import { type Clock, sleep } from '../primitives/clock.ts'
import { hasCode, isOfKey, WalrxError } from '../primitives/errors.ts'
import type { Storage } from '../storage/storage.ts'
import { BackupArchive } from '../walg/backup/backup-archive.ts'
import { backupFolder, metadataKey, sentinelKey } from '../walg/backup/backup-names.ts'
import type { BackupContents } from '../walg/backup/backup-contents.ts'
import type { CopyOutcome } from '../walg/stored/transfer/stored-copy.ts'
import type { Mover } from './mover.ts'
import { listRange } from './compare/merged-listing.ts'
import type { PairJudge } from './compare/pair-judge.ts'

/** What {@link copyBackups} needs. */
export interface BackupCopies {
  readonly source: Storage
  readonly target: Storage
  readonly mover: Mover
  readonly judge: PairJudge
  readonly clock: Clock
  readonly signal: AbortSignal
  /** Called for a backup that somebody deleted from the source meanwhile, and that was not copied. */
  readonly onDeleted: (name: string) => void
}

/** What one sentinel leaves to the next. */
interface Turns {
  readonly deleted: Set<string>
  /** Time of the newest sentinel, milliseconds since 1970 by the clock of the target. */
  newestMs: number
}

/** The turn of one sentinel. */
interface Turn {
  readonly turns: Turns
  readonly isLast: boolean
}

/**
 * Copies backups.
 * @param names oldest first, parents before their deltas
 * @returns names of those that the target has now
 * @throws WALRX_BACKUP_INCOMPLETE for one that lacks objects in the source; WALRX_OBJECT_DAMAGED for an object that is not
 * what the backup's own list says; what the storages say
 */
export async function copyBackups(copies: BackupCopies, names: readonly string[]): Promise<string[]> {
  const copied: string[] = []
  let turn: Promise<void> = Promise.resolve()
  const turns: Turns = { deleted: new Set(), newestMs: -Infinity }
  for (const name of names) {
    const data = await beginData(copies, name)
    const before = turn
    turn = (async () => {
      await before
      if (await finishBackup(copies, name, data, { turns, isLast: name === names.at(-1) })) copied.push(name)
    })()
    // The loop ends at the failure of the mover; this one is thrown below.
    turn.catch(() => {})
  }
  await turn
  return copied
}

/** Begins to copy all objects but the last two; the result comes when all are stored: false where one has vanished. */
async function beginData(copies: BackupCopies, name: string): Promise<{ readonly done: Promise<boolean> }> {
  const { judge, mover } = copies
  const contents = await contentsOf(copies, name)
  const moves: Promise<CopyOutcome>[] = []
  const prefix = backupFolder(name)
  for await (const { info, verdict } of judge.judge({ prefix, has: (key) => key !== metadataKey(name) })) {
    if (verdict !== 'missing') continue
    moves.push((await mover.begin(info, contents?.objects.get(info.key.slice(prefix.length)))).outcome)
  }
  const done = Promise.all(moves).then((outcomes) => !outcomes.includes('vanished'))
  done.catch(() => {})
  return { done }
}

/** The list of a backup's objects; undefined where there is none, or no key opens it. */
async function contentsOf({ source, signal }: BackupCopies, name: string): Promise<BackupContents | undefined> {
  try {
    return await new BackupArchive(source).readContents(name, { signal })
  } catch (error) {
    if (isOfKey(error)) return undefined
    throw error
  }
}

/** @returns false for a backup that is not in the source any more, or builds on such a one */
async function finishBackup(
  copies: BackupCopies,
  name: string,
  { done }: { readonly done: Promise<boolean> },
  turn: Turn,
): Promise<boolean> {
  const { mover, onDeleted, signal, source, target } = copies
  const hasAll = await done
  const archive = new BackupArchive(source)
  const giveUp = () => {
    turn.turns.deleted.add(name)
    onDeleted(name)
    return false
  }
  let parentName: string | undefined
  try {
    parentName = (await archive.readSentinel(name, { signal })).delta?.parentName
  } catch (error) {
    if (hasCode(error, 'WALRX_BACKUP_NOT_FOUND')) return giveUp()
    // A damaged one is copied as it is: it names its backup.
    if (!hasCode(error, 'WALRX_OBJECT_DAMAGED')) throw error
  }
  if (parentName !== undefined && turn.turns.deleted.has(parentName)) return giveUp()
  if (!hasAll || !(await isWholeAt(copies, name))) {
    if (!(await archive.headBackup(name, { signal }))) return giveUp()
    throw incomplete(source, name)
  }
  const metadata = await source.head(metadataKey(name), { signal })
  if (metadata && !(await target.head(metadataKey(name), { signal }))) await mover.move(metadata)
  return (await putSentinel(copies, name, turn)) || giveUp()
}

/** True where the copy has every object that the list of the backup names: the source may have lost one. */
async function isWholeAt(copies: BackupCopies, name: string): Promise<boolean> {
  const contents = await contentsOf(copies, name)
  if (!contents) return true
  const prefix = backupFolder(name)
  const missing = new Map(contents.objects)
  for await (const { key, size } of listRange(copies.target, { prefix }, copies)) {
    const object = key.slice(prefix.length)
    if (missing.get(object)?.size === size) missing.delete(object)
  }
  return missing.size === 0
}

function incomplete(source: Storage, name: string): WalrxError {
  return new WalrxError(
    'WALRX_BACKUP_INCOMPLETE',
    `backup ${name} at ${source.location} lacks objects that it was written with: it was not copied`,
    {
      hint: `walrx backup-verify ${name} names them; copy other backups by their names: walrx copy --backup-name NAME`,
    },
  )
}

/** Stores stamp with whole seconds. */
const laterMs = 1100
const attemptsMax = 9

/** Copies the sentinel, with its place in the order of times. False where it has gone from the source. */
async function putSentinel({ clock, mover, signal, source, target }: BackupCopies, name: string, turn: Turn) {
  const { isLast, turns } = turn
  const sentinel = await source.head(sentinelKey(name), { signal })
  if (!sentinel) return false
  const archive = new BackupArchive(target)
  // The plan has compared it.
  if (await archive.headBackup(name, { signal })) return true
  if ((await mover.move(sentinel)) === 'vanished') return false
  for (let attempt = 0; attempt < attemptsMax; attempt++) {
    const written = await archive.headBackup(name, { signal })
    const earliestMs = isLast ? turns.newestMs + 1 : turns.newestMs
    if (!written || written.lastModifiedMs >= earliestMs) {
      turns.newestMs = Math.max(turns.newestMs, written?.lastModifiedMs ?? turns.newestMs)
      break
    }
    await sleep(clock, laterMs, signal)
    await archive.putSentinelBytes(name, await archive.readSentinelBytes(name, { signal }), { signal })
  }
  return true
}
