/** How much WAL came on which day, and what it takes in the storage: seen while the inventory reads its listing. */
import type { ObjectInfo, StorageCallOptions } from '../../storage/storage.ts'
import { parseWalKey } from '../../walg/names.ts'
import { WalReader } from '../../walg/wal/wal-reader.ts'

/** The segments that were archived on one day. */
export interface WalDay {
  /** `2026-03-01`, in UTC by the clock of the storage. */
  readonly day: string
  /** Segments; one that is stored in two forms counts once. */
  readonly segmentCount: number
  /** As they are stored, in every form. */
  readonly storedBytes: number
}

const dayMs = 86_400_000

/** A reader that counts what its listing of all WAL shows. The numbers are those of the last whole listing. */
export class CountingWalReader extends WalReader {
  /** Bytes of all objects of `wal_005`, those that walrx does not know too. */
  storedBytes = 0
  readonly #days = new Map<number, { segmentCount: number; storedBytes: number }>()

  /** See {@link WalReader.objectPages}. */
  override async *objectPages(options?: StorageCallOptions): AsyncGenerator<readonly ObjectInfo[], undefined> {
    this.storedBytes = 0
    this.#days.clear()
    let last = ''
    for await (const page of super.objectPages(options)) {
      for (const info of page) {
        this.storedBytes += info.size
        const parsed = parseWalKey(info.key)
        if (parsed?.kind === 'segment') this.#count(info, parsed.name !== last)
        if (parsed) last = parsed.name
      }
      yield page
    }
  }

  #count({ lastModifiedMs, size }: ObjectInfo, isNew: boolean): void {
    const number = Math.floor(lastModifiedMs / dayMs)
    const day = this.#days.get(number) ?? { segmentCount: 0, storedBytes: 0 }
    this.#days.set(number, day)
    day.storedBytes += size
    if (isNew) day.segmentCount++
  }

  /** The last days up to that of `nowMs`, oldest first; those without WAL too, but none before the first WAL. */
  lastDays(count: number, nowMs: number): WalDay[] {
    const today = Math.floor(nowMs / dayMs)
    const first = Math.max(today - count + 1, Math.min(today, ...this.#days.keys()))
    return Array.from({ length: today - first + 1 }, (_, index) => {
      const { segmentCount, storedBytes } = this.#days.get(first + index) ?? { segmentCount: 0, storedBytes: 0 }
      return { day: new Date((first + index) * dayMs).toISOString().slice(0, 10), segmentCount, storedBytes }
    })
  }
}
