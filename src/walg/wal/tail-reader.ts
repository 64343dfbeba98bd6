/**
 * Tails: what the archive has of segments that are not whole yet, as chunks under `walrx_005/tail/`, where neither WAL-G
 * nor WAL-RUS looks. A tail is worth as much as its chunks cover from the segment's first byte on without a hole.
 * Chunks may overlap (a receiver that was restarted begins again, and small chunks are replaced by larger ones), and
 * then must agree.
 */
import { hasCode, isOfKey, WalrxError } from '../../primitives/errors.ts'
import { partialName } from '../../postgres/wal/wal-file.ts'
import type { ObjectInfo, Storage, StorageCallOptions } from '../../storage/storage.ts'
import { parseTailKey, tailFolder, tailFolderOf, type TailObjectName } from '../names.ts'
import { openObject, type ReadableStorage, readWhole } from '../stored/stored-reader.ts'
import { trimmedLength } from './zero-padding.ts'
import type { WalReader } from './wal-reader.ts'

/** A chunk in the archive. */
export interface TailChunk extends TailObjectName, ObjectInfo {}

/** The chunks of one segment. */
export interface SegmentTail {
  /** Name of the segment. */
  readonly segment: string
  /** In the order in which they begin, those that begin together shortest first. */
  readonly chunks: readonly TailChunk[]
}

/** How often chunks may vanish between being listed and being read before that is taken for a fault of the storage. */
const attemptsMax = 5

/** How many bytes the chunks cover from the segment's first on. They are in the order of {@link SegmentTail}. */
export function coveredLength(chunks: readonly { readonly from: number; readonly to: number }[]): number {
  let covered = 0
  for (const { from, to } of chunks) {
    if (from > covered) break
    covered = Math.max(covered, to)
  }
  return covered
}

/** Chunks of all segments of a timeline, or of all timelines, in the order of names. One listing. */
export async function* listTails(
  storage: Pick<Storage, 'list'>,
  timeline: number | undefined,
  options?: StorageCallOptions,
): AsyncGenerator<SegmentTail, undefined> {
  const prefix =
    timeline === undefined ? tailFolder : `${tailFolder}${timeline.toString(16).toUpperCase().padStart(8, '0')}/`
  yield* tailsBelow(storage, prefix, options)
}

async function* tailsBelow(
  storage: Pick<Storage, 'list'>,
  prefix: string,
  options?: StorageCallOptions,
): AsyncGenerator<SegmentTail, undefined> {
  let chunks: TailChunk[] = []
  for await (const info of storage.list(prefix, options)) {
    const parsed = parseTailKey(info.key)
    if (!parsed) continue
    const first = chunks[0]
    if (first && first.segment !== parsed.segment) {
      yield { segment: first.segment, chunks }
      chunks = []
    }
    chunks.push({ ...info, ...parsed })
  }
  if (chunks[0]) yield { segment: chunks[0].segment, chunks }
}

/** The chunks of one segment. */
export async function tailOf(
  storage: Pick<Storage, 'list'>,
  segment: string,
  options?: StorageCallOptions,
): Promise<SegmentTail> {
  for await (const tail of tailsBelow(storage, tailFolderOf(segment), options)) return tail
  return { segment, chunks: [] }
}

/** A chunk that does not decode to what its name says. */
export class DamagedChunk extends WalrxError {
  /** Key of the chunk. */
  readonly key: string

  constructor(key: string, message: string, cause?: unknown) {
    super('WALRX_OBJECT_DAMAGED', message, { cause })
    this.name = 'DamagedChunk'
    this.key = key
  }
}

/**
 * Chunks that are read at once, and how many bytes of them are in memory: each costs a round trip. A receiver reads
 * them before a run begins, when nothing is compressed: the plan of its memory has more bytes than these for encoders.
 * A larger chunk goes straight to its place.
 */
const readAheadMax = 16
const readAheadBytesMax = 8 * 1024 * 1024

/**
 * Reads the covered prefix of a segment into `buffer`, several chunks at a time.
 * @param buffer as long as the covered prefix at least
 * @returns its length in bytes
 * @throws DamagedChunk for one that does not decode to as many bytes as its name says; WALRX_ARCHIVE_CONFLICT for two
 * that disagree; WALRX_OBJECT_NOT_FOUND for one that has gone; what the storage says
 */
export async function readChunks(
  storage: ReadableStorage,
  { chunks, segment }: SegmentTail,
  buffer: Buffer,
  options?: StorageCallOptions,
): Promise<number> {
  const length = coveredLength(chunks)
  const wanted = chunks.filter(({ from }) => from <= length)
  let covered = 0
  for await (const { chunk, content } of chunksInOrder(storage, wanted, buffer.length, options)) {
    const { from, key, to } = chunk
    let at = from
    for await (const bytes of content) {
      const known = Math.min(bytes.length, Math.max(0, covered - at))
      if (known > 0 && buffer.compare(bytes, 0, known, at, at + known) !== 0) {
        throw new WalrxError(
          'WALRX_ARCHIVE_CONFLICT',
          `${storage.location}/${key} holds different bytes of ${segment} than the chunks before it, between bytes ${at} and ${at + known}`,
          { hint: 'two receivers of different servers write to this archive, or a server was restored: compare them' },
        )
      }
      buffer.set(bytes.subarray(known), at + known)
      at += bytes.length
    }
    covered = Math.max(covered, to)
  }
  return covered
}

/** The bytes of each chunk, in the order of the chunks; the next ones are read meanwhile, as far as they are small. */
async function* chunksInOrder(
  storage: ReadableStorage,
  chunks: readonly TailChunk[],
  lengthMax: number,
  options: StorageCallOptions = {},
): AsyncGenerator<{ chunk: TailChunk; content: Iterable<Uint8Array> | AsyncIterable<Uint8Array> }, undefined> {
  const stop = new AbortController()
  const onAbort = () => stop.abort(options.signal?.reason)
  options.signal?.addEventListener('abort', onAbort, { once: true })
  const reading = new Map<TailChunk, Promise<Buffer>>()
  const waiting = [...chunks]
  let ahead = 0
  try {
    options.signal?.throwIfAborted()
    for (const chunk of chunks) {
      for (let next = waiting[0]; next && reading.size < readAheadMax; next = waiting[0]) {
        const size = next.to - next.from
        if (ahead + size > readAheadBytesMax) break
        waiting.shift()
        ahead += size
        const bytes = readChunk(storage, next, lengthMax, stop.signal)
        bytes.catch(() => {})
        reading.set(next, bytes)
      }
      const bytes = await reading.get(chunk)
      if (bytes) {
        reading.delete(chunk)
        ahead -= chunk.to - chunk.from
        yield { chunk, content: [bytes] }
      } else {
        // Larger than all that may be read ahead: nothing is under way beside it.
        waiting.shift()
        yield { chunk, content: chunkContent(storage, chunk, lengthMax, stop.signal) }
      }
    }
  } finally {
    options.signal?.removeEventListener('abort', onAbort)
    stop.abort()
    await Promise.allSettled(reading.values())
  }
}

/** The bytes of a chunk in memory: as many as its name says. */
async function readChunk(
  storage: ReadableStorage,
  chunk: TailChunk,
  lengthMax: number,
  signal: AbortSignal,
): Promise<Buffer> {
  const bytes = Buffer.allocUnsafe(chunk.to - chunk.from)
  let length = 0
  for await (const piece of chunkContent(storage, chunk, lengthMax, signal)) {
    bytes.set(piece, length)
    length += piece.length
  }
  return bytes
}

/**
 * The bytes of a chunk as they come: as many as its name says, or an error after some of them.
 * @param lengthMax of the segment, in bytes
 * @throws DamagedChunk; WALRX_KEY_WRONG and WALRX_KEY_MISSING for one that the keys don't open; WALRX_OBJECT_NOT_FOUND for one
 * that has gone; what the storage says
 */
export async function* chunkContent(
  storage: ReadableStorage,
  { extension, from, key, segment, to }: TailChunk,
  lengthMax: number,
  signal: AbortSignal | undefined,
): AsyncGenerator<Uint8Array, undefined> {
  const at = `${storage.location}/${key}`
  if (to > lengthMax) throw new DamagedChunk(key, `${at} reaches beyond the end of its segment`)
  const named = to - from
  let length = 0
  try {
    const { body } = await openObject(storage, { key, extension }, signal ? { signal } : {})
    for await (const piece of body) {
      length += piece.length
      if (length > named) throw wrongLength(key, at, named, `${length} or more`)
      yield piece
    }
  } catch (error) {
    if (isOfKey(error)) {
      const aside = `if the chunk is damaged, move it away by: walrx wal-finalize --set-aside ${segment}`
      const hint = error.hint === undefined ? aside : `${error.hint}; ${aside}`
      throw new WalrxError(error.code, error.message, { hint, cause: error })
    }
    if (error instanceof DamagedChunk || !hasCode(error, 'WALRX_OBJECT_DAMAGED')) throw error
    throw new DamagedChunk(key, error.message, error)
  }
  if (length !== named) throw wrongLength(key, at, named, String(length))
}

function wrongLength(key: string, at: string, named: number, found: string): DamagedChunk {
  return new DamagedChunk(key, `${at} holds ${found} bytes, its name says ${named}`)
}

/** A tail in memory. */
export interface AssembledTail {
  readonly segment: string
  /** What the archive has of the segment, from its first byte on. */
  readonly bytes: Buffer
  /** When the newest of its objects was written, in milliseconds since 1970 by the clock of the storage. */
  readonly lastModifiedMs: number
}

/**
 * Assembles what the archive has of a segment that is not there as a whole: its chunks, and its `.partial` where that
 * reaches farther. Chunks that vanish meanwhile have been replaced or became the whole segment: then it looks again.
 * @returns undefined where there is nothing, and where the whole segment has appeared
 * @throws as {@link readChunks}, but WALRX_STORAGE_UNAVAILABLE for what keeps vanishing
 */
export async function assembleTail(
  reader: WalReader,
  segment: string,
  options?: StorageCallOptions,
): Promise<AssembledTail | undefined> {
  const { storage } = reader
  for (let attempt = 1; attempt <= attemptsMax; attempt++) {
    try {
      const tail = await tailOf(storage, segment, options)
      const length = coveredLength(tail.chunks)
      const bytes = Buffer.allocUnsafe(length)
      await readChunks(storage, tail, bytes, options)
      const ofChunks = { segment, bytes, lastModifiedMs: Math.max(0, ...tail.chunks.map((one) => one.lastModifiedMs)) }
      const assembled = await withPartial(reader, ofChunks, options)
      // A whole segment is written before its chunks go.
      if (await reader.has(segment, options)) return undefined
      return assembled.bytes.length > 0 ? assembled : undefined
    } catch (error) {
      if (!hasCode(error, 'WALRX_OBJECT_NOT_FOUND')) throw error
    }
  }
  throw new WalrxError(
    'WALRX_STORAGE_UNAVAILABLE',
    `${storage.location}/${tailFolderOf(segment)}: chunks are there when they are listed and gone when they are read`,
  )
}

/** The longest partial that is longer than the chunks replaces them; one that contradicts them is an error. */
async function withPartial(
  reader: WalReader,
  tail: AssembledTail,
  options?: StorageCallOptions,
): Promise<AssembledTail> {
  let longest = tail
  // Two receivers with different codecs have written one each.
  for (const info of await reader.find(partialName(tail.segment), options)) {
    const file = await reader.openWalFile(partialName(tail.segment), info.extension, options)
    if (!file) continue
    const whole = await readWhole(file)
    const partial = whole.subarray(0, trimmedLength(whole))
    // The zeros of a partial may be padding, those of a chunk are WAL.
    const common = Math.min(partial.length, longest.bytes.length)
    if (partial.compare(longest.bytes, 0, common, 0, common) !== 0) throw otherPartial(reader, file.key, tail.segment)
    if (partial.length <= longest.bytes.length) continue
    longest = { ...tail, bytes: partial, lastModifiedMs: Math.max(info.lastModifiedMs, tail.lastModifiedMs) }
  }
  return longest
}

/** The error of a partial that contradicts the chunks of its segment. */
export function otherPartial(reader: WalReader, key: string, segment: string): WalrxError {
  return new WalrxError(
    'WALRX_ARCHIVE_CONFLICT',
    `${reader.location}/${key} and the chunks under ${tailFolderOf(segment)} hold different WAL`,
    { hint: 'two receivers of different servers write to this archive, or a server was restored: compare them' },
  )
}
