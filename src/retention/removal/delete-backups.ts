/**
 * Removes backups so that a process that is killed at any moment leaves nothing half there: all sentinels go before any
 * part, those of deltas before those of what they build on. A backup whose sentinel the storage keeps stays as a whole,
 * with all that it builds on.
 */
import { mapInParallel } from '../../catalog/map-in-parallel.ts'
import type { Storage, StorageCallOptions } from '../../storage/storage.ts'
import { BackupArchive } from '../../walg/backup/backup-archive.ts'
import { intentKey, sentinelKey } from '../../walg/backup/backup-names.ts'
import { deletionKey } from '../../walg/names.ts'
import { type NewEntry, readDeletion, writeDeletion } from '../contents/deletion-record.ts'
import type { BackupDeletion } from './backup-deletion.ts'
import { removeListed } from './bulk-deletion.ts'
import { isStillLeft } from './leftovers.ts'
import { forgetSaved, putBack } from './saved-sentinels.ts'
import { SentinelRemoval } from './sentinel-removal.ts'

/** What was done. */
export interface DeletedBackups {
  /** Names of the backups that are gone, as far as their sentinels go. */
  readonly deleted: ReadonlySet<string>
  /** Of those that were to go the ones that stay: the storage keeps them, or a delta that came meanwhile needs them. */
  readonly staying: ReadonlySet<string>
  /** Objects that were removed. */
  readonly objects: number
  readonly bytes: number
}

/** Removes them. Throws what the storage says, but for what it refuses. */
export async function deleteBackups(deletion: BackupDeletion): Promise<DeletedBackups> {
  const { contents, doomed, leftovers, signal, storage } = deletion
  const call = signal ? { signal } : {}
  const needed = contents.unfinished.filter(({ name, state }) => state === 'needed' && contents.deletion.has(name))
  const again = await putBackNeeded(
    deletion,
    needed.map(({ name }) => name),
    call,
  )
  // What an earlier one was to remove is known by its name until all of it is gone.
  const remembered = contents.unfinished.filter(({ name, state }) => {
    return contents.deletion.has(name) && (state === 'deleted' || state === 'needed') && !leftovers.includes(name)
  })
  const meant = new Set([...remembered.map(({ name }) => name), ...leftovers])
  const over = [...contents.deletion.keys()].filter((name) => !meant.has(name))
  await forgetOver(deletion, over, call)
  if (doomed.length + leftovers.length === 0) {
    if (contents.deletion.size > 0 && remembered.length === 0) await endRecord(storage, over, call)
    return { deleted: new Set(), staying: new Set(again), objects: 0, bytes: 0 }
  }
  await record(
    deletion,
    remembered.map(({ name }) => name),
    call,
  )
  const { deleted, lateParents, staying } = await new SentinelRemoval(deletion, call).run()
  const dead = leftovers.filter((name) => !lateParents.has(name))
  const spared = leftovers.filter((name) => lateParents.has(name))
  again.push(...(await putBackNeeded(deletion, spared, call)))
  const removed = await removeFolders(deletion, { deleted, dead }, call)
  if (remembered.length + spared.length + removed.left + staying.size === 0) {
    await forgetSaved(storage, [...doomed, ...leftovers], call)
    await endRecord(storage, [...over, ...doomed, ...leftovers], call)
  }
  return {
    deleted,
    staying: new Set([...staying, ...again]),
    objects: removed.objects + deleted.size,
    bytes: removed.bytes,
  }
}

/** The parents of deltas that came while a deletion removed them, and was killed, get their sentinels back. */
async function putBackNeeded(
  deletion: BackupDeletion,
  names: readonly string[],
  call: StorageCallOptions,
): Promise<string[]> {
  const again: string[] = []
  for (const name of names) if (await putBack(deletion, name, call)) again.push(name)
  return again
}

/**
 * Writes the record: what is to be removed, and of what it has the names that still mean something, with their times, so
 * that a younger backup of the same name is not taken for one of them. Those that another deletion has added stay.
 */
async function record(
  { contents, doomed, leftovers, storage }: BackupDeletion,
  remembered: readonly string[],
  call: StorageCallOptions,
): Promise<void> {
  const old = await readDeletion(storage, call)
  const entries = new Map<string, NewEntry>()
  for (const entry of old.values()) {
    const isOver = contents.deletion.has(entry.name) && !remembered.includes(entry.name)
    if (!isOver) entries.set(entry.name, entry)
  }
  const parents = new Map(contents.backups.map(({ name, parentName }) => [name, parentName]))
  for (const name of doomed) entries.set(name, { name, parentName: parents.get(name), writtenMs: undefined })
  for (const { folder, name } of contents.unfinished) {
    // What is newer than what was planned for may be of a writer that lives after all.
    const own = { name, parentName: undefined, writtenMs: folder.newestMs }
    if (leftovers.includes(name)) entries.set(name, old.get(name) ?? own)
  }
  await writeDeletion(storage, [...entries.values()], call)
}

/** Another deletion may remove a sentinel just now that was there when we looked: its copy stays. */
async function forgetOver(
  { contents, storage }: BackupDeletion,
  over: readonly string[],
  call: StorageCallOptions,
): Promise<void> {
  const complete = new Set(contents.backups.map(({ name }) => name))
  const isOver = await mapInParallel(over, async (name) => {
    return !complete.has(name) || (await storage.head(sentinelKey(name), call)) !== undefined
  })
  await forgetSaved(
    storage,
    over.filter((_name, index) => isOver[index]),
    call,
  )
}

/** Where the storage keeps the record, it names backups that are gone. One that names others is another deletion's. */
async function endRecord(storage: Storage, names: readonly string[], call: StorageCallOptions): Promise<void> {
  const done = new Set(names)
  const others = [...(await readDeletion(storage, call)).keys()].some((name) => !done.has(name))
  if (!others) await storage.delete([deletionKey], { ...call, onRefused: () => {} })
}

/** So many folders at a time: each is a listing and one request or a few. */
const foldersAtATime = 8

async function removeFolders(
  { contents, refusals, storage }: BackupDeletion,
  { dead, deleted }: { readonly dead: readonly string[]; readonly deleted: ReadonlySet<string> },
  call: StorageCallOptions,
): Promise<{ objects: number; bytes: number; left: number }> {
  const archive = new BackupArchive(storage)
  const total = { objects: 0, bytes: 0, left: 0 }
  await mapInParallel(
    [...dead, ...deleted],
    async (name) => {
      if (!deleted.has(name) && !(await isStillLeft(storage, name, contents, call))) return
      const removed = await removeListed(storage, archive.listObjects(name, { ...call, linksAsObjects: true }), {
        ...call,
        refusals,
      })
      total.objects += removed.objects
      total.bytes += removed.bytes
      if (removed.refused > 0) total.left++
      // Nobody removes the intent of a writer that is dead, once its objects are gone.
      else if (!deleted.has(name)) await storage.delete([intentKey(name)], { ...call, onRefused: refusals.add })
    },
    foldersAtATime,
  )
  return total
}
