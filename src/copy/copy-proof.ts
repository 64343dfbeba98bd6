/** Reads all of a copy, and its source, and compares them byte by byte. */
import { hasCode, isOfKey, WalrxError } from '../primitives/errors.ts'
import type { ObjectInfo, Storage } from '../storage/storage.ts'
import { backupFolder, sentinelKey } from '../walg/backup/backup-names.ts'
import { basebackupsFolder, gapFolder, parseWalKey, tailFolder, walFolder } from '../walg/names.ts'
import { isSameContent } from '../walg/stored/transfer/stored-content.ts'
import { isSameAt, otherBytes } from '../walg/stored/transfer/stored-copy.ts'
import { compareMarks } from './compare/backup-marks.ts'
import { CopyPool } from './copy-pool.ts'
import { type CopyPlan, timelinesOf } from './copy-plan.ts'
import type { CopyScope } from './scope/copy-request.ts'
import { type KeyRange, mergeListings } from './compare/merged-listing.ts'

/** What {@link proveCopy} needs. */
export interface ProofOptions {
  readonly source: Storage
  readonly target: Storage
  readonly scope: CopyScope
  readonly plan: Pick<CopyPlan, 'newestMs' | 'runs'>
  readonly concurrency: number
  readonly memoryBytes: number
  readonly signal: AbortSignal
  /** Called with the bytes of the objects that were compared so far. */
  readonly onProgress: (bytes: number) => void
}

/** Memory of one comparison: pieces of up to a megabyte from both sides, with what is read ahead. */
const comparisonBytes = 4 * 1024 * 1024

/**
 * Compares every object of the scope with its copy.
 * @returns how many
 * @throws WALRX_ARCHIVE_CONFLICT for one that differs, WALRX_OBJECT_DAMAGED for one that the copy lacks; what the storages say
 */
export async function proveCopy(options: ProofOptions): Promise<number> {
  const { concurrency, memoryBytes, scope, signal, source, target } = options
  using pool = new CopyPool({ parallelMax: concurrency, bytesMax: memoryBytes, signal })
  let [objects, bytes] = [0, 0]
  for (const range of await rangesOf(source, scope, signal)) {
    for await (const pair of mergeListings(source, target, range, { signal: pool.signal })) {
      const info = pair.source
      if (!info) continue
      if (!pair.target && !(await mustHave(options, info, pool.signal))) continue
      await pool.begin(comparisonBytes, async (workSignal) => {
        const other = pair.target ? undefined : await otherForm(options, info, workSignal)
        if (!(await isProved(options, info, other ?? info, workSignal))) throw otherBytes(source, target, [info.key])
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

/** False for what the copy need not have: what came to the source after it was listed, or has gone from it since. */
async function mustHave(
  { plan, source }: ProofOptions,
  { key, lastModifiedMs }: ObjectInfo,
  signal: AbortSignal,
): Promise<boolean> {
  if (key.startsWith(tailFolder)) return false
  const isOfBackup = key.startsWith(basebackupsFolder)
  const wal = parseWalKey(key)
  if (wal?.kind === 'segment') {
    if (!plan.runs.has(wal.name)) return false
  } else if (!isOfBackup && lastModifiedMs >= plan.newestMs) return false
  if (!(await source.head(key, { signal }))) return false
  // Of a backup that is being deleted, the sentinel goes first.
  const [, name = ''] = /^[^/]*\/([^/]*)\//.exec(key) ?? []
  return !isOfBackup || name === '' || (await source.head(sentinelKey(name), { signal })) !== undefined
}

/** The segment in the form that the copy has it in. @throws WALRX_OBJECT_DAMAGED where it has none */
async function otherForm(
  { source, target }: ProofOptions,
  { key }: ObjectInfo,
  signal: AbortSignal,
): Promise<Pick<ObjectInfo, 'key'>> {
  const wal = parseWalKey(key)
  if (wal?.kind === 'segment') {
    for await (const form of target.list(walFolder + wal.name, { signal }))
      if (parseWalKey(form.key)?.name === wal.name) return form
  }
  throw new WalrxError('WALRX_OBJECT_DAMAGED', `${target.location} lacks ${key}, which ${source.location} has`, {
    hint: 'it was removed from the copy, or its storage has lost it: run the same copy again, which copies what is missing',
  })
}

async function isProved(
  { source, target }: ProofOptions,
  { key }: ObjectInfo,
  { key: targetKey }: Pick<ObjectInfo, 'key'>,
  signal: AbortSignal,
): Promise<boolean> {
  if (key.startsWith(gapFolder)) return true
  if (key === targetKey && (await isSameAt(source, target, key, { signal })) !== 'other') return true
  if (key.endsWith('.json')) return (await compareMarks(source, target, key, { signal })) !== 'differ'
  const [extension, targetExtension] = [parseWalKey(key)?.extension, parseWalKey(targetKey)?.extension]
  if (extension === undefined || targetExtension === undefined) return false
  try {
    const theirs = { key: targetKey, extension: targetExtension }
    return await isSameContent(source, { key, extension }, target, theirs, { signal })
  } catch (error) {
    if (isOfKey(error) || hasCode(error, 'WALRX_OBJECT_DAMAGED')) return false
    throw error
  }
}
