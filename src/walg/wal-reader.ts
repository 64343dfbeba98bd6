/** Reads WAL files of an archive, whoever wrote them and in whatever codec. */
import { codecOfExtension, extensions } from '../compression/codecs.ts'
import { hasCode } from '../primitives/errors.ts'
import { parseSegmentName, type SegmentId, segmentName, type WalFileKind } from '../postgres/wal-file.ts'
import type { ObjectInfo, Storage, StorageCallOptions } from '../storage/storage.ts'
import { decoded } from './decoded.ts'
import { parseWalKey, walFolder, walKey } from './names.ts'

/** A WAL file that was found. */
export interface OpenedWalFile {
  readonly key: string
  /** Extension that it is stored under: a hint for the next one. */
  readonly extension: string
  /** Its decoded bytes; throws WALRX_OBJECT_DAMAGED or what the storage says while it is read. */
  readonly body: AsyncIterable<Uint8Array>
}

/** One object of `wal_005`. */
export interface WalObject extends ObjectInfo {
  readonly name: string
  readonly extension: string
  readonly kind: WalFileKind
}

/** A whole segment in the archive. */
export interface ListedSegment extends SegmentId {
  readonly name: string
  readonly extension: string
}

/** See the file's header. */
export class WalReader {
  protected readonly storage: Storage

  constructor(storage: Storage) {
    this.storage = storage
  }

  /** The prefix as an operator writes it. */
  get location(): string {
    return this.storage.location
  }

  /**
   * Opens a WAL file under whatever form it is stored. One request where it is stored under the preferred extension.
   * @param preferred the extension to ask for first, without the dot; default zst
   * @returns undefined when the storage positively lacks every form
   * @throws WALRX_CODEC_UNSUPPORTED for one that walrx cannot read, and what the storage says
   */
  async openWalFile(
    name: string,
    preferred: string = extensions.zstd,
    options?: StorageCallOptions,
  ): Promise<OpenedWalFile | undefined> {
    const first = walKey(name, preferred)
    const direct = await this.#getIfThere(first, options)
    if (direct) return this.#opened(first, preferred, direct)
    for (const { key, extension } of await this.find(name, options)) {
      const codec = codecOfExtension(extension, key)
      const body = await this.#getIfThere(key, options)
      if (body) return { key, extension, body: decoded(body, codec, key) }
    }
    return undefined
  }

  #opened(key: string, extension: string, body: AsyncIterable<Uint8Array>): OpenedWalFile {
    return { key, extension, body: decoded(body, codecOfExtension(extension, key), key) }
  }

  async #getIfThere(key: string, options?: StorageCallOptions): Promise<AsyncIterable<Uint8Array> | undefined> {
    try {
      return await this.storage.get(key, options)
    } catch (error) {
      if (hasCode(error, 'WALRX_OBJECT_NOT_FOUND')) return undefined
      throw error
    }
  }

  /** Every object under which this WAL file is stored: one listing. */
  async find(name: string, options?: StorageCallOptions): Promise<WalObject[]> {
    const found: WalObject[] = []
    for await (const info of this.storage.list(walFolder + name, options)) {
      const parsed = parseWalKey(info.key)
      if (parsed?.name === name) found.push({ ...info, ...parsed })
    }
    return found
  }

  /** True when the archive holds this WAL file in any form. */
  async has(name: string, options?: StorageCallOptions): Promise<boolean> {
    return (await this.find(name, options)).length > 0
  }

  /**
   * True when the archive holds a whole segment of the same timeline that comes after this one: then its absence is a
   * hole, not the end.
   */
  async hasLaterSegment(name: string, options?: StorageCallOptions): Promise<boolean> {
    // '/' sorts after '.', and so after every form of the name itself.
    const startAfter = `${walFolder}${name}/`
    for await (const info of this.storage.list(walFolder + name.slice(0, 8), { ...options, startAfter })) {
      if (parseWalKey(info.key)?.kind === 'segment') return true
    }
    return false
  }

  /** Whole segments of a timeline in WAL order, from segment number `from` on, each once even if stored twice. */
  async *segments(
    timeline: number,
    from: bigint,
    segmentSize: number,
    options?: StorageCallOptions,
  ): AsyncGenerator<ListedSegment, undefined> {
    const first = segmentName(timeline, from, segmentSize)
    // Keys of `first` itself begin with its name, so they sort after the bare name without its last digit's successor.
    const startAfter = from === 0n ? undefined : `${walFolder}${segmentName(timeline, from - 1n, segmentSize)}/`
    let previous = ''
    const prefix = walFolder + first.slice(0, 8)
    for await (const info of this.storage.list(
      prefix,
      startAfter === undefined ? options : { ...options, startAfter },
    )) {
      const parsed = parseWalKey(info.key)
      if (parsed?.kind !== 'segment' || parsed.name === previous || parsed.name < first) continue
      const id = parseSegmentName(parsed.name, segmentSize)
      if (!id) continue
      previous = parsed.name
      yield { ...id, name: parsed.name, extension: parsed.extension }
    }
  }

  /** Every WAL file of the archive in byte order of its key; with `startAfter` those behind that key. */
  async *walObjects(options?: StorageCallOptions, startAfter?: string): AsyncGenerator<WalObject, undefined> {
    const listOptions = startAfter === undefined ? options : { ...options, startAfter }
    for await (const info of this.storage.list(walFolder, listOptions)) {
      const parsed = parseWalKey(info.key)
      if (parsed) yield { ...info, ...parsed }
    }
  }
}
