/**
 * How many bytes a backup will have, by the files that there are and the blocks that have changed: file by file as the
 * server decides (GetFileBackupMethod in src/backend/backup/basebackup_incremental.c), and as the rewriter makes entries of
 * what comes.
 */
import type { Fork, RelationLocator, SegmentChange } from '../../postgres/relations/block-changes.ts'
import type { DataFile } from '../../postgres/relations/data-files.ts'
import { locatorKey, parseRelationPath } from '../../postgres/relations/relation-names.ts'
import { isMainFork, pageBytes, segmentBlocksMax } from '../../postgres/relations/relation-file.ts'
import { wi1Bytes } from '../../walg/increment/increment-format.ts'
import { paddingOf, tarBlockBytes, tarTrailer } from '../parts/tar-header.ts'

/**
 * Why a file is sent whole.
 *
 *     no-relation  it is no file of a relation
 *     shared       of a relation in `global`
 *     fork         it is no main fork: those of increments WAL-G and WAL-RUS do not all apply
 *     new          the parent has no such file
 *     emptied      the relation, or its database, was created again or emptied since
 *     cut          the relation was cut within it: see wal-cuts.ts
 *     changed      more than nine tenths of its blocks have changed
 *     odd          its size is none that a relation has, or zero
 */
export type WholeReason = 'no-relation' | 'shared' | 'fork' | 'new' | 'emptied' | 'cut' | 'changed' | 'odd'

/** How a file is sent: whole, or these many blocks of it. */
export type FileMethod = { readonly whole: WholeReason } | { readonly whole?: undefined; readonly blocks: number }

/** What has changed, by segment. */
export class ChangeIndex {
  readonly #blocks = new Map<string, number>()
  readonly #limits = new Map<string, number>()
  readonly #newDatabases = new Set<string>()

  add({ blocks, fork, limit, segment, ...locator }: SegmentChange): void {
    if (locator.relation === 0) this.#newDatabases.add(folderKey(locator))
    else if (segment !== undefined) this.#blocks.set(segmentKey({ ...locator, fork, segment }), blocks)
    if (limit !== undefined) this.#limits.set(forkKey({ ...locator, fork }), limit)
  }

  /** True where the database has been made in this tablespace since. */
  isNewDatabase(locator: RelationLocator): boolean {
    return this.#newDatabases.has(folderKey(locator))
  }

  /** The shortest length of the fork, in blocks. */
  limitOf(file: RelationLocator & { readonly fork: Fork }): number | undefined {
    return this.#limits.get(forkKey(file))
  }

  /** Blocks of the segment that have changed. */
  blocksOf(file: RelationLocator & { readonly fork: Fork; readonly segment: number }): number {
    return this.#blocks.get(segmentKey(file)) ?? 0
  }
}

function folderKey({ database, tablespace }: RelationLocator): string {
  return `${tablespace}/${database}`
}

/** What a fork is asked by in a map. */
export function forkKey(file: RelationLocator & { readonly fork: Fork }): string {
  return `${locatorKey(file)}/${file.fork}`
}

function segmentKey(file: RelationLocator & { readonly fork: Fork; readonly segment: number }): string {
  return `${forkKey(file)}/${file.segment}`
}

/**
 * How the server sends a file in an increment.
 * @param parentHas whether the parent has a path, be it left out of the manifest that is uploaded or not
 */
export function methodOf(
  { path, size }: Pick<DataFile, 'path' | 'size'>,
  changes: ChangeIndex,
  parentHas: (path: string) => boolean,
): FileMethod {
  const file = parseRelationPath(path)
  if (!file) return { whole: 'no-relation' }
  if (path.startsWith('global/')) return { whole: 'shared' }
  if (!isMainFork(path)) return { whole: 'fork' }
  if (size % pageBytes !== 0 || size === 0 || size > segmentBlocksMax * pageBytes) return { whole: 'odd' }
  if (!parentHas(path)) return { whole: 'new' }
  const limit = changes.limitOf(file) ?? Infinity
  const start = file.segment * segmentBlocksMax
  if (changes.isNewDatabase(file) || limit <= start) return { whole: 'emptied' }
  if (limit < start + segmentBlocksMax) return { whole: 'cut' }
  const blocks = changes.blocksOf(file)
  return blocks * pageBytes > size * 0.9 ? { whole: 'changed' } : { blocks }
}

/** Files and their bytes. */
export interface FileCount {
  readonly files: number
  /** As they lie in the tars, with header and padding. */
  readonly bytes: number
}

/** See {@link SizeEstimate.delta}. */
export interface DeltaSize {
  /** Of all tars, before they are compressed. */
  readonly bytes: number
  /** Increments with at least a block. */
  readonly increments: FileCount & { readonly blocks: number }
  /** Increments that say that nothing has changed. */
  readonly unchanged: FileCount
  readonly whole: FileCount
  readonly wholeBecause: ReadonlyMap<WholeReason, FileCount>
}

/** Bytes of pg_control, which comes last and has a tar of its own, and about those of backup_label, which has one too. */
const controlBytes = 8192
const labelBytes = 256

/** Adds files up. */
export class SizeEstimate {
  readonly #method: ((file: DataFile) => FileMethod) | undefined
  readonly #partBytesMax: number
  #fullBytes = 0
  #files = 0
  #folderBytes = tarBlockBytes
  readonly #increments = { files: 0, bytes: 0, blocks: 0 }
  readonly #unchanged = { files: 0, bytes: 0 }
  readonly #whole = new Map<WholeReason, { files: number; bytes: number }>()

  /**
   * @param partBytesMax bytes of a tar; each has an end of its own
   * @param method how a delta would have it; undefined where there is to be none
   */
  constructor(partBytesMax: number, method?: (file: DataFile) => FileMethod) {
    this.#partBytesMax = partBytesMax
    this.#method = method
  }

  add(file: DataFile): void {
    if (file.kind === 'directory') {
      // The links of tablespaces are left to the sentinel; two folders of pg_wal have no files.
      if (!/^pg_tblspc\/\d+$/.test(file.path)) this.#folderBytes += (file.path === 'pg_wal' ? 3 : 1) * tarBlockBytes
      return
    }
    const bytes = entryBytes(file.size)
    this.#files += 1
    this.#fullBytes += bytes
    const method = this.#method?.(file)
    if (!method) return
    if (method.whole !== undefined) {
      const count = this.#whole.get(method.whole) ?? { files: 0, bytes: 0 }
      this.#whole.set(method.whole, { files: count.files + 1, bytes: count.bytes + bytes })
      return
    }
    const own = entryBytes(wi1Bytes(method.blocks))
    const count = method.blocks > 0 ? this.#increments : this.#unchanged
    count.files += 1
    count.bytes += own
    if (method.blocks > 0) this.#increments.blocks += method.blocks
  }

  /** All files, whole. */
  get full(): FileCount {
    return { files: this.#files, bytes: this.#tars(this.#fullBytes) }
  }

  /** Undefined where there is to be none. */
  get delta(): DeltaSize | undefined {
    if (!this.#method) return undefined
    const whole = { files: 0, bytes: 0 }
    for (const { bytes, files } of this.#whole.values()) {
      whole.files += files
      whole.bytes += bytes
    }
    const bytes = this.#tars(this.#increments.bytes + this.#unchanged.bytes + whole.bytes)
    const increments = { ...this.#increments }
    return { bytes, increments, unchanged: { ...this.#unchanged }, whole, wholeBecause: this.#whole }
  }

  #tars(entries: number): number {
    const bytes = entries + this.#folderBytes
    const parts = Math.max(1, Math.ceil(bytes / this.#partBytesMax))
    return bytes + entryBytes(controlBytes) + entryBytes(labelBytes) + (parts + 2) * tarTrailer.length
  }
}

function entryBytes(size: number): number {
  return tarBlockBytes + size + paddingOf(size)
}
