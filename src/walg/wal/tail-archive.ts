/**
 * Writes chunks of unfinished segments, and clears them away when they are not needed any more. A chunk is removed only
 * when its bytes are durable elsewhere: in a larger chunk, in the whole segment, or in a `.partial`.
 */
import { hasCode, isOfKey, WalrxError } from '../../primitives/errors.ts'
import { parseSegmentName, type SegmentId } from '../../postgres/wal/wal-file.ts'
import type { Storage, StorageCallOptions } from '../../storage/storage.ts'
import { tailKey, type TailRange } from '../names.ts'
import { compareStreams } from '../stored/compare-streams.ts'
import { openObject } from '../stored/stored-reader.ts'
import type { StoredWriter } from '../stored/stored-writer.ts'
import { areChunksOf, refuseOtherPartials } from './tail-comparison.ts'
import { coveredLength, DamagedChunk, listTails, readChunks, type SegmentTail, tailOf } from './tail-reader.ts'
import { setObjectAside } from './set-aside.ts'
import type { WalReader } from './wal-reader.ts'

/** What the archive has of a segment that was being received before. */
export interface FoundTail {
  /** Bytes from the segment's first on that are in the archive. */
  readonly length: number
  /** Keys of all its chunks. */
  readonly keys: readonly string[]
}

/** A chunk that could not be read, and was moved out of the way. */
export interface SetAsideChunk {
  readonly key: string
  /** Where its bytes are now. */
  readonly aside: string
  /** What is wrong with it. */
  readonly error: WalrxError
}

/** Options of calls that read chunks and go on without damaged ones. */
export interface TailReadOptions extends StorageCallOptions {
  /** Called with every chunk that was set aside. */
  readonly onDamaged?: (chunk: SetAsideChunk) => void
}

/** How often chunks may vanish between being listed and being read. */
const attemptsMax = 5

/** What became of the tails of an archive; see {@link TailArchive.clear}. */
export interface ClearedTails {
  /** Chunks that were removed. */
  readonly removed: number
  /** Segments with chunks that contradict the whole segment or the partial segment: they stay. */
  readonly contradicting: readonly string[]
  /** Segments that stay, because the keys don't open the whole segment or a chunk. */
  readonly locked: readonly string[]
}

/** See the file's header. */
export class TailArchive {
  readonly #storage: Storage
  readonly #reader: WalReader
  readonly #writer: StoredWriter

  constructor(reader: WalReader, writer: StoredWriter) {
    this.#storage = reader.storage
    this.#reader = reader
    this.#writer = writer
  }

  /** The key under which {@link TailArchive.put} stores a chunk. */
  key(segment: string, range: TailRange): string {
    return tailKey(segment, range, this.#writer.extension)
  }

  /**
   * Stores an encoded chunk.
   * @throws WALRX_ARCHIVE_CONFLICT when other bytes are there under that name, or none that can be read; what the storage
   * says
   */
  async put(segment: string, range: TailRange, encoded: Uint8Array, options?: StorageCallOptions): Promise<void> {
    const key = this.key(segment, range)
    if ((await this.#writer.create(key, encoded, options)) === 'created') return
    const theirs = await openObject(this.#storage, { key, extension: this.#writer.extension }, options)
    const at = `${this.#storage.location}/${key}`
    const compared = await compareStreams(this.#writer.decodeOwn(key, encoded), theirs.body).catch((error: unknown) => {
      if (!hasCode(error, 'WALRX_OBJECT_DAMAGED')) throw error
      throw new WalrxError('WALRX_ARCHIVE_CONFLICT', `${at} is there but cannot be compared: ${error.message}`, {
        hint: 'it is damaged: see walrx wal-finalize --set-aside',
        cause: error,
      })
    })
    if (compared.equal) return
    throw new WalrxError(
      'WALRX_ARCHIVE_CONFLICT',
      `${at} holds different bytes from byte ${range.from + compared.offset} of the segment on`,
      { hint: 'another cluster or a restored copy writes to this archive: give each its own prefix' },
    )
  }

  /** Removes chunks. */
  async delete(keys: readonly string[], options?: StorageCallOptions): Promise<void> {
    await this.#storage.delete(keys, options)
  }

  /**
   * Reads what the chunks cover of a segment, for a receiver that is about to receive it again. A damaged chunk would
   * stop it for ever: it is set aside, and what remains counts. One of another key stays: it may be sound.
   * @param buffer a whole segment's
   * @throws WALRX_ARCHIVE_CONFLICT when they disagree; WALRX_KEY_WRONG and WALRX_KEY_MISSING; what the storage says
   */
  async read(segment: string, buffer: Buffer, options: TailReadOptions = {}): Promise<FoundTail> {
    for (let attempt = 1; ;) {
      const tail = await tailOf(this.#storage, segment, options)
      try {
        const length = await readChunks(this.#storage, tail, buffer, options)
        return { length, keys: tail.chunks.map(({ key }) => key) }
      } catch (error) {
        if (error instanceof DamagedChunk) await this.#setAside(error, options)
        else if (!hasCode(error, 'WALRX_OBJECT_NOT_FOUND') || attempt++ >= attemptsMax) throw error
      }
    }
  }

  async #setAside(error: DamagedChunk, options: TailReadOptions): Promise<void> {
    const { key } = error
    // First: without a listener its arguments are never made.
    const aside = await setObjectAside(this.#storage, key, options)
    options.onDamaged?.({ key, aside, error })
  }

  /** Segments of a timeline that have chunks or a partial segment, in any order. */
  async *segmentsWithTail(
    timeline: number,
    segmentSize: number,
    options?: StorageCallOptions,
  ): AsyncGenerator<SegmentId, undefined> {
    for await (const { segment } of listTails(this.#storage, timeline, options)) {
      const id = parseSegmentName(segment, segmentSize)
      if (id) yield id
    }
    for await (const { name } of this.#reader.partials(timeline, options)) {
      const id = parseSegmentName(name.slice(0, 24), segmentSize)
      if (id) yield id
    }
  }

  /**
   * Segments that are there as chunks, from the first byte to the last, and not as a whole: a receiver was killed
   * before it had put them. A damaged chunk is set aside.
   * @param buffer has room for a segment; it holds the one that was answered last until the next is asked for, and may be
   * changed until then
   * @param segmentSize in bytes
   * @throws WALRX_ARCHIVE_CONFLICT when chunks disagree, or a partial contradicts them; what the storage says
   */
  async *complete(
    buffer: Buffer,
    segmentSize: number,
    options: TailReadOptions = {},
  ): AsyncGenerator<string, undefined> {
    const bytes = buffer.subarray(0, segmentSize)
    for await (const { chunks, segment } of listTails(this.#storage, undefined, options)) {
      if (coveredLength(chunks) !== segmentSize || (await this.#reader.has(segment, options))) continue
      const { length } = await this.read(segment, bytes, options)
      if (length !== segmentSize) continue
      await refuseOtherPartials(this.#reader, segment, bytes, options)
      // A whole segment is written before its chunks go.
      if (!(await this.#reader.has(segment, options))) yield segment
    }
  }

  /**
   * Removes chunks of segments that are archived as a whole, after comparing them. A partial that has the same is no
   * reason to: it may be replaced, without a condition, by a receiver that looked at it before it was this long.
   * @throws what the storage says
   */
  async clear(options?: StorageCallOptions): Promise<ClearedTails> {
    let removed = 0
    const contradicting: string[] = []
    const locked: string[] = []
    for await (const tail of listTails(this.#storage, undefined, options)) {
      const isHeld = await this.#isHeld(tail, options)
      if (isHeld === 'contradicted') contradicting.push(tail.segment)
      if (isHeld === 'locked') locked.push(tail.segment)
      if (isHeld !== 'yes') continue
      await this.delete(
        tail.chunks.map(({ key }) => key),
        options,
      )
      removed += tail.chunks.length
    }
    return { removed, contradicting, locked }
  }

  /** Looks whether the whole segment has what the chunks have. */
  async #isHeld(tail: SegmentTail, options?: StorageCallOptions): Promise<'yes' | 'no' | 'contradicted' | 'locked'> {
    const file = await this.#reader.openWalFile(tail.segment, this.#writer.extension, options)
    if (!file) return 'no'
    try {
      return (await areChunksOf(this.#storage, file.body, tail, options)) ? 'yes' : 'contradicted'
    } catch (error) {
      if (hasCode(error, 'WALRX_OBJECT_NOT_FOUND')) return 'no'
      if (isOfKey(error)) return 'locked'
      if (!hasCode(error, 'WALRX_OBJECT_DAMAGED')) throw error
      return 'contradicted'
    }
  }
}
