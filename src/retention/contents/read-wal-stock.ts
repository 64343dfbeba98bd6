/** Reads the WAL of an archive: one listing of each folder, and the histories. */
import { hasCode, isOfKey } from '../../primitives/errors.ts'
import type { Timeline } from '../../postgres/lsn.ts'
import { type HistoryEntry, historyName, parseHistory } from '../../postgres/wal/wal-file.ts'
import { listInPages, type StorageCallOptions } from '../../storage/storage.ts'
import { parseWalKey, walFolder } from '../../walg/names.ts'
import { readWhole } from '../../walg/stored/stored-reader.ts'
import { gapRanges } from '../../walg/wal/gap-records.ts'
import type { WalReader } from '../../walg/wal/wal-reader.ts'
import { parseWalObject, walFolders } from './wal-keys.ts'
import { type StoredGap, TimelineStock, type WalStock } from './wal-stock.ts'

/**
 * Throws what the storage says.
 * @param segmentSize bytes
 * @param recentMs see {@link TimelineStock}
 */
export async function readWalStock(
  reader: WalReader,
  segmentSize: number,
  recentMs: number,
  options?: StorageCallOptions,
): Promise<WalStock> {
  const timelines = new Map<Timeline, TimelineStock>()
  const stockOf = (timeline: Timeline): TimelineStock => {
    const stock = timelines.get(timeline) ?? new TimelineStock(recentMs)
    timelines.set(timeline, stock)
    return stock
  }
  const withHistory = new Set<string>()
  for (const folder of walFolders) {
    const pages = folder === walFolder ? reader.objectPages(options) : listInPages(reader.storage, folder, options)
    for await (const page of pages) {
      for (const { key, lastModifiedMs, size } of page) {
        const found = parseWalObject(key, segmentSize)
        if (found) stockOf(found.timeline).add(found, size, lastModifiedMs)
        else {
          const file = parseWalKey(key)
          if (file?.kind === 'history') withHistory.add(file.name)
        }
      }
    }
  }
  const histories = new Map<Timeline, HistoryEntry[]>()
  for (const name of withHistory) {
    const timeline = parseInt(name.slice(0, 8), 16)
    const history = name === historyName(timeline) ? await readHistory(reader, name, options) : undefined
    if (history) histories.set(timeline, history)
  }
  const gaps: StoredGap[] = []
  for await (const { endLsn, startLsn, timeline } of gapRanges(reader.storage, options)) {
    gaps.push({ timeline, startLsn, endLsn })
  }
  return { timelines, histories, gaps }
}

/** Undefined for one that cannot be read: the timeline then counts as one that may come from anywhere. */
async function readHistory(
  reader: WalReader,
  name: string,
  options?: StorageCallOptions,
): Promise<HistoryEntry[] | undefined> {
  try {
    const file = await reader.openWalFile(name, undefined, options)
    return file && parseHistory(await readWhole(file), name)
  } catch (error) {
    const isUnreadable = [
      'WALRX_OBJECT_DAMAGED',
      'WALRX_OBJECT_NOT_FOUND',
      'WALRX_CODEC_UNSUPPORTED',
      'WALRX_USAGE',
    ] as const
    if (isUnreadable.some((code) => hasCode(error, code)) || isOfKey(error)) return undefined
    throw error
  }
}
