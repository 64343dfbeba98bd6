/**
 * Whether another attempt at a damaged WAL file can find it sound. It can where the transfer over a network has damaged it, or
 * where it is being written, or written again. It cannot where the same object was read twice, or is a file that nobody writes.
 */
import { systemClock } from '../../primitives/clock.ts'
import { orAborted } from '../../primitives/wait.ts'
import type { Storage } from '../../storage/storage.ts'
import { type WalObject, WalReader } from '../../walg/wal/wal-reader.ts'
import { StallGuard, type StallGuardOptions } from './stall-guard.ts'

/** A file that was changed so shortly before may still be written: cp, and WAL-G before 3.0.9, write in place. */
const settledMs = 10_000

/** What {@link DamageWatch} needs: options of a fetch. */
export interface DamageWatchOptions extends StallGuardOptions {
  readonly storage: Storage
  readonly name: string
}

/** See the file's header. */
export class DamageWatch {
  readonly #options: DamageWatchOptions
  /** The objects of the file at the last damage. */
  #seen: string | undefined

  constructor(options: DamageWatchOptions) {
    this.#options = options
  }

  /** Called after each attempt that found damage. Where the storage does not answer now, another attempt may. */
  async isFinal(): Promise<boolean> {
    const { clock = systemClock, storage } = this.#options
    const objects = await this.#find()
    // The damage is that of a tail, or of another object: the file itself may come.
    if (objects.length === 0) return false
    const before = this.#seen
    this.#seen = objects
      .map(({ key, lastModifiedMs, md5, size }) => [key, size, lastModifiedMs, md5].join(' '))
      .join('\n')
    if (before !== undefined && before !== this.#seen) return false
    const isYoung = objects.some(({ lastModifiedMs }) => clock.now() - lastModifiedMs < settledMs)
    // A directory is read over no network of ours, and file systems check what comes over theirs.
    if (storage.hasCheapHeads === true) return !isYoung
    return before !== undefined
  }

  async #find(): Promise<WalObject[]> {
    const { name, storage } = this.#options
    const guard = new StallGuard(this.#options)
    try {
      return await orAborted(new WalReader(storage).find(name, { signal: guard.signal }), guard.signal)
    } catch {
      return []
    } finally {
      guard.close()
    }
  }
}
