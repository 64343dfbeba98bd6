/**
 * Removes backups so that a process that is killed at any moment leaves nothing half there: all sentinels go before any
 * part, those of deltas before those of what they build on. A backup whose sentinel the storage keeps stays as a whole,
 * with all that it builds on.
 */
import { listInOrder } from '../../catalog/backup-order.ts'
import { mapInParallel } from '../../catalog/map-in-parallel.ts'
import { putOvertaken } from '../../catalog/sentinel-order.ts'
import type { Clock } from '../../primitives/clock.ts'
import { hasCode } from '../../primitives/errors.ts'
import type { Storage, StorageCallOptions } from '../../storage/storage.ts'
import { BackupArchive } from '../../walg/backup/backup-archive.ts'
import { intentKey, sentinelKey } from '../../walg/backup/backup-names.ts'
import { deletionKey } from '../../walg/names.ts'
import type { ArchiveContents } from '../contents/archive-contents.ts'
import { writeDeletion } from '../contents/deletion-record.ts'
import { Restorability } from '../contents/restorable.ts'
import { batchKeys, removeListed } from './bulk-deletion.ts'
import { parentsOfLateDeltas } from './late-dependants.ts'
import type { Refusals } from './refusals.ts'

/** What is to be removed, and with what. */
export interface BackupDeletion extends StorageCallOptions {
  readonly storage: Storage
  readonly clock: Clock
  readonly contents: ArchiveContents
  /** Names of backups with sentinels. */
  readonly doomed: readonly string[]
  /** Names of leftovers without one. */
  readonly leftovers: readonly string[]
  readonly refusals: Refusals
}

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

/** Sentinels that are kept in memory until it is known that no new delta needs them, in bytes altogether. */
const keptBytesMax = 32 * 1024 * 1024

/** Removes them. Throws what the storage says, but for what it refuses. */
export async function deleteBackups(deletion: BackupDeletion): Promise<DeletedBackups> {
  const { contents, doomed, leftovers, signal, storage } = deletion
  const call = signal ? { signal } : {}
  const remembered = contents.unfinished.filter(({ name, state }) => state === 'deleted' && !leftovers.includes(name))
  if (doomed.length + leftovers.length === 0) {
    if (contents.beingDeleted.length > 0 && remembered.length === 0) await endRecord(storage, call)
    return { deleted: new Set(), staying: new Set(), objects: 0, bytes: 0 }
  }
  // What an earlier one was to remove is known by its name until all of it is gone.
  const names = new Set([...contents.beingDeleted, ...doomed, ...leftovers])
  await writeDeletion(storage, [...names], call)
  const { deleted, staying } = await new SentinelRemoval(deletion, call).run()
  const removed = await removeFolders(deletion, [...leftovers, ...deleted], call)
  if (remembered.length + removed.left === 0) await endRecord(storage, call)
  return { deleted, staying, objects: removed.objects + deleted.size, bytes: removed.bytes }
}

/** Where the storage keeps the record, it names backups that are gone. */
async function endRecord(storage: Storage, call: StorageCallOptions): Promise<void> {
  await storage.delete([deletionKey], { ...call, onRefused: () => {} })
}

class SentinelRemoval {
  readonly #deletion: BackupDeletion
  readonly #call: StorageCallOptions
  readonly #restorability: Restorability
  readonly #staying = new Set<string>()
  readonly #deleted = new Set<string>()
  readonly #bytes = new Map<string, Buffer>()
  #keptBytes = 0

  constructor(deletion: BackupDeletion, call: StorageCallOptions) {
    this.#deletion = deletion
    this.#call = call
    this.#restorability = new Restorability(deletion.contents)
  }

  async run(): Promise<{ deleted: ReadonlySet<string>; staying: ReadonlySet<string> }> {
    const { contents, doomed, storage } = this.#deletion
    await this.#keepParents(await parentsOfLateDeltas(storage, contents, this.#call))
    for (const level of this.#levels(doomed)) {
      for (let index = 0; index < level.length; index += batchKeys) {
        await this.#removeBatch(level.slice(index, index + batchKeys).filter((name) => !this.#staying.has(name)))
      }
    }
    await this.#keepParents(await parentsOfLateDeltas(storage, contents, this.#call))
    return { deleted: this.#deleted, staying: this.#staying }
  }

  /** Those with the longest chains first: a delta goes before what it builds on. */
  #levels(doomed: readonly string[]): string[][] {
    const levels = new Map<number, string[]>()
    for (const name of doomed) {
      const backup = this.#restorability.find(name)
      const depth = backup ? this.#restorability.chainOf(backup).names.length : 0
      levels.set(depth, [...(levels.get(depth) ?? []), name])
    }
    return [...levels].sort(([a], [b]) => b - a).map(([, names]) => names)
  }

  async #removeBatch(names: readonly string[]): Promise<void> {
    const { refusals, storage } = this.#deletion
    await mapInParallel(names, (name) => this.#remember(name))
    const refused = new Set<string>()
    await storage.delete(names.map(sentinelKey), {
      ...this.#call,
      onRefused: (key, error) => {
        refused.add(key)
        refusals.add(key, error)
      },
    })
    for (const name of names) {
      if (refused.has(sentinelKey(name))) this.#stay(name)
      else this.#deleted.add(name)
    }
  }

  async #remember(name: string): Promise<void> {
    const archive = new BackupArchive(this.#deletion.storage)
    try {
      const bytes = await archive.readSentinelBytes(name, this.#call)
      if (this.#keptBytes + bytes.length > keptBytesMax) return
      this.#keptBytes += bytes.length
      this.#bytes.set(name, bytes)
    } catch (error) {
      if (!hasCode(error, 'WALRX_BACKUP_NOT_FOUND')) throw error
    }
  }

  /** A backup stays, and with it all that it builds on. */
  #stay(name: string): string[] {
    const backup = this.#restorability.find(name)
    const chain = backup ? this.#restorability.chainOf(backup).names : [name]
    for (const each of chain) this.#staying.add(each)
    return [...chain]
  }

  /** What a new delta builds on stays; a sentinel that is gone already is written again. */
  async #keepParents(parents: ReadonlySet<string>): Promise<void> {
    const doomed = new Set(this.#deletion.doomed)
    for (const name of parents) {
      if (!doomed.has(name)) continue
      for (const each of this.#stay(name)) {
        const bytes = this.#bytes.get(each)
        if (!bytes || !this.#deleted.has(each)) continue
        await this.#putBack(each, bytes)
        this.#deleted.delete(each)
      }
    }
  }

  /** To WAL-G and WAL-RUS the newest object is LATEST: newer sentinels are put again after this one. */
  async #putBack(name: string, bytes: Buffer): Promise<void> {
    const { clock, contents, storage } = this.#deletion
    const archive = new BackupArchive(storage)
    const order = contents.backups.map((backup) => backup.name)
    const later = new Set(order.slice(order.indexOf(name) + 1))
    const present = (await listInOrder(archive, this.#call)).map((backup) => backup.name)
    const newer = present.filter((each) => later.has(each) || !order.includes(each))
    const writing = { storage, archive, clock, ...this.#call }
    await putOvertaken(writing, name, newer, () => archive.putSentinelBytes(name, bytes, this.#call))
  }
}

/** So many folders at a time: each is a listing and one request or a few. */
const foldersAtATime = 8

async function removeFolders(
  { refusals, storage, ...deletion }: BackupDeletion,
  names: readonly string[],
  call: StorageCallOptions,
): Promise<{ objects: number; bytes: number; left: number }> {
  const archive = new BackupArchive(storage)
  const dead = new Set(deletion.leftovers)
  const total = { objects: 0, bytes: 0, left: 0 }
  await mapInParallel(
    names,
    async (name) => {
      const removed = await removeListed(storage, archive.listObjects(name, call), { ...call, refusals })
      total.objects += removed.objects
      total.bytes += removed.bytes
      if (removed.refused > 0) total.left++
      // Nobody removes the intent of a writer that is dead, once its objects are gone.
      else if (dead.has(name)) await storage.delete([intentKey(name)], { ...call, onRefused: refusals.add })
    },
    foldersAtATime,
  )
  return total
}
