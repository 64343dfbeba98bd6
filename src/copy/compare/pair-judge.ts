/**
 * Whether the target has an object of the source. Where the listings of two buckets have MD5 sums, those decide. Else a copy
 * that is repeated cannot read all of a large archive again, so that of objects with the same name and size
 * - documents and histories of up to 64 kB are read and compared whole: the sentinel of another backup of that name differs;
 * - of WAL that is not compressed, which always has the same size, the first two pages are compared: another history of the
 *   server shows in the headers and records of each segment from where it left on, but in the one in which it did;
 * - compressed WAL, parts and larger documents are taken for the same: `--verify` alone reads them.
 *
 * Objects that differ are compared as what they hold: the same WAL may be stored in two forms, by two receivers or with two
 * keys.
 */
import { hasCode, isOfKey } from '../../primitives/errors.ts'
import type { ObjectInfo, Storage, StorageCallOptions } from '../../storage/storage.ts'
import { gapFolder, parseWalKey, walFolder } from '../../walg/names.ts'
import { isSameAt } from '../../walg/stored/transfer/stored-copy.ts'
import { isSameContent } from '../../walg/stored/transfer/stored-content.ts'
import { type KeyRange, type ListedPair, mergeListings } from './merged-listing.ts'

/** Larger documents are not read: the lists of a backup's files. */
const documentBytesMax = 64 * 1024

/** Two pages of WAL. */
const beginningBytes = 16 * 1024

/** What was found of one object of the source. */
export interface Judged {
  readonly info: ObjectInfo
  /** `other`: the target has other bytes under this name, or another segment under another form of it. */
  readonly verdict: 'missing' | 'present' | 'other'
}

/** An object that only the target has. */
export interface OnlyInTarget {
  readonly info: ObjectInfo
  readonly verdict: 'extra'
}

/** Segments that are stored under several extensions, with all of their keys that only one side has. */
interface Group {
  readonly stem: string
  readonly missing: ObjectInfo[]
  readonly others: ObjectInfo[]
}

/** See the file's header. */
export class PairJudge {
  readonly #source: Storage
  readonly #target: Storage
  readonly #options: StorageCallOptions
  /** False once the same bytes have had two MD5 sums: one of the stores encrypts, and its sums are of that. */
  #hasSums = true

  constructor(source: Storage, target: Storage, options: StorageCallOptions) {
    this.#source = source
    this.#target = target
    this.#options = options
  }

  /** The objects of a range, mostly in the order of their keys. Throws what the storages say. */
  async *judge(range: KeyRange): AsyncGenerator<Judged | OnlyInTarget, undefined> {
    let group: Group | undefined
    for await (const pair of mergeListings(this.#source, this.#target, range, this.#options)) {
      const stem = stemOf(pair.key)
      if (group && group.stem !== stem) {
        yield* this.#ofGroup(group)
        group = undefined
      }
      const isForm = stem !== undefined && parseWalKey(pair.key)?.kind === 'segment'
      if (!isForm || (pair.source && pair.target)) {
        yield* this.#ofPair(pair)
        continue
      }
      group ??= { stem, missing: [], others: [] }
      if (pair.source) group.missing.push(pair.source)
      else if (pair.target) group.others.push(pair.target)
    }
    if (group) yield* this.#ofGroup(group)
  }

  async *#ofPair({ source, target }: ListedPair): AsyncGenerator<Judged | OnlyInTarget, undefined> {
    if (!source) {
      if (target) yield { info: target, verdict: 'extra' }
    } else if (!target) yield { info: source, verdict: 'missing' }
    else yield { info: source, verdict: (await this.#isSame(source, target)) ? 'present' : 'other' }
  }

  async *#ofGroup({ missing, others: [other] }: Group): AsyncGenerator<Judged, undefined> {
    for (const info of missing) {
      if (!other) yield { info, verdict: 'missing' }
      else yield { info, verdict: (await this.#isSameWal(info.key, other.key)) ? 'present' : 'other' }
    }
  }

  async #isSame(source: ObjectInfo, target: ObjectInfo): Promise<boolean> {
    const { key } = source
    // Two receivers that find the same gap note two times.
    if (key.startsWith(gapFolder)) return true
    if (source.size === target.size) {
      if (!this.#hasSums || source.md5 === undefined || target.md5 === undefined) {
        if (await this.#seemsSame(source)) return true
      } else {
        if (source.md5 === target.md5) return true
        const found = await isSameAt(this.#source, this.#target, key, this.#options)
        if (found === 'same') this.#hasSums = false
        if (found !== 'other') return true
      }
    }
    return this.#isSameWal(key, key)
  }

  /** By as many bytes as such an object deserves; see the file's header. */
  async #seemsSame({ key, size }: ObjectInfo): Promise<boolean> {
    const bytes = comparedBytes(key, size)
    if (bytes === 0) return true
    return (await isSameAt(this.#source, this.#target, key, { ...this.#options, bytesMax: bytes })) !== 'other'
  }

  /** Whether two forms of a WAL file hold the same; false for other objects, and for what cannot be read. */
  async #isSameWal(sourceKey: string, targetKey: string): Promise<boolean> {
    const [ours, theirs] = [parseWalKey(sourceKey), parseWalKey(targetKey)]
    if (!ours || !theirs) return false
    const left = { key: sourceKey, extension: ours.extension }
    const right = { key: targetKey, extension: theirs.extension }
    try {
      return await isSameContent(this.#source, left, this.#target, right, this.#options)
    } catch (error) {
      const isUnreadable = hasCode(error, 'WALRX_OBJECT_DAMAGED') || hasCode(error, 'WALRX_CODEC_UNSUPPORTED')
      if (isUnreadable || isOfKey(error)) return false
      // It has gone since it was listed.
      if (hasCode(error, 'WALRX_OBJECT_NOT_FOUND')) return true
      throw error
    }
  }
}

/** How much of an object of the same name and size is read. */
function comparedBytes(key: string, size: number): number {
  if (key.startsWith(walFolder)) {
    const parsed = parseWalKey(key)
    if (parsed?.kind === 'segment' || parsed?.kind === 'partial') return parsed.extension === '' ? beginningBytes : 0
    if (!parsed) return 0
  }
  return size > documentBytesMax || key.includes('/tar_partitions/') ? 0 : size
}

/** The segment that a key of `wal_005` is for; undefined for all other keys. */
function stemOf(key: string): string | undefined {
  if (!key.startsWith(walFolder)) return undefined
  const [name] = /^[0-9A-F]{24}/.exec(key.slice(walFolder.length)) ?? []
  return name
}
