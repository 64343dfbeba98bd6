/** Reads WAL files of an archive, from any writer and in any codec. */
import { extensions } from '../../compression/codecs.ts'
import { hasCode, type WalrxError } from '../../primitives/errors.ts'
import type { Lsn } from '../../postgres/lsn.ts'
import {
  historyName,
  parseHistory,
  parseSegmentName,
  type SegmentId,
  segmentName,
  walFileKind,
  type WalFileKind,
} from '../../postgres/wal/wal-file.ts'
import { listInPages, type ObjectInfo, type Storage, type StorageCallOptions } from '../../storage/storage.ts'
import { parseWalKey, walFolder, walKey } from '../names.ts'
import { walSplits } from '../wal-splits.ts'
import { isReadable, type StoredName } from '../stored/stored-form.ts'
import { type OpenedObject, openObject, readWhole } from '../stored/stored-reader.ts'
import { gapHolding, type GapRecord, listGaps } from './gap-records.ts'
import { readSystem } from './system-marker.ts'

/** A WAL file that was found. Its extension is a hint for the next one. */
export type OpenedWalFile = OpenedObject

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
  /** Bytes as it is stored, in the shortest of its forms. 0 for one that nothing may be read from. */
  readonly size: number
}

/** See the file's header. */
export class WalReader {
  /** Where the archive is. */
  readonly storage: Storage

  constructor(storage: Storage) {
    this.storage = storage
  }

  /** The prefix as an operator writes it. */
  get location(): string {
    return this.storage.location
  }

  /**
   * Opens a WAL file under whatever form it is stored: one request where it is stored under the preferred extension, two
   * where it is nowhere. Histories are looked for by listing first: mostly they are asked for to hear that there is no
   * newer timeline, which is one request then.
   * @param preferred the extension to ask for first, without the dot; default zst
   * @returns undefined when the storage positively lacks every form
   * @throws WALRX_CODEC_UNSUPPORTED when there are only forms that walrx cannot read, and what the storage says
   */
  async openWalFile(
    name: string,
    preferred: string = extensions.zstd,
    options?: StorageCallOptions,
  ): Promise<OpenedWalFile | undefined> {
    if (walFileKind(name) !== 'history') {
      const direct = await this.openForm({ key: walKey(name, preferred), extension: preferred }, options)
      if (direct) return direct
    }
    const found = await this.find(name, options)
    const readable = found.filter(({ extension }) => isReadable(extension))
    for (const { key, extension } of readable.length > 0 ? readable : found) {
      const file = await this.openForm({ key, extension }, options)
      if (file) return file
    }
    return undefined
  }

  /** Opens one form of a WAL file; undefined where it is not there. Throws as {@link openWalFile} does. */
  async openForm(form: StoredName, options?: StorageCallOptions): Promise<OpenedWalFile | undefined> {
    try {
      return await openObject(this.storage, form, options)
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
   * Reads a segment, to know that it is one. What walrx cannot read for its codec counts as whole: it may be, and nothing
   * replaces it.
   * @param preferred the extension to ask for first: see {@link openWalFile}
   * @returns false for one that is not there, does not decode, or is not `segmentSize` bytes long
   * @throws WALRX_KEY_WRONG and WALRX_KEY_MISSING for one that the keys don't open: it may be torn in its first bytes, or whole,
   * and nobody goes on from it; what the storage says
   */
  async isWhole(
    segment: string,
    segmentSize: number,
    options?: StorageCallOptions,
    preferred?: string,
  ): Promise<boolean> {
    try {
      const file = await this.openWalFile(segment, preferred, options)
      if (!file) return false
      let bytes = 0
      for await (const piece of file.body) bytes += piece.length
      return bytes === segmentSize
    } catch (error) {
      if (hasCode(error, 'WALRX_OBJECT_DAMAGED') || hasCode(error, 'WALRX_OBJECT_NOT_FOUND')) return false
      if (hasCode(error, 'WALRX_CODEC_UNSUPPORTED')) return true
      throw error
    }
  }

  /**
   * True when the archive holds a whole segment of the same timeline that comes after this one: then its absence is a
   * hole, not the end. For a history: any segment of its timeline. Reads the first page of one listing.
   */
  async hasLaterSegment(name: string, options?: StorageCallOptions): Promise<boolean> {
    // '/' sorts after '.', and so after every form of the name itself.
    const startAfter = `${walFolder}${name}/`
    for await (const info of this.storage.list(walFolder + name.slice(0, 8), { ...options, startAfter })) {
      if (parseWalKey(info.key)?.kind === 'segment') return true
    }
    return false
  }

  /** The last of {@link newestSegments}; undefined where there is none. */
  async newestSegment(options?: StorageCallOptions): Promise<WalObject | undefined> {
    return (await this.newestSegments(1, undefined, options))[0]
  }

  /**
   * The last segments of the newest timeline that has any, newest first, each form for itself. Reads one page of the listing of
   * each older timeline, and that of the newest to its end.
   * @param from name of a segment: on its timeline the listing begins there, if there are any from there on
   */
  async newestSegments(count: number, from: string | undefined, options?: StorageCallOptions): Promise<WalObject[]> {
    let first: WalObject | undefined
    let after: string | undefined
    for (let isMore = true; isMore;) {
      isMore = false
      for await (const object of this.walObjects(options, after)) {
        if (object.kind !== 'segment') continue
        first = object
        // After every name of this timeline: 'G' sorts after the digits, and before the next timeline's.
        after = `${walFolder}${object.name.slice(0, 8)}G`
        isMore = true
        break
      }
    }
    if (!first) return []
    const isOnNewest = from !== undefined && from.slice(0, 8) === first.name.slice(0, 8) && from > first.name
    const late = isOnNewest ? await this.#lastAfter(walFolder + from, count, options) : []
    if (late.length > 0) return late.reverse()
    return [first, ...(await this.#lastAfter(first.key, count, options))].slice(-count).reverse()
  }

  async #lastAfter(key: string, count: number, options?: StorageCallOptions): Promise<WalObject[]> {
    const last: WalObject[] = []
    for await (const object of this.walObjects(options, key)) {
      if (object.kind !== 'segment') continue
      last.push(object)
      if (last.length > count) last.shift()
    }
    return last
  }

  /** Whole segments of a timeline in WAL order, from segment number `from` on, each once even if stored twice. */
  async *segments(
    timeline: number,
    from: bigint,
    segmentSize: number,
    options?: StorageCallOptions,
  ): AsyncGenerator<ListedSegment, undefined> {
    const first = segmentName(timeline, from, segmentSize)
    // After every form of the segment before, which are the bare name, or that and a dot: '/' sorts after both.
    const startAfter = from === 0n ? undefined : `${walFolder}${segmentName(timeline, from - 1n, segmentSize)}/`
    let found: ListedSegment | undefined
    const prefix = walFolder + first.slice(0, 8)
    for await (const info of this.storage.list(
      prefix,
      startAfter === undefined ? options : { ...options, startAfter },
    )) {
      const parsed = parseWalKey(info.key)
      if (parsed?.kind !== 'segment') continue
      if (parsed.name === found?.name) {
        if (info.size < found.size) found = { ...found, size: info.size }
        continue
      }
      const id = parseSegmentName(parsed.name, segmentSize)
      if (!id) continue
      if (found) yield found
      found = { ...id, name: parsed.name, extension: parsed.extension, size: info.size }
    }
    if (found) yield found
  }

  /** WAL that the archive lacks for ever, as far as that was recorded; see {@link listGaps}. */
  gaps(options?: StorageCallOptions, onDamaged?: (error: WalrxError, key: string) => void): Promise<GapRecord[]> {
    return listGaps(this.storage, options, undefined, onDamaged)
  }

  /** Newer timelines that left this one, by their histories. One page of a listing and one file for each newer one. */
  async *forksOf(
    timeline: number,
    options?: StorageCallOptions,
  ): AsyncGenerator<{ timeline: number; switchpoint: Lsn }, undefined> {
    for await (const newer of this.timelinesAfter(timeline, options)) {
      const name = historyName(newer)
      const file = await this.openWalFile(name, undefined, options)
      if (!file) continue
      const history = parseHistory(await readWhole(file), name)
      const entry = history.find((ancestor) => ancestor.timeline === timeline)
      if (entry) yield { timeline: newer, switchpoint: entry.switchpoint }
    }
  }

  /** Timelines after this one that have any file, in order. One page of a listing for each. */
  async *timelinesAfter(timeline: number, options?: StorageCallOptions): AsyncGenerator<number, undefined> {
    for (let last: number | undefined = timeline; last !== undefined;) {
      // After every name of this timeline: 'G' sorts after the digits, and before the next timeline's.
      const after: string = `${walFolder}${last.toString(16).toUpperCase().padStart(8, '0')}G`
      last = undefined
      for await (const { name } of this.walObjects(options, after)) {
        last = parseInt(name.slice(0, 8), 16)
        break
      }
      if (last !== undefined) yield last
    }
  }

  /** The partials of a timeline. One listing of that timeline. */
  async *partials(timeline: number, options?: StorageCallOptions): AsyncGenerator<WalObject, undefined> {
    const prefix = walFolder + timeline.toString(16).toUpperCase().padStart(8, '0')
    for await (const info of this.storage.list(prefix, options)) {
      const parsed = parseWalKey(info.key)
      if (parsed?.kind === 'partial') yield { ...info, ...parsed }
    }
  }

  /**
   * The recorded gap that a segment lies in; undefined where there is none, or where nothing says how large segments
   * are. One listing where there are no gaps.
   */
  async gapAt(segment: string, options?: StorageCallOptions): Promise<GapRecord | undefined> {
    const gaps = await listGaps(this.storage, options, parseInt(segment.slice(0, 8), 16))
    const size = gaps.length === 0 ? undefined : (await readSystem(this.storage, options))?.segmentSize
    const id = size === undefined ? undefined : parseSegmentName(segment, size)
    return id && size !== undefined ? gapHolding(gaps, id, size) : undefined
  }

  /** All objects of `wal_005` in byte order of their keys, in pages: as fast as the storage lists them. */
  async *objectPages(options?: StorageCallOptions): AsyncGenerator<readonly ObjectInfo[], undefined> {
    const splits = await walSplits(this.storage, options)
    yield* listInPages(this.storage, walFolder, { ...options, splits })
  }

  /** Every WAL file of the archive in byte order of its key; with `startAfter` those after that key. */
  async *walObjects(options?: StorageCallOptions, startAfter?: string): AsyncGenerator<WalObject, undefined> {
    const listOptions = startAfter === undefined ? options : { ...options, startAfter }
    for await (const info of this.storage.list(walFolder, listOptions)) {
      const parsed = parseWalKey(info.key)
      if (parsed) yield { ...info, ...parsed }
    }
  }
}
