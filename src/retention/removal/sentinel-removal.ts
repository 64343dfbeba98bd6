/** Removes the sentinels of backups, those of deltas before those of what they build on, and puts back what is needed. */
import { mapInParallel } from '../../catalog/map-in-parallel.ts'
import { hasCode } from '../../primitives/errors.ts'
import type { StorageCallOptions } from '../../storage/storage.ts'
import { BackupArchive } from '../../walg/backup/backup-archive.ts'
import { sentinelKey } from '../../walg/backup/backup-names.ts'
import { parseSentinel } from '../../walg/backup/sentinel.ts'
import { Restorability } from '../contents/restorable.ts'
import type { BackupDeletion } from './backup-deletion.ts'
import { batchKeys } from './bulk-deletion.ts'
import { parentsOfLate, readLate } from './late-backups.ts'
import { forgetSaved, putBack, saveSentinel } from './saved-sentinels.ts'

/** What became of them: no name is in both sets. */
export interface RemovedSentinels {
  readonly deleted: ReadonlySet<string>
  /** Of those that were to go. */
  readonly staying: ReadonlySet<string>
  /** What backups build on that have come meanwhile. */
  readonly lateParents: ReadonlySet<string>
}

/** See the file's header. */
export class SentinelRemoval {
  readonly #deletion: BackupDeletion
  readonly #call: StorageCallOptions
  readonly #restorability: Restorability
  readonly #doomed: ReadonlySet<string>
  readonly #staying = new Set<string>()
  readonly #deleted = new Set<string>()

  constructor(deletion: BackupDeletion, call: StorageCallOptions) {
    this.#deletion = deletion
    this.#call = call
    this.#restorability = new Restorability(deletion.contents)
    this.#doomed = new Set(deletion.doomed)
  }

  /** Removes them. Throws what the storage says, but for what it refuses. */
  async run(): Promise<RemovedSentinels> {
    const { contents, doomed, storage } = this.#deletion
    for (const name of parentsOfLate(await readLate(storage, contents, this.#call), contents)) this.#stay(name)
    for (const level of this.#levels(doomed)) {
      for (let index = 0; index < level.length; index += batchKeys) {
        await this.#removeBatch(level.slice(index, index + batchKeys).filter((name) => !this.#staying.has(name)))
      }
    }
    const lateParents = parentsOfLate(await readLate(storage, contents, this.#call), contents)
    await this.#keepParents(lateParents)
    return { deleted: this.#deleted, staying: this.#staying, lateParents }
  }

  /** Those with the longest chains first: a delta goes before what it builds on. */
  #levels(doomed: readonly string[]): string[][] {
    const levels = new Map<number, string[]>()
    for (const name of doomed) {
      const backup = this.#restorability.find(name)
      const depth = backup ? this.#restorability.familyBelow(backup).size : 0
      levels.set(depth, [...(levels.get(depth) ?? []), name])
    }
    return [...levels].sort(([a], [b]) => b - a).map(([, names]) => names)
  }

  async #removeBatch(candidates: readonly string[]): Promise<void> {
    const { refusals, storage } = this.#deletion
    const isSaved = await mapInParallel(candidates, (name) => this.#save(name))
    for (const [index, name] of candidates.entries()) if (isSaved[index] === false) this.#stay(name)
    const names = candidates.filter((name) => !this.#staying.has(name))
    const refused = new Set<string>()
    await storage.delete(names.map(sentinelKey), {
      ...this.#call,
      onRefused: (key, error) => {
        refused.add(key)
        refusals.add(key, error)
      },
    })
    const kept = names.filter((name) => refused.has(sentinelKey(name)))
    for (const name of names) if (!refused.has(sentinelKey(name))) this.#deleted.add(name)
    for (const name of kept) this.#stay(name)
    await forgetSaved(storage, kept, this.#call)
  }

  /** False for a backup that has been marked as permanent since the plan was made. */
  async #save(name: string): Promise<boolean> {
    const { storage } = this.#deletion
    const archive = new BackupArchive(storage)
    try {
      const bytes = await archive.readSentinelBytes(name, this.#call)
      if (await this.#isPermanent(archive, name, bytes)) return false
      await saveSentinel(storage, name, bytes, this.#call)
    } catch (error) {
      // Another deletion has removed it, and has saved it.
      if (!hasCode(error, 'WALRX_BACKUP_NOT_FOUND')) throw error
    }
    return true
  }

  /** Either document may say so. One that was there and could be read, and cannot any more, counts as saying it. */
  async #isPermanent(archive: BackupArchive, name: string, bytes: Buffer): Promise<boolean> {
    try {
      if (parseSentinel(bytes, sentinelKey(name)).isPermanent === true) return true
      const metadata = await archive.readMetadata(name, this.#call)
      return metadata?.isPermanent ?? this.#restorability.find(name)?.isMarkKnown === true
    } catch (error) {
      if (!hasCode(error, 'WALRX_OBJECT_DAMAGED')) throw error
      return this.#restorability.find(name)?.problem === undefined
    }
  }

  /** A backup stays, and with it all that it builds on. Returns the names of those that were to go. */
  #stay(name: string): string[] {
    const backup = this.#restorability.find(name)
    const family = backup ? [...this.#restorability.familyBelow(backup)].map((each) => each.name) : [name]
    const doomed = family.filter((each) => this.#doomed.has(each))
    for (const each of doomed) if (!this.#deleted.has(each)) this.#staying.add(each)
    return doomed
  }

  /** What a new delta builds on stays; a sentinel that is gone already is written again, parents first. */
  async #keepParents(parents: ReadonlySet<string>): Promise<void> {
    for (const name of parents) {
      for (const each of this.#stay(name).reverse()) {
        if (!this.#deleted.delete(each)) continue
        this.#staying.add(each)
        await putBack(this.#deletion, each, this.#call)
      }
    }
  }
}
