/**
 * Reads all parts of a backup, several at a time, and hands the files to a sink. It checks objects against walrx.json,
 * files against the server's manifest, and the list of files against files_metadata.json. The backups that a delta
 * builds on are read before it, beginning with the full one, each to its end before the next.
 */
import type { Logger } from '../../observe/log.ts'
import { hasCode, isOfKey } from '../../primitives/errors.ts'
import { PendingWork } from '../../primitives/pending-work.ts'
import type { Storage } from '../../storage/storage.ts'
import type { BackupPart } from '../../walg/backup/backup-archive.ts'
import { backupFolder } from '../../walg/backup/backup-names.ts'
import { openPieces } from '../../walg/stored/stored-reader.ts'
import { type TarEntry, tarEntries } from '../../walg/backup/tar-entries.ts'
import { blamingBackup, damaged, StoredSum } from './backup-damage.ts'
import { type BackupDocuments, chainOf } from './backup-documents.ts'
import { openChecksum } from './checksums.ts'
import { controlFile, entryPath, utilityFiles } from './entry-path.ts'
import { applyIncrement } from './increment-apply.ts'
import type { RestoreSink } from './restore-sink.ts'
import type { RestoredSums } from './restored-manifest.ts'

/** Options of {@link readBackup}. */
export interface ReadOptions {
  readonly storage: Storage
  readonly documents: BackupDocuments
  readonly sink: RestoreSink
  /** Parts that are read at the same time. */
  readonly concurrency: number
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
  const { documents } = options
  const tally: Tally = { readBytes: 0, files: 0, increments: 0, bytes: 0 }
  for (const parent of documents.parents) {
    const reading = new BackupReading({ ...options, documents: parent }, tally, true)
    await reading.readAll(reading.wantedParts('data'))
    reading.refuseMissing()
  }
  const reading = new BackupReading(options, tally, false)
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

/** Writes that the reading does not wait for: enough to keep a core busy with them while the other one decodes. */
const writesBehind = { bytesMax: 4 * 1024 * 1024, countMax: 32 }

/** Parts that are read side by side. */
interface ReadRun {
  readonly writes: PendingWork
  /** Aborted by the first failure. */
  readonly signal: AbortSignal
}

/** Where an entry comes from. */
interface EntrySource extends ReadRun {
  readonly part: BackupPart
  /** Names the part in errors. */
  readonly at: string
}

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
  /** A delta builds on this backup: only the files that the delta needs are read. */
  readonly #isParent: boolean
  readonly #seen = new Set<string>()

  constructor(options: ReadOptions, tally: Tally, isParent: boolean) {
    this.#options = options
    this.#tally = tally
    this.#isParent = isParent
  }

  /** The parts of a kind, without those that hold no file matching the mask according to files_metadata.json. */
  wantedParts(kind: BackupPart['kind']): BackupPart[] {
    const { documents, mask } = this.#options
    return documents.parts.filter((part) => {
      const { tarFileSets: sets } = documents
      const names = sets.get(part.fileName) ?? sets.get(part.base) ?? sets.get(`${part.base}.tar`)
      return part.kind === kind && (!mask || !names || names.some((name) => mask(entryPath(name) ?? '')))
    })
  }

  /**
   * Reads parts, as many at a time as allowed; the first failure stops all. When it ends, however, nothing is being
   * written any more.
   */
  async readAll(parts: readonly BackupPart[]): Promise<void> {
    // The largest first: otherwise one may be left when the others are read.
    const queue = parts.toSorted((one, other) => other.size - one.size)
    const stop = new AbortController()
    const writes = new PendingWork(writesBehind, (error) => stop.abort(error))
    const { signal } = this.#options
    const onAbort = () => stop.abort(signal.reason)
    signal.addEventListener('abort', onAbort, { once: true })
    if (signal.aborted) onAbort()
    const work = async () => {
      for (let part = queue.shift(); part; part = queue.shift()) {
        try {
          await this.#readPart(part, { writes, signal: stop.signal })
        } catch (error) {
          stop.abort(error)
          throw error
        }
      }
    }
    try {
      const results = await Promise.allSettled(Array.from({ length: this.#options.concurrency }, work))
      // What failed is the reason of the stop.
      await writes.settled().catch(() => {})
      if (stop.signal.aborted) throw stop.signal.reason
      for (const result of results) if (result.status === 'rejected') throw result.reason
    } finally {
      signal.removeEventListener('abort', onAbort)
    }
  }

  /** Throws WALRX_BACKUP_DAMAGED for a missing file. @param except a file that may still come */
  refuseMissing(except?: string): void {
    const { files, manifest, name } = this.#options.documents
    const { mask } = this.#options
    const isMissing = (path: string) => !this.#seen.has(path) && path !== except && mask?.(path) !== false
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

  async #readPart(part: BackupPart, run: ReadRun): Promise<void> {
    const { signal } = run
    const { documents, storage } = this.#options
    const at = `${storage.location}/${part.key}`
    const sum = new StoredSum()
    const onStored = (chunk: Uint8Array) => {
      sum.add(chunk)
      this.#tally.readBytes += chunk.length
      this.#options.onProgress(this.#tally.readBytes)
    }
    const opened = await openPieces(storage, part, { signal, onStored })
    try {
      for await (const entry of tarEntries(opened.pieces, at)) {
        signal.throwIfAborted()
        await this.#readEntry(entry, { part, at, ...run })
      }
      // Bytes after the tar's end count for size and checksum as well.
      await opened.readRest()
    } catch (error) {
      const isUnreadable = hasCode(error, 'WALRX_OBJECT_DAMAGED') || hasCode(error, 'WALRX_CODEC_UNSUPPORTED')
      // The keys open the backup. And a part that walrx stored can be read, unless it was changed since.
      if (isOfKey(error) || (isUnreadable && documents.contents)) throw damaged(error.message, undefined, error)
      throw error
    }
    const stored = documents.contents?.get(part.key.slice(backupFolder(documents.name).length))
    if (stored) sum.check(stored, at)
  }

  async #readEntry(entry: TarEntry, from: EntrySource): Promise<void> {
    const { at, part } = from
    const path = entryPath(entry.name)
    if (path === undefined) throw damaged(`${at} holds a file outside the data directory: "${entry.name}"`)
    const { documents, log, mask, sink } = this.#options
    const object = { object: at, name: entry.name }
    if (entry.kind === 'directory') {
      // Recovery stops at an unexpected directory, such as that of a tablespace that was dropped since.
      if (mask || this.#isParent) return
      this.#seen.add(path)
      return sink.directory(path, entry.mode & 0o7777)
    }
    if (entry.kind === 'other') return log.warn('skipping a tar entry that is neither a file nor a directory', object)
    // WAL-G's remote backups have pg_control in another part, too.
    if (path === controlFile && part.kind !== 'control') return
    if (mask?.(path) === false) return
    const isUtility = !this.#isParent && utilityFiles.has(path)
    const record = documents.files?.get(path)
    if (documents.files && !record && !isUtility) {
      if (!this.#isParent) log.debug('skipping a file that files_metadata.json does not list', object)
      return
    }
    if (record?.isIncremented) await this.#readIncrement(entry, path, at)
    else await this.#readFile(entry, path, from)
    this.#seen.add(path)
  }

  async #readIncrement(entry: TarEntry, path: string, at: string): Promise<void> {
    const applied = await applyIncrement(entry, await this.#options.sink.change(path), at)
    this.#options.sums?.changed(path, applied)
    this.#tally.increments++
    this.#tally.bytes += entry.size
  }

  async #readFile(entry: TarEntry, path: string, { at, writes }: EntrySource): Promise<void> {
    const { manifest, name, sentinel } = this.#options.documents
    const expected = manifest?.get(path)
    if (manifest && !expected && !sentinel.delta)
      throw damaged(`${at} holds ${entry.name}, which the server's manifest of ${name} does not list`)
    if (expected && expected.size !== entry.size) {
      throw damaged(
        `${at} holds ${entry.name} with ${entry.size} bytes, but the server's manifest lists ${expected.size}`,
      )
    }
    const checksum = expected?.algorithm === undefined ? undefined : openChecksum(expected.algorithm, 'the manifest')
    const rewrite = this.#options.rewrite?.get(path)
    const kept: Uint8Array[] = []
    const file = await this.#options.sink.file(path, entry.mode & 0o7777)
    let bytes = 0
    try {
      for await (const chunk of entry.body) {
        bytes += chunk.length
        checksum?.update(chunk)
        if (!rewrite) await writes.add(file.write(chunk), chunk.length, entry.hold?.())
        else if (bytes > rewriteBytesMax) throw damaged(`${at} holds ${path} with more than ${rewriteBytesMax} bytes`)
        else kept.push(Buffer.from(chunk))
      }
      if (bytes !== entry.size) throw damaged(`${at} holds ${bytes} bytes of ${entry.name} instead of ${entry.size}`)
      const digest = checksum?.digest()
      if (digest !== expected?.checksum) {
        throw damaged(
          `${at} holds ${entry.name} with ${expected?.algorithm} ${digest}, but the server's manifest lists ${expected?.checksum}`,
        )
      }
      if (rewrite) await file.write(rewrite(Buffer.concat(kept)))
      await writes.add(file.finish(), 0)
    } finally {
      await file.drop()
    }
    this.#options.sums?.written(path, rewrite ? undefined : expected)
    this.#tally.files++
    this.#tally.bytes += bytes
  }
}
