/**
 * Reads all parts of a backup, several at a time, and hands the files to a sink. It checks objects against walrx.json,
 * files against the server's manifest, and the list of files against files_metadata.json. The backups that a delta
 * builds on are read before it, beginning with the full one, each to its end before the next.
 */
import type { Logger } from '../../observe/log.ts'
import { hasCode, isOfKey } from '../../primitives/errors.ts'
import type { Storage } from '../../storage/storage.ts'
import type { BackupPart } from '../../walg/backup/backup-archive.ts'
import { backupFolder } from '../../walg/backup/backup-names.ts'
import { type HandedObject, openHanded } from '../../walg/stored/handed-object.ts'
import { blamingBackup, damaged, StoredSum } from './backup-damage.ts'
import { type BackupDocuments, chainOf } from './backup-documents.ts'
import type { LeftOutFiles } from './databases/left-out-files.ts'
import { controlFile, entryPath, utilityFiles } from './entry-path.ts'
import { type Lane, type OpenLane, ownThreadLane } from './parts/lane.ts'
import type { EntryHead, EntryHost, EntryPlan, EntryResult } from './parts/part-reading.ts'
import type { RestoreSink } from './restore-sink.ts'
import type { RestoredSums } from './restored-manifest.ts'
import { type KeptFiles, wantedParts } from './wanted-parts.ts'

/** Options of {@link readBackup}. */
export interface ReadOptions {
  readonly storage: Storage
  readonly documents: BackupDocuments
  readonly sink: RestoreSink
  /** Parts that are read at the same time. */
  readonly concurrency: number
  /** Opens what reads a part after the other, as many as are read at the same time; by default all on this thread. */
  readonly openLane?: OpenLane
  readonly log: Logger
  readonly signal: AbortSignal
  /** Called with the total of bytes that were read from the storage. */
  readonly onProgress: (readBytes: number) => void
  /** Keeps the sums of what is written; for a chain whose manifest is written. */
  readonly sums?: RestoredSums | undefined
  /** Changes the content of small files after their checks. */
  readonly rewrite?: ReadonlyMap<string, (content: Buffer) => Buffer>
  /** Selects files by path; all by default. */
  readonly mask?: (path: string) => boolean
  /** Files that are in place already. Parts that hold no other ones are not read. */
  readonly kept?: KeptFiles | undefined
  /** Files of databases that are not restored. Parts that hold nothing else are not read. */
  readonly leftOut?: LeftOutFiles | undefined
  /** Called when everything but pg_control is in place. */
  readonly beforeControl: () => Promise<void>
}

/** What was read. */
export interface ReadSummary {
  /** Whole files. */
  readonly files: number
  /** Increments that were applied to them; 0 for a full backup. */
  readonly increments: number
  /** Bytes of both. */
  readonly bytes: number
  /** True when every whole file was checked against a manifest of the server. */
  readonly checked: boolean
}

/**
 * Reads the backup: the backups that it builds on, its parts, then backup_label.tar (another part of WAL-G's may hold a
 * stale label), and last pg_control.tar.
 * @throws WALRX_BACKUP_DAMAGED with the object and the file; WALRX_BACKUP_UNSUPPORTED for a part in a codec that walrx
 * cannot read; what storage and sink throw
 */
export function readBackup(options: ReadOptions): Promise<ReadSummary> {
  return blamingBackup(() => readAllParts(options))
}

async function readAllParts(options: ReadOptions): Promise<ReadSummary> {
  const lanes = new Lanes(options)
  try {
    const summary = await readInto(lanes, options)
    await lanes.end()
    return summary
  } catch (error) {
    await lanes.drop()
    throw error
  }
}

/** The lanes of a restore, opened when there is a part for them. */
class Lanes {
  readonly #options: ReadOptions
  readonly #lanes: Lane[] = []

  constructor(options: ReadOptions) {
    this.#options = options
  }

  at(index: number): Lane {
    const { openLane = ownThreadLane, sink } = this.#options
    return (this.#lanes[index] ??= openLane(sink))
  }

  async end(): Promise<void> {
    const results = await Promise.allSettled(this.#lanes.map((lane) => lane.end()))
    for (const result of results) if (result.status === 'rejected') throw result.reason
  }

  async drop(): Promise<void> {
    await Promise.allSettled(this.#lanes.map((lane) => lane.drop()))
  }
}

async function readInto(lanes: Lanes, options: ReadOptions): Promise<ReadSummary> {
  const { documents } = options
  const tally: Tally = { readBytes: 0, files: 0, increments: 0, bytes: 0 }
  for (const parent of documents.parents) {
    const reading = new BackupReading({ ...options, documents: parent }, tally, lanes, true)
    await reading.readAll(reading.wantedParts('data'))
    reading.refuseMissing()
  }
  const reading = new BackupReading(options, tally, lanes, false)
  await reading.readAll(reading.wantedParts('data'))
  await reading.readAll(reading.wantedParts('label'))
  reading.refuseMissing(controlFile)
  await options.beforeControl()
  await reading.readAll(reading.wantedParts('control'))
  reading.refuseMissing()
  const { bytes, files, increments } = tally
  const checked = chainOf(documents).every(({ manifest }) => manifest !== undefined)
  return { files, increments, bytes, checked }
}

/** The largest file that a rewrite may hold in memory. */
const rewriteBytesMax = 16 * 1024 * 1024

/** Totals over all backups of a chain. */
interface Tally {
  readBytes: number
  files: number
  increments: number
  bytes: number
}

/** One backup of a chain. */
class BackupReading {
  readonly #options: ReadOptions
  readonly #tally: Tally
  readonly #lanes: Lanes
  /** A delta builds on this backup: only the files that the delta needs are read. */
  readonly #isParent: boolean
  readonly #seen = new Set<string>()

  constructor(options: ReadOptions, tally: Tally, lanes: Lanes, isParent: boolean) {
    this.#options = options
    this.#tally = tally
    this.#lanes = lanes
    this.#isParent = isParent
  }

  wantedParts(kind: BackupPart['kind']): BackupPart[] {
    return wantedParts(this.#options.documents, kind, this.#isParent, this.#options)
  }

  /**
   * Reads parts, as many at a time as allowed; the first failure stops all. When it ends, however, nothing is being
   * written any more.
   */
  async readAll(parts: readonly BackupPart[]): Promise<void> {
    // The largest first: otherwise one may be left when the others are read.
    const queue = parts.toSorted((one, other) => other.size - one.size)
    const stop = new AbortController()
    const { signal } = this.#options
    const onAbort = () => stop.abort(signal.reason)
    signal.addEventListener('abort', onAbort, { once: true })
    if (signal.aborted) onAbort()
    const work = async (_: unknown, index: number) => {
      for (let part = queue.shift(); part; part = queue.shift()) {
        try {
          await this.#readPart(part, this.#lanes.at(index), stop.signal)
        } catch (error) {
          stop.abort(error)
          throw error
        }
      }
    }
    try {
      const results = await Promise.allSettled(Array.from({ length: this.#options.concurrency }, work))
      // What failed is the reason of the stop.
      if (stop.signal.aborted) throw stop.signal.reason
      for (const result of results) if (result.status === 'rejected') throw result.reason
    } finally {
      signal.removeEventListener('abort', onAbort)
    }
  }

  /** Throws WALRX_BACKUP_DAMAGED for a missing file. @param except a file that may still come */
  refuseMissing(except?: string): void {
    const { files, manifest, name } = this.#options.documents
    const { kept, leftOut, mask } = this.#options
    const isWanted = (path: string) => mask?.(path) !== false && kept?.has(path) !== true && leftOut?.has(path) !== true
    const isMissing = (path: string) => !this.#seen.has(path) && path !== except && isWanted(path)
    for (const path of files?.keys() ?? []) {
      if (isMissing(path)) throw damaged(`${name} lacks ${path}, which ${this.#partOf(path)} should hold`)
    }
    if (this.#isParent) return
    for (const path of manifest?.keys() ?? []) {
      if (!isMissing(path)) continue
      throw damaged(`${name} lacks ${path}, which the server's manifest lists and ${this.#partOf(path)} should hold`)
    }
  }

  #partOf(path: string): string {
    for (const [part, names] of this.#options.documents.tarFileSets) {
      if (names.some((name) => entryPath(name) === path)) return part
    }
    return path === controlFile ? 'pg_control.tar' : 'one of its parts'
  }

  async #readPart(part: BackupPart, lane: Lane, signal: AbortSignal): Promise<void> {
    const { documents, storage } = this.#options
    const at = `${storage.location}/${part.key}`
    const sum = new StoredSum()
    let isDecrypted = false
    const onStored = (chunk: Uint8Array) => {
      if (isDecrypted) sum.add(chunk)
      this.#tally.readBytes += chunk.length
      this.#options.onProgress(this.#tally.readBytes)
    }
    try {
      const { buffers } = lane
      const object: HandedObject = await openHanded(storage, part, { signal, onStored, ...(buffers && { buffers }) })
      isDecrypted = object.handing.bytes === 'decrypted'
      // Of bytes that are decrypted on the way it knows nothing.
      const read = await lane.read(object, this.#host(part, at, signal))
      if (!isDecrypted) Object.assign(sum, read)
    } catch (error) {
      const isUnreadable = hasCode(error, 'WALRX_OBJECT_DAMAGED') || hasCode(error, 'WALRX_CODEC_UNSUPPORTED')
      // The keys open the backup. And a part that walrx stored can be read, unless it was changed since.
      if (isOfKey(error) || (isUnreadable && documents.contents)) throw damaged(error.message, undefined, error)
      throw error
    }
    const stored = documents.contents?.get(part.key.slice(backupFolder(documents.name).length))
    if (stored) sum.check(stored, at)
  }

  /** Decides what is done with the entries of a part, and keeps the account of them. */
  #host(part: BackupPart, at: string, signal: AbortSignal): EntryHost {
    return {
      plan: async (entry) => {
        signal.throwIfAborted()
        const path = entryPath(entry.name)
        if (path === undefined) throw damaged(`${at} holds a file outside the data directory: "${entry.name}"`)
        return this.#plan(entry, path, part, at)
      },
      done: (result) => this.#done(result),
    }
  }

  async #plan(entry: EntryHead, path: string, part: BackupPart, at: string): Promise<EntryPlan> {
    const { documents, kept, leftOut, log, mask, sink } = this.#options
    const object = { object: at, name: entry.name }
    if (entry.kind === 'directory') {
      // Recovery stops at an unexpected directory, such as that of a tablespace that was dropped since.
      if (mask || this.#isParent) return skip
      this.#seen.add(path)
      await sink.directory(path, entry.mode & 0o7777)
      return skip
    }
    if (entry.kind === 'other') {
      log.warn('skipping a tar entry that is neither a file nor a directory', object)
      return skip
    }
    // WAL-G's remote backups have pg_control in another part, too.
    if (path === controlFile && part.kind !== 'control') return skip
    if (mask?.(path) === false || kept?.has(path) === true) return skip
    const isUtility = !this.#isParent && utilityFiles.has(path)
    const record = documents.files?.get(path)
    if (documents.files && !record && !isUtility) {
      if (!this.#isParent) log.debug('skipping a file that files_metadata.json does not list', object)
      return skip
    }
    if (leftOut?.has(path)) {
      leftOut.note(path, record?.isIncremented ? undefined : entry.size)
      return skip
    }
    return record?.isIncremented ? { kind: 'change', place: { path } } : this.#planOfFile(entry, path, at)
  }

  #planOfFile(entry: EntryHead, path: string, at: string): EntryPlan {
    const { manifest, name, sentinel } = this.#options.documents
    const expected = manifest?.get(path)
    if (manifest && !expected && !sentinel.delta)
      throw damaged(`${at} holds ${entry.name}, which the server's manifest of ${name} does not list`)
    if (expected && expected.size !== entry.size) {
      throw damaged(
        `${at} holds ${entry.name} with ${entry.size} bytes, but the server's manifest lists ${expected.size}`,
      )
    }
    const { algorithm, checksum } = expected ?? {}
    const sums = expected && { algorithm, checksum }
    const place = { path, mode: entry.mode & 0o7777 }
    if (!this.#options.rewrite?.has(path)) return { kind: 'write', place, expected: sums }
    return { kind: 'keep', place, bytesMax: rewriteBytesMax, expected: sums }
  }

  async #done(result: EntryResult): Promise<void> {
    const { documents, sums } = this.#options
    const { path } = result.place
    this.#seen.add(path)
    this.#tally.bytes += result.size
    if (result.kind === 'changed') {
      sums?.changed(path, result.applied)
      this.#tally.increments++
      return
    }
    if (result.kind === 'kept') await this.#rewrite(result)
    sums?.written(path, result.kind === 'kept' ? undefined : documents.manifest?.get(path))
    this.#tally.files++
  }

  async #rewrite({ content, place: { mode = 0, path } }: EntryResult & { readonly kind: 'kept' }): Promise<void> {
    const rewrite = this.#options.rewrite?.get(path) ?? ((same: Buffer) => same)
    const file = await this.#options.sink.file(path, mode)
    try {
      await file.write(rewrite(Buffer.from(content.buffer, content.byteOffset, content.length)))
      await file.finish()
    } finally {
      await file.drop()
    }
  }
}

const skip: EntryPlan = { kind: 'skip' }
