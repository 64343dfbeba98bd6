/**
 * One look at the archive for a recovering server, which mostly asks for what is not there yet: a standby does so every
 * few seconds for as long as it lives. Two requests are enough for that answer on a sound store.
 *
 * A segment: one listing from its predecessor on, over the WAL and what walrx keeps beside it. It shows every form of
 * the segment, later ones, its tail, and gaps. The predecessor, which the server had from here, shows that the store
 * lists at all. That nothing is missing at the end of the listing is the storage's to prove (storage/s3/listing/s3-listing.ts),
 * mostly by the second request.
 * A history: a listing of its timeline's files, and one that shows that the archive holds anything.
 */
import {
  segmentName,
  parseSegmentName,
  segmentSizeMax,
  segmentSizeMin,
  walFileKind,
} from '../../postgres/wal/wal-file.ts'
import type { Storage, StorageCallOptions } from '../../storage/storage.ts'
import { parseTailKey, parseWalKey, walFolder } from '../../walg/names.ts'
import { isReadable, type StoredName } from '../../walg/stored/stored-form.ts'
import { type GapRange, isInGap, parseGapKey } from '../../walg/wal/gap-records.ts'
import { readSystem } from '../../walg/wal/system-marker.ts'

/** What a look shows. */
export type ArchiveView =
  /** The file is there in this form. `isFollowed`: true where a later segment of its timeline was seen too. */
  | { readonly kind: 'there'; readonly form: StoredName; readonly isFollowed: boolean }
  /** It is not there, nor is anything after it on its timeline; the archive holds something. */
  | { readonly kind: 'absent' }
  /** There is something that needs a closer look. */
  | { readonly kind: 'unclear' }

/** What to look for. */
export interface ViewOptions extends StorageCallOptions {
  /** Extension to prefer where there are several forms. */
  readonly extension: string | undefined
  /** Bytes of a segment, when configured. */
  readonly segmentSize: number | undefined
  /** True: the segment's tail counts for nothing, as for a standby. */
  readonly wholeOnly: boolean
  /** True: look beyond the file's forms, for {@link ArchiveView.isFollowed}. */
  readonly wantsFollower: boolean
}

/** Enough for the end of an archive with its tail and markers. */
const firstPageKeys = 100
/** Keys of newer timelines after which a closer look is cheaper. */
const newerKeysMax = 100
/** PostgreSQL's default. */
const usualSegmentSize = 16 * 1024 * 1024

const unclear = { kind: 'unclear' } as const

/** Looks. Throws what the storage says. */
export async function viewArchive(storage: Storage, name: string, options: ViewOptions): Promise<ArchiveView> {
  const kind = walFileKind(name)
  if (kind === 'segment') return await viewSegment(storage, name, options)
  return kind === 'history' ? await viewHistory(storage, name, options) : unclear
}

async function viewHistory(storage: Storage, name: string, options: ViewOptions): Promise<ArchiveView> {
  const signal = options.signal ? { signal: options.signal } : {}
  for await (const { key } of storage.list(walFolder + name.slice(0, 8), { ...signal, firstPageKeys })) {
    const file = parseWalKey(key)
    if (!file) continue
    if (file.name !== name || !isReadable(file.extension)) return unclear
    return { kind: 'there', form: { key, extension: file.extension }, isFollowed: false }
  }
  for await (const _ of storage.list('', { ...signal, firstPageKeys })) return { kind: 'absent' }
  return unclear
}

async function viewSegment(storage: Storage, name: string, options: ViewOptions): Promise<ArchiveView> {
  const signal = options.signal ? { signal: options.signal } : {}
  const listing = { ...signal, startAfter: keyBeforePredecessor(name, options.segmentSize), firstPageKeys }
  const [timeline, preferred] = [name.slice(0, 8), options.extension ?? 'zst']
  let form: StoredName | undefined
  let isAnything = false
  let isUnreadable = false
  let newerKeys = 0
  const gaps: GapRange[] = []
  // Both folders that matter begin so, and so do few others.
  for await (const { key } of storage.list('wal', listing)) {
    isAnything = true
    const file = parseWalKey(key)
    if (file?.name === name) {
      const { extension } = file
      isUnreadable ||= !isReadable(extension)
      if (isReadable(extension) && (!form || extension === preferred)) form = { key, extension }
      if (form?.extension === preferred && !options.wantsFollower) break
      continue
    }
    const isLater = file?.kind === 'segment' && file.name > name && file.name.startsWith(timeline)
    if (form) return { kind: 'there', form, isFollowed: isLater }
    const isTail = file?.name === `${name}.partial` || parseTailKey(key)?.segment === name
    if (isLater || isUnreadable || (isTail && !options.wholeOnly)) return unclear
    if (file && file.name.slice(0, 8) > timeline && ++newerKeys > newerKeysMax) return unclear
    const gap = parseGapKey(key)
    if (gap?.timeline === parseInt(timeline, 16)) gaps.push(gap)
  }
  if (form) return { kind: 'there', form, isFollowed: false }
  return !isAnything || isUnreadable || (await mayBeInGap(storage, name, gaps, options)) ? unclear : { kind: 'absent' }
}

/** True where the segment lies in one of these gaps. The archive's segment size is read only where it matters. */
async function mayBeInGap(
  storage: Storage,
  name: string,
  gaps: readonly GapRange[],
  { segmentSize, signal }: ViewOptions,
): Promise<boolean> {
  const isIn = (size: number) => {
    const id = parseSegmentName(name, size)
    return id !== undefined && gaps.some((gap) => isInGap(gap, id, size))
  }
  if (segmentSize !== undefined) return isIn(segmentSize)
  const sizes: number[] = []
  for (let size = segmentSizeMin; size <= segmentSizeMax; size *= 2) sizes.push(size)
  if (!sizes.some(isIn)) return false
  const size = (await readSystem(storage, signal ? { signal } : {}))?.segmentSize
  return size === undefined || isIn(size)
}

/**
 * A key between every form of the segment's predecessor and the one before that, or the beginning of its timeline.
 * Where the size of segments is not known, it is taken for 16 MB: else the predecessor is not listed, which is no harm.
 */
function keyBeforePredecessor(name: string, segmentSize = usualSegmentSize): string {
  const [timeline, high, low] = [name.slice(0, 8), name.slice(8, 16), parseInt(name.slice(16), 16)]
  const hex8 = (value: number) => value.toString(16).toUpperCase().padStart(8, '0')
  // '/' sorts after '.', and before the digits.
  if (low >= 2) return `${walFolder}${timeline}${high}${hex8(low - 2)}/`
  if (low === 1) return `${walFolder}${timeline}${high}/`
  const id = parseSegmentName(name, segmentSize)
  if (!id || id.segno < 2n) return `${walFolder}${timeline}/`
  return `${walFolder}${segmentName(id.timeline, id.segno - 2n, segmentSize)}/`
}
