/**
 * Writes WAL files into an archive. A name is written once: what is there already is compared by its decoded bytes,
 * over every form of the name, and other bytes under the same name are an error that nobody may overlook.
 */
import { createHash } from 'node:crypto'
import type { WriteCodec } from '../../compression/codec.ts'
import { hasCode, isOfKey, WalrxError } from '../../primitives/errors.ts'
import { partialName, type SegmentId } from '../../postgres/wal/wal-file.ts'
import type { Storage, StorageCallOptions } from '../../storage/storage.ts'
import { asideFolder, divergedFolder, type TailRange, walFolder, walKey } from '../names.ts'
import { compareStreams, firstDifference } from '../stored/compare-streams.ts'
import { keepStored } from '../stored/raw-copy.ts'
import { openObject } from '../stored/stored-reader.ts'
import { StoredWriter } from '../stored/stored-writer.ts'
import { type GapRecord, writeGap } from './gap-records.ts'
import { OtherForms } from './other-forms.ts'
import { type ClearedTails, type FoundTail, TailArchive, type TailReadOptions } from './tail-archive.ts'
import { trimmedLength } from './zero-padding.ts'
import { type WalObject, WalReader } from './wal-reader.ts'

/** What became of a partial. */
export type PartialOutcome =
  'created' | 'same' | 'replaced a shorter one' | 'kept a longer one' | 'diverged, kept beside'

/** Who wrote a file: a call of ours, or perhaps one of ours, after a put that may or may not have been carried out. */
type Owner = 'ours' | 'perhaps ours'

/** How often an object may vanish between being found and being read before that is taken for a fault of the storage. */
const attemptsMax = 3

/** See the file's header. */
export class WalArchive extends WalReader {
  readonly #writer: StoredWriter
  /** Segments that are there under another extension than ours. */
  readonly #elsewhere = new Set<string>()
  /** Files of calls that failed after they had written them, or may have: no caller has had a success for them. */
  readonly #unconfirmed = new Map<string, Owner>()
  readonly #tails: TailArchive
  readonly #otherForms: OtherForms

  constructor(storage: Storage, codec: WriteCodec) {
    super(storage)
    this.#writer = new StoredWriter(storage, codec)
    this.#tails = new TailArchive(this, this.#writer)
    this.#otherForms = new OtherForms(storage)
  }

  /** Compresses `buffer[0, length)` in place; see SegmentEncoder. */
  encodeInPlace(buffer: Buffer, length: number): Promise<number> {
    return this.#writer.encodeInPlace(buffer, length)
  }

  /** Encodes a small file, without touching the argument. */
  encodeCopy(content: Uint8Array): Promise<Buffer> {
    return this.#writer.encodeCopy(content)
  }

  /** See {@link WalReader.isWhole}; the form that this archive is written in is asked for first. */
  override isWhole(segment: string, segmentSize: number, options?: StorageCallOptions): Promise<boolean> {
    return super.isWhole(segment, segmentSize, options, this.#writer.extension)
  }

  /** Key under which this archive writes a WAL file. */
  keyOf(name: string): string {
    return walKey(name, this.#writer.extension)
  }

  /** See {@link TailArchive.key}. */
  tailKey(segment: string, range: TailRange): string {
    return this.#tails.key(segment, range)
  }

  /** See {@link TailArchive.put}. */
  putTailChunk(segment: string, range: TailRange, encoded: Uint8Array, options?: StorageCallOptions): Promise<void> {
    return this.#tails.put(segment, range, encoded, options)
  }

  /** See {@link TailArchive.delete}. */
  deleteTailChunks(keys: readonly string[], options?: StorageCallOptions): Promise<void> {
    return this.#tails.delete(keys, options)
  }

  /** See {@link TailArchive.read}. */
  readTail(segment: string, buffer: Buffer, options?: TailReadOptions): Promise<FoundTail> {
    return this.#tails.read(segment, buffer, options)
  }

  /** See {@link TailArchive.segmentsWithTail}. */
  segmentsWithTail(
    timeline: number,
    segmentSize: number,
    options?: StorageCallOptions,
  ): AsyncGenerator<SegmentId, undefined> {
    return this.#tails.segmentsWithTail(timeline, segmentSize, options)
  }

  /** See {@link TailArchive.complete}. */
  completeTails(buffer: Buffer, segmentSize: number, options?: TailReadOptions): AsyncGenerator<string, undefined> {
    return this.#tails.complete(buffer, segmentSize, options)
  }

  /** See {@link TailArchive.clear}. */
  clearTails(options?: StorageCallOptions): Promise<ClearedTails> {
    return this.#tails.clear(options)
  }

  /**
   * Binds the archive to a cluster.
   * @throws WALRX_OTHER_CLUSTER when it belongs to another, or holds segments of another size
   */
  async bindSystem(systemId: bigint, segmentSize: number, options?: StorageCallOptions): Promise<void> {
    // Loaded here: an archive_command mostly finds its archive bound.
    const { bindSystem } = await import('./system-binding.ts')
    await bindSystem(this.storage, this, { systemId, segmentSize }, options)
  }

  /** See {@link writeGap}. */
  recordGap(gap: GapRecord, options?: StorageCallOptions): Promise<'created' | 'same'> {
    return writeGap(this.storage, gap, options)
  }

  /**
   * Learns which segments, from this one on, are there under another extension: one listing, before a stream begins,
   * instead of one for each segment.
   */
  async lookAhead(segment: string, options?: StorageCallOptions): Promise<void> {
    // Before every form of the name, the bare one included: at most the fifteen names before it are listed in vain.
    const startAfter = walFolder + segment.slice(0, -1)
    for await (const { kind, name, extension } of this.walObjects(options, startAfter)) {
      if (kind === 'segment' && name >= segment && extension !== this.#writer.extension) this.#elsewhere.add(name)
    }
  }

  /**
   * Archives a WAL file that is encoded already. Other extensions are looked at before, as far as {@link lookAhead} found
   * some, and afterwards: another receiver may have written its own form meanwhile.
   * @returns `same` when it was there with the same decoded bytes
   * @throws WALRX_ARCHIVE_CONFLICT when other bytes are there, under whatever extension; what was written is set aside then
   */
  async archive(name: string, encoded: Uint8Array, options?: StorageCallOptions): Promise<'created' | 'same'> {
    const key = walKey(name, this.#writer.extension)
    if (this.#elsewhere.has(name) && (await this.isSameUnderAnotherName(name, encoded, options))) return 'same'
    for (let attempt = 1; attempt <= attemptsMax; attempt++) {
      const outcome = await this.#create(name, key, encoded, options)
      if (outcome === 'exists' && !(await this.isSame(key, this.#writer.extension, encoded, options))) continue
      await this.#compareOtherForms(name, encoded, options)
      this.#unconfirmed.delete(name)
      return outcome === 'created' ? 'created' : 'same'
    }
    const detail = `${this.storage.location}/${key} is there when it is written and gone when it is read`
    throw new WalrxError('WALRX_STORAGE_UNAVAILABLE', detail)
  }

  /**
   * Writes a file under our own extension, and notes who wrote it. A put that fails may have been carried out, and an
   * earlier call may have failed after its own: what is there then may be ours, and no caller has had a success for it.
   */
  async #create(
    name: string,
    key: string,
    encoded: Uint8Array,
    options?: StorageCallOptions,
  ): Promise<'created' | 'exists'> {
    const before = this.#unconfirmed.get(name)
    this.#unconfirmed.set(name, before ?? 'perhaps ours')
    const outcome = await this.#writer.create(key, encoded, options)
    if (outcome === 'created') this.#unconfirmed.set(name, 'ours')
    else if (!before) this.#unconfirmed.delete(name)
    return outcome
  }

  /**
   * Compares what has just been written, or found, with the forms that others have written under other extensions. Ours
   * gives way while no caller has had a success for it.
   */
  async #compareOtherForms(name: string, encoded: Uint8Array, options?: StorageCallOptions): Promise<void> {
    const { extension } = this.#writer
    for (const other of await this.#otherForms.of(name, extension, options)) {
      try {
        await this.isSame(other.key, other.extension, encoded, options)
      } catch (error) {
        // Two forms that nobody can compare must not stay either.
        if (!hasCode(error, 'WALRX_ARCHIVE_CONFLICT') && !isOfKey(error)) throw error
        const owner = this.#unconfirmed.get(name)
        const isOurs =
          owner === 'ours' || (owner === 'perhaps ours' && (await this.#isYounger(name, other.key, options)))
        if (isOurs) await this.#withdraw(name, encoded, options)
        this.#unconfirmed.delete(name)
        throw error
      }
    }
  }

  /**
   * True when our form was written after the other one, by the clock of the storage. Then no call can have succeeded with
   * ours: its writer would have found the other one. An older form may be another receiver's, and that call succeeded.
   */
  async #isYounger(name: string, other: string, options?: StorageCallOptions): Promise<boolean> {
    const ours = await this.storage.head(walKey(name, this.#writer.extension), options)
    const theirs = await this.storage.head(other, options)
    return ours !== undefined && theirs !== undefined && ours.lastModifiedMs > theirs.lastModifiedMs
  }

  /** Sets aside what this call has written: two forms of one name with different bytes must not stay. */
  async #withdraw(name: string, encoded: Uint8Array, options?: StorageCallOptions): Promise<void> {
    const key = walKey(name, this.#writer.extension)
    // Of the content: encrypted again, it has other bytes.
    const hash = createHash('sha256')
    for await (const piece of this.#writer.decodeOwn(key, encoded)) hash.update(piece)
    const aside = `${asideFolder}${key}.${hash.digest('hex').slice(0, 16)}`
    await keepStored(this.storage, aside, encoded, options)
    await this.storage.delete([key], options)
  }

  /**
   * Compares an encoded WAL file with every form of it that the archive holds under another extension.
   * @returns true when there was one, and it is the same
   * @throws WALRX_ARCHIVE_CONFLICT when other bytes are there
   */
  async isSameUnderAnotherName(name: string, encoded: Uint8Array, options?: StorageCallOptions): Promise<boolean> {
    const ours = walKey(name, this.#writer.extension)
    let isFound = false
    for (const { key, extension } of await this.find(name, options)) {
      if (key !== ours && (await this.isSame(key, extension, encoded, options))) isFound = true
    }
    return isFound
  }

  /** Archives a timeline history file, `content` verbatim. Throws WALRX_ARCHIVE_CONFLICT when there is another one. */
  async archiveHistory(
    fileName: string,
    content: Uint8Array,
    options?: StorageCallOptions,
  ): Promise<'created' | 'same'> {
    const encoded = await this.#writer.encodeCopy(content)
    // WAL-RUS stores histories bare: the same content under another extension will do.
    if (await this.isSameUnderAnotherName(fileName, encoded, options)) return 'same'
    return this.archive(fileName, encoded, options)
  }

  /**
   * Archives the unfinished last segment of a timeline as `<segment>.partial`, padded with zeros as WAL-G does. A longer
   * one with the same beginning replaces a shorter one; one that contradicts goes under `walrx_005/partial/`, named
   * after its content.
   * @param raw a whole segment's buffer; bytes from `length` on are overwritten with zeros
   */
  async archivePartial(
    segment: string,
    raw: Buffer,
    length: number,
    options?: StorageCallOptions,
  ): Promise<PartialOutcome> {
    raw.fill(0, length)
    const name = partialName(segment)
    const key = walKey(name, this.#writer.extension)
    const encoded = await this.#writer.encodeCopy(raw)
    const existing = await this.find(name, options)
    if (existing.length === 0 && (await this.#writer.create(key, encoded, options)) === 'created') return 'created'
    for (const found of existing.length > 0 ? existing : await this.find(name, options)) {
      const relation = await this.#relate(found, raw, options)
      if (relation === 'other') {
        await this.#keepBeside(name, raw, encoded, options)
        return 'diverged, kept beside'
      }
      if (relation === 'same') return 'same'
      if (relation === 'longer') return 'kept a longer one'
    }
    await this.#writer.replace(key, encoded, options)
    return 'replaced a shorter one'
  }

  async #keepBeside(name: string, raw: Buffer, encoded: Buffer, options?: StorageCallOptions): Promise<void> {
    const hash = createHash('sha256').update(raw).digest('hex').slice(0, 16)
    const { extension } = this.#writer
    const key = `${divergedFolder}${name}.${hash}${extension === '' ? '' : `.${extension}`}`
    await this.#writer.create(key, encoded, options)
  }

  /**
   * How the stored partial relates to ours, both without the zeros at their ends. One that cannot be read is `other`:
   * it may not be lost, and it may not stop the stream.
   */
  async #relate(
    { key, extension }: WalObject,
    raw: Buffer,
    options?: StorageCallOptions,
  ): Promise<'same' | 'shorter' | 'longer' | 'other'> {
    const ours = raw.subarray(0, trimmedLength(raw))
    let offset = 0
    let theirLength = 0
    let differsAt = Infinity
    try {
      const { body } = await openObject(this.storage, { key, extension }, options)
      for await (const chunk of body) {
        const theirs = Buffer.from(chunk.buffer, chunk.byteOffset, chunk.length)
        const trimmed = trimmedLength(theirs)
        if (trimmed > 0) theirLength = offset + trimmed
        const expected = ours.subarray(offset, offset + theirs.length)
        const equal = firstDifference(theirs, expected, expected.length)
        if (equal < expected.length) differsAt = Math.min(differsAt, offset + equal)
        offset += theirs.length
      }
    } catch (error) {
      if (hasCode(error, 'WALRX_OBJECT_NOT_FOUND')) return 'shorter'
      if (!isUnreadable(error) && !isOfKey(error)) throw error
      return 'other'
    }
    if (differsAt < theirLength) return 'other'
    if (theirLength === ours.length) return 'same'
    return theirLength < ours.length ? 'shorter' : 'longer'
  }

  /**
   * Compares an object with ours by decoded bytes.
   * @returns false when it is not there any more
   * @throws WALRX_ARCHIVE_CONFLICT when its bytes are others, or cannot be decoded; WALRX_KEY_WRONG and WALRX_KEY_MISSING for
   * one that the keys don't open; what the storage throws as it is
   */
  async isSame(key: string, extension: string, encoded: Uint8Array, options?: StorageCallOptions): Promise<boolean> {
    const at = `${this.storage.location}/${key}`
    const hint = 'another cluster or a restored copy writes to this archive: give each its own prefix'
    try {
      const { body } = await openObject(this.storage, { key, extension }, options)
      const ours = this.#writer.decodeOwn(key, encoded)
      const { equal, offset, leftBytes, rightBytes } = await compareStreams(ours, body)
      if (equal) return true
      const lengths = `${rightBytes} bytes there, ${leftBytes} bytes here`
      throw new WalrxError(
        'WALRX_ARCHIVE_CONFLICT',
        `${at} holds different bytes from byte ${offset} on (${lengths})`,
        {
          hint,
        },
      )
    } catch (error) {
      if (hasCode(error, 'WALRX_OBJECT_NOT_FOUND')) return false
      if (!isUnreadable(error)) throw error
      throw new WalrxError('WALRX_ARCHIVE_CONFLICT', `${at} is there but cannot be compared: ${error.message}`, {
        hint: 'it is damaged, or in a codec that walrx cannot read: move it away, or use a new prefix',
        cause: error,
      })
    }
  }
}

/** True for an object that does not decode, whatever the keys are. */
function isUnreadable(error: unknown): error is WalrxError {
  return hasCode(error, 'WALRX_OBJECT_DAMAGED') || hasCode(error, 'WALRX_CODEC_UNSUPPORTED')
}
