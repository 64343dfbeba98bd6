/**
 * Writes WAL files into an archive. A name is written once: what is there already is compared by its decoded bytes,
 * over every form of the name, and other bytes under the same name are an error that nobody may overlook.
 */
import { createHash } from 'node:crypto'
import type { WriteCodec } from '../compression/codec.ts'
import { codecOfExtension } from '../compression/codecs.ts'
import { hasCode, WalrxError } from '../primitives/errors.ts'
import { partialName } from '../postgres/wal-file.ts'
import type { Storage, StorageCallOptions } from '../storage/storage.ts'
import { compareStreams, decoded, once } from './decoded.ts'
import { divergedFolder, walFolder, walKey } from './names.ts'
import { bindSystem } from './system-binding.ts'
import { WalReader } from './wal-reader.ts'

/** What became of a partial. */
export type PartialOutcome =
  'created' | 'same' | 'replaced a shorter one' | 'kept a longer one' | 'diverged, kept beside'

/** See the file's header. */
export class WalArchive extends WalReader {
  readonly #codec: WriteCodec
  /** Segments that are there under another extension than ours. */
  readonly #elsewhere = new Set<string>()

  constructor(storage: Storage, codec: WriteCodec) {
    super(storage)
    this.#codec = codec
  }

  /** Compresses `buffer[0, length)` in place; see SegmentEncoder. */
  encodeInPlace(buffer: Buffer, length: number): Promise<number> {
    return this.#codec.encodeInPlace(buffer, length)
  }

  /**
   * Binds the archive to a cluster.
   * @throws WALRX_OTHER_CLUSTER when it belongs to another
   */
  bindSystem(systemId: bigint, segmentSize: number, options?: StorageCallOptions): Promise<void> {
    return bindSystem(this.storage, this, systemId, segmentSize, options)
  }

  /**
   * Learns which segments, from this one on, are there under another extension: one listing, before a stream begins,
   * instead of one for each segment.
   */
  async lookAhead(segment: string, options?: StorageCallOptions): Promise<void> {
    for await (const { kind, name, extension } of this.walObjects(options, walFolder + segment)) {
      if (kind === 'segment' && extension !== this.#codec.extension) this.#elsewhere.add(name)
    }
  }

  /**
   * Archives a WAL file that is encoded already. Other extensions are looked at as far as {@link lookAhead} found some.
   * @returns `same` when it was there with the same decoded bytes
   * @throws WALRX_ARCHIVE_CONFLICT when other bytes are there
   */
  async archive(name: string, encoded: Uint8Array, options?: StorageCallOptions): Promise<'created' | 'same'> {
    const key = walKey(name, this.#codec.extension)
    if (this.#elsewhere.has(name) && (await this.isSameUnderAnotherName(name, encoded, options))) return 'same'
    const outcome = await this.storage.putIfAbsent(key, encoded, options)
    if (outcome === 'created') return 'created'
    await this.#compare(key, this.#codec.extension, encoded, options)
    return 'same'
  }

  /**
   * Compares an encoded WAL file with every form of it that the archive holds under another extension.
   * @returns true when there was one, and it is the same
   * @throws WALRX_ARCHIVE_CONFLICT when other bytes are there
   */
  async isSameUnderAnotherName(name: string, encoded: Uint8Array, options?: StorageCallOptions): Promise<boolean> {
    const others = (await this.find(name, options)).filter(({ extension }) => extension !== this.#codec.extension)
    for (const { key, extension } of others) await this.#compare(key, extension, encoded, options)
    return others.length > 0
  }

  /** Archives a timeline history file, `content` verbatim. Throws WALRX_ARCHIVE_CONFLICT when there is another one. */
  async archiveHistory(
    fileName: string,
    content: Uint8Array,
    options?: StorageCallOptions,
  ): Promise<'created' | 'same'> {
    const encoded = await this.#encodeCopy(content)
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
    const key = walKey(name, this.#codec.extension)
    const encoded = await this.#encodeCopy(raw)
    const existing = await this.find(name, options)
    if (existing.length === 0 && (await this.storage.putIfAbsent(key, encoded, options)) === 'created') return 'created'
    for (const found of existing.length > 0 ? existing : await this.find(name, options)) {
      const relation = await this.#relate(found.key, found.extension, raw, options)
      if (relation === 'other') {
        await this.#keepBeside(name, raw, encoded, options)
        return 'diverged, kept beside'
      }
      if (relation === 'same') return 'same'
      if (relation === 'longer') return 'kept a longer one'
    }
    await this.storage.put(key, encoded, options)
    return 'replaced a shorter one'
  }

  async #keepBeside(name: string, raw: Buffer, encoded: Buffer, options?: StorageCallOptions): Promise<void> {
    const hash = createHash('sha256').update(raw).digest('hex').slice(0, 16)
    const { extension } = this.#codec
    const key = `${divergedFolder}${name}.${hash}${extension === '' ? '' : `.${extension}`}`
    await this.storage.putIfAbsent(key, encoded, options)
  }

  /** How the stored partial relates to ours, both without the zeros at their ends. */
  async #relate(
    key: string,
    extension: string,
    raw: Buffer,
    options?: StorageCallOptions,
  ): Promise<'same' | 'shorter' | 'longer' | 'other'> {
    const ours = raw.subarray(0, trimmedLength(raw))
    let theirLength = 0
    let offset = 0
    let differsAt: number | undefined
    try {
      const body = decoded(await this.storage.get(key, options), codecOfExtension(extension, key), key)
      for await (const chunk of body) {
        const piece = Buffer.from(chunk.buffer, chunk.byteOffset, chunk.length)
        const trimmed = trimmedLength(piece)
        if (trimmed > 0) theirLength = offset + trimmed
        const common = Math.min(piece.length, Math.max(0, ours.length - offset))
        if (differsAt === undefined && ours.compare(piece, 0, common, offset, offset + common) !== 0) {
          let at = 0
          while (piece[at] === ours[offset + at]) at++
          differsAt = offset + at
        }
        offset += piece.length
      }
    } catch (error) {
      if (hasCode(error, 'WALRX_OBJECT_DAMAGED') || hasCode(error, 'WALRX_CODEC_UNSUPPORTED')) return 'other'
      throw error
    }
    if (differsAt !== undefined && differsAt < theirLength) return 'other'
    if (theirLength === ours.length) return 'same'
    return theirLength < ours.length ? 'shorter' : 'longer'
  }

  /** Throws WALRX_ARCHIVE_CONFLICT unless the object decodes to the same bytes as `encoded`. */
  async #compare(key: string, extension: string, encoded: Uint8Array, options?: StorageCallOptions): Promise<void> {
    const at = `${this.storage.location}/${key}`
    const hint = 'another cluster or a restored copy writes to this archive: give each its own prefix'
    try {
      const theirs = decoded(await this.storage.get(key, options), codecOfExtension(extension, key), key)
      const ours = decoded(once(encoded), codecOfExtension(this.#codec.extension, key), `our ${key}`)
      const { equal, offset } = await compareStreams(theirs, ours)
      if (equal) return
      throw new WalrxError(
        'WALRX_ARCHIVE_CONFLICT',
        `${at} holds other bytes than the server sent, from byte ${offset} on`,
        { hint },
      )
    } catch (error) {
      if (!hasCode(error, 'WALRX_OBJECT_DAMAGED') && !hasCode(error, 'WALRX_CODEC_UNSUPPORTED')) throw error
      throw new WalrxError('WALRX_ARCHIVE_CONFLICT', `${at} is there but cannot be compared: ${error.message}`, {
        hint,
        cause: error,
      })
    }
  }

  /** Encodes without touching the argument. */
  async #encodeCopy(content: Uint8Array): Promise<Buffer> {
    const encoder = this.#codec.encoder()
    encoder.end(content)
    const chunks: Uint8Array[] = []
    for await (const chunk of encoder) chunks.push(chunk as Uint8Array)
    return Buffer.concat(chunks)
  }
}

const zeros = Buffer.alloc(64 * 1024)

/** Length without the zeros at the end. */
function trimmedLength(bytes: Buffer): number {
  let length = bytes.length
  while (length >= zeros.length && zeros.compare(bytes, length - zeros.length, length) === 0) length -= zeros.length
  while (length > 0 && bytes[length - 1] === 0) length--
  return length
}
