/** Removes the WAL that no backup needs any more, the oldest first, and what belongs to it. */
import type { Timeline } from '../../postgres/lsn.ts'
import type { Storage, StorageCallOptions } from '../../storage/storage.ts'
import { gapKey } from '../../walg/wal/gap-records.ts'
import { gapMatters } from '../plan/deletion-plan.ts'
import type { ArchiveContents } from '../contents/archive-contents.ts'
import { parseWalObject, walFolders } from '../contents/wal-keys.ts'
import { type TimelineNeeds, whoNeeds } from '../plan/wal-needs.ts'
import type { TimelineStock } from '../contents/wal-stock.ts'
import { type Removed, removeListed } from './bulk-deletion.ts'
import type { Refusals } from './refusals.ts'

/**
 * Removes it. A listing is read as far as the first segment from which on all are needed; timelines of which nothing may
 * go are not listed.
 * @throws what the storage says, but for what it refuses
 */
export async function removeWal(
  storage: Storage,
  { segmentSize, wal }: Pick<ArchiveContents, 'segmentSize' | 'wal'>,
  needs: ReadonlyMap<Timeline, TimelineNeeds>,
  options: StorageCallOptions & { readonly refusals: Refusals },
): Promise<Removed> {
  const total = { objects: 0, bytes: 0, refused: 0 }
  for (const folder of walFolders) {
    for (const [timeline, stock] of [...wal.timelines].sort(([a], [b]) => a - b)) {
      const needed = needs.get(timeline)
      if (!needed || !hasUnneeded(stock, needed)) continue
      const prefix = folder + timeline.toString(16).toUpperCase().padStart(8, '0')
      const removed = await removeListed(storage, storage.list(prefix, signalOf(options)), {
        ...options,
        endsRefused: true,
        judge: ({ key, lastModifiedMs }) => {
          const object = parseWalObject(key, segmentSize)
          if (object?.timeline !== timeline) return 'keep'
          if (object.first >= needed.from) return 'end'
          // It has come since the plan was made, which knows nothing of its server.
          const isWal = object.kind === 'segment' || object.kind === 'chunk'
          if (isWal && lastModifiedMs > stock.newestMs) return 'keep'
          return whoNeeds(needed, object.first, object.last) === undefined ? 'remove' : 'keep'
        },
      })
      total.objects += removed.objects
      total.bytes += removed.bytes
      total.refused += removed.refused
    }
  }
  const records = wal.gaps.filter((gap) => !gapMatters(gap, needs, segmentSize)).map(gapKey)
  if (records.length > 0) {
    const before = options.refusals.count
    await storage.delete(records, { onRefused: options.refusals.add, ...signalOf(options) })
    total.objects += records.length - (options.refusals.count - before)
  }
  return total
}

function signalOf({ signal }: StorageCallOptions): StorageCallOptions {
  return signal ? { signal } : {}
}

function hasUnneeded(stock: TimelineStock, needed: TimelineNeeds): boolean {
  for (const column of stock.columns.values()) {
    for (let index = 0; index < column.length; index++) {
      if (whoNeeds(needed, column.first(index), column.last(index)) === undefined) return true
      // In the order of their keys: from here on all are needed.
      if (column.first(index) >= needed.from) break
    }
  }
  return false
}
