/** Reads all of a copy, and its source, and compares them byte by byte. */
import { hasCode, isOfKey } from '../primitives/errors.ts'
import type { ObjectInfo, Storage } from '../storage/storage.ts'
import { backupFolder, sentinelKey } from '../walg/backup/backup-names.ts'
import { gapFolder, parseWalKey, tailFolder } from '../walg/names.ts'
import { isSameContent } from '../walg/stored/transfer/stored-content.ts'
import { isSameAt, otherBytes } from '../walg/stored/transfer/stored-copy.ts'
import { compareMarks } from './compare/backup-marks.ts'
import { CopyPool } from './copy-pool.ts'
import { timelinesOf } from './copy-plan.ts'
import type { CopyScope } from './scope/copy-request.ts'
import { type KeyRange, mergeListings } from './compare/merged-listing.ts'

/** What {@link proveCopy} needs. */
export interface ProofOptions {
  readonly source: Storage
  readonly target: Storage
  readonly scope: CopyScope
  readonly concurrency: number
  readonly memoryBytes: number
  readonly signal: AbortSignal
  /** Called with the bytes of the objects that were compared so far. */
  readonly onProgress: (bytes: number) => void
}

/** Memory of one comparison: pieces of up to a megabyte from both sides, with what is read ahead. */
const comparisonBytes = 4 * 1024 * 1024

/**
 * Compares every object of the scope that both have.
 * @returns how many
 * @throws WALRX_ARCHIVE_CONFLICT for one that differs; what the storages say
 */
export async function proveCopy(options: ProofOptions): Promise<number> {
  const { concurrency, memoryBytes, scope, signal, source, target } = options
  using pool = new CopyPool({ parallelMax: concurrency, bytesMax: memoryBytes, signal })
  let [objects, bytes] = [0, 0]
  for (const range of await rangesOf(source, scope, signal)) {
    for await (const pair of mergeListings(source, target, range, { signal: pool.signal })) {
      const info = pair.source
      if (!info || !pair.target) continue
      await pool.begin(comparisonBytes, async (workSignal) => {
        if (!(await isProved(options, info, workSignal))) throw otherBytes(source, target, [info.key])
        objects++
        options.onProgress((bytes += info.size))
      })
    }
  }
  await pool.settle()
  return objects
}

async function rangesOf(source: Storage, scope: CopyScope, signal: AbortSignal): Promise<KeyRange[]> {
  const timelines = await timelinesOf(source, { signal })
  const backups = scope.backups.flatMap(({ name }) => [{ prefix: backupFolder(name) }, { prefix: sentinelKey(name) }])
  return [...scope.wal.ownRanges(), ...scope.wal.walRanges(timelines), { prefix: tailFolder }, ...backups]
}

async function isProved({ source, target }: ProofOptions, { key }: ObjectInfo, signal: AbortSignal): Promise<boolean> {
  if (key.startsWith(gapFolder)) return true
  if ((await isSameAt(source, target, key, { signal })) !== 'other') return true
  if (key.endsWith('.json')) return (await compareMarks(source, target, key, { signal })) !== 'differ'
  const extension = parseWalKey(key)?.extension
  if (extension === undefined) return false
  try {
    return await isSameContent(source, { key, extension }, target, { key, extension }, { signal })
  } catch (error) {
    if (isOfKey(error) || hasCode(error, 'WALRX_OBJECT_DAMAGED')) return false
    throw error
  }
}
