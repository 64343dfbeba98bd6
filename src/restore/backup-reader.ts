/**
 * Reads all tars of a backup, several at a time, checks everything that can be checked and hands the files to a sink:
 * objects against walrx.json, files against the server's manifest, the whole against the table of files.
 */
import { codecOfExtension } from '../compression/codecs.ts'
import type { Logger } from '../observe/log.ts'
import { hasCode, WalrxError } from '../primitives/errors.ts'
import type { Storage } from '../storage/storage.ts'
import type { BackupPart } from '../walg/backup-archive.ts'
import { backupFolder } from '../walg/backup-names.ts'
import { decodedPieces } from '../walg/decoded.ts'
import { blamingBackup, damaged, StoredSum } from './backup-damage.ts'
import type { BackupDocuments } from './backup-documents.ts'
import { openChecksum } from './checksums.ts'
import type { RestoreSink } from './restore-sink.ts'
import { type TarEntry, tarEntries } from './tar-entries.ts'

/** The file without which no server starts: it comes last. */
export const controlFile = 'global/pg_control'

/** Options of {@link readBackup}. */
export interface ReadOptions {
  readonly storage: Storage
  readonly documents: BackupDocuments
  readonly sink: RestoreSink
  /** Tars that are read at the same time. */
  readonly concurrency: number
  readonly log: Logger
  readonly signal: AbortSignal
  /** Told the bytes that were read from the storage. */
  readonly onProgress: (readBytes: number) => void
  /** Changes the content of small files on their way, after they were checked. */
  readonly rewrite?: ReadonlyMap<string, (content: Buffer) => Buffer>
  /** Tells which files are wanted, by their paths; all by default. */
  readonly mask?: (path: string) => boolean
  /** Called when everything but pg_control is in place. */
  readonly beforeControl: () => Promise<void>
}

/** What was read. */
export interface ReadSummary {
  readonly files: number
  readonly bytes: number
  /** True when every file was checked against the server's manifest. */
  readonly checked: boolean
}

/**
 * Reads the backup: the parts, then backup_label.tar (a part of WAL-G's may hold a stale label), at last pg_control.tar.
 * @throws WALRX_BACKUP_DAMAGED, naming the object and the file; WALRX_BACKUP_UNSUPPORTED for a part in a codec that walrx
 * cannot read; what storage and sink throw
 */
export function readBackup(options: ReadOptions): Promise<ReadSummary> {
  return blamingBackup(() => readAllParts(options))
}

async function readAllParts(options: ReadOptions): Promise<ReadSummary> {
  const reading = new BackupReading(options)
  const parts = options.documents.parts.filter((part) => reading.isWanted(part))
  await reading.readAll(parts.filter(({ kind }) => kind === 'data'))
  await reading.readAll(parts.filter(({ kind }) => kind === 'label'))
  reading.refuseMissing(controlFile)
  await options.beforeControl()
  await reading.readAll(parts.filter(({ kind }) => kind === 'control'))
  reading.refuseMissing()
  return reading.summary
}

/** Names that are restored although no table of files has them (walg-format.md 5.6). */
const utilityNames = new Set([controlFile, 'backup_label', 'tablespace_map'])

/** The longest file that a rewrite may hold in memory. */
const rewriteBytesMax = 16 * 1024 * 1024

class BackupReading {
  readonly #options: ReadOptions
  /** Names of the table of files, without their leading slash. */
  readonly #wanted: ReadonlySet<string> | undefined
  readonly #seen = new Set<string>()
  #readBytes = 0
  #files = 0
  #bytes = 0

  constructor(options: ReadOptions) {
    this.#options = options
    const files = options.documents.filesMetadata?.files
    this.#wanted = files && files.size > 0 ? new Set([...files.keys()].map((name) => plainName(name) ?? '')) : undefined
  }

  /** False for a tar without a file that the mask lets through, as far as the table of files tells. */
  isWanted({ base, fileName }: BackupPart): boolean {
    const { documents, mask } = this.#options
    const sets = documents.filesMetadata?.tarFileSets
    const names = sets?.get(fileName) ?? sets?.get(base) ?? sets?.get(`${base}.tar`)
    return !mask || !names || names.some((name) => mask(plainName(name) ?? ''))
  }

  get summary(): ReadSummary {
    return { files: this.#files, bytes: this.#bytes, checked: this.#options.documents.manifest !== undefined }
  }

  /** Reads tars, as many at a time as allowed; the first failure ends all. */
  async readAll(parts: readonly BackupPart[]): Promise<void> {
    const queue = [...parts]
    const stop = new AbortController()
    const { signal } = this.#options
    const onAbort = () => stop.abort(signal.reason)
    signal.addEventListener('abort', onAbort, { once: true })
    if (signal.aborted) onAbort()
    const work = async () => {
      for (let part = queue.shift(); part; part = queue.shift()) {
        try {
          await this.#readPart(part, stop.signal)
        } catch (error) {
          stop.abort(error)
          throw error
        }
      }
    }
    try {
      const results = await Promise.allSettled(Array.from({ length: this.#options.concurrency }, work))
      if (stop.signal.aborted) throw stop.signal.reason
      for (const result of results) if (result.status === 'rejected') throw result.reason
    } finally {
      signal.removeEventListener('abort', onAbort)
    }
  }

  /** Throws WALRX_BACKUP_DAMAGED for a file that did not come. @param except one that need not have come yet */
  refuseMissing(except?: string): void {
    const { filesMetadata, manifest, name } = this.#options.documents
    const { mask } = this.#options
    for (const [key, record] of filesMetadata?.files ?? []) {
      const path = plainName(key) ?? ''
      if (record.isSkipped || this.#seen.has(path) || path === except || mask?.(path) === false) continue
      throw damaged(`${name} lacks ${key}, which ${this.#partOf(path)} should hold`)
    }
    for (const path of manifest?.keys() ?? []) {
      if (this.#seen.has(path) || path === except || mask?.(path) === false) continue
      throw damaged(`${name} lacks ${path}, which the server's manifest lists and ${this.#partOf(path)} should hold`)
    }
  }

  #partOf(path: string): string {
    for (const [part, names] of this.#options.documents.filesMetadata?.tarFileSets ?? []) {
      if (names.some((name) => plainName(name) === path)) return part
    }
    return path === controlFile ? 'pg_control.tar' : 'one of its parts'
  }

  async #readPart(part: BackupPart, signal: AbortSignal): Promise<void> {
    const { documents, storage } = this.#options
    const at = `${storage.location}/${part.key}`
    const sum = new StoredSum()
    const codec = codecOfExtension(part.extension, at)
    const body = this.#counted(sum.of(await storage.get(part.key, { signal })))
    try {
      for await (const entry of tarEntries(decodedPieces(body, codec, at), at)) {
        signal.throwIfAborted()
        await this.#readEntry(entry, part, at)
      }
      // What is behind the tar's end counts as well.
      for await (const rest of body) void rest
    } catch (error) {
      const isUnreadable = hasCode(error, 'WALRX_OBJECT_DAMAGED') || hasCode(error, 'WALRX_CODEC_UNSUPPORTED')
      // What walrx stored can be read, unless it has changed since.
      if (isUnreadable && documents.contents) throw damaged(error.message, undefined, error)
      throw sum.size > 0 && isUnreadable ? this.#withGuess(error) : error
    }
    const stored = documents.contents?.get(part.key.slice(backupFolder(documents.name).length))
    if (stored) sum.check(stored, at)
  }

  /** Nothing in an archive says that it is encrypted. */
  #withGuess(error: WalrxError): WalrxError {
    const hint = 'if this backup is encrypted: walrx cannot decrypt yet, restore it with the tool that wrote it'
    return new WalrxError(error.code, error.message, { hint, cause: error })
  }

  async *#counted(source: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array, undefined> {
    for await (const chunk of source) {
      this.#readBytes += chunk.length
      this.#options.onProgress(this.#readBytes)
      yield chunk
    }
  }

  async #readEntry(entry: TarEntry, part: BackupPart, at: string): Promise<void> {
    const path = plainName(entry.name)
    if (path === undefined) throw damaged(`${at} holds an entry by the name "${entry.name}"`)
    const { mask } = this.#options
    if (entry.kind === 'directory') {
      if (mask) return
      this.#seen.add(path)
      return this.#options.sink.directory(path, entry.mode & 0o7777)
    }
    if (entry.kind === 'other') {
      this.#options.log.warn('an entry that is neither file nor directory is left out', {
        object: at,
        name: entry.name,
      })
      return
    }
    // WAL-G's remote backups have it in a part too.
    if (path === controlFile && part.kind !== 'control') return
    if (mask?.(path) === false) return
    if (this.#wanted && !this.#wanted.has(path) && !utilityNames.has(path)) {
      this.#options.log.debug('a file that the table of files does not list is left out', {
        object: at,
        name: entry.name,
      })
      return
    }
    await this.#readFile(entry, path, at)
  }

  async #readFile(entry: TarEntry, path: string, at: string): Promise<void> {
    const { manifest, name } = this.#options.documents
    const expected = manifest?.get(path)
    if (manifest && !expected)
      throw damaged(`${at} holds ${entry.name}, which the server's manifest of ${name} does not list`)
    if (expected && expected.size !== entry.size) {
      throw damaged(
        `${at} holds ${entry.name} with ${entry.size} bytes, and the server's manifest says ${expected.size}`,
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
        if (!rewrite) await file.write(chunk)
        else if (bytes > rewriteBytesMax) throw damaged(`${at} holds a ${path} of more than ${rewriteBytesMax} bytes`)
        else kept.push(Buffer.from(chunk))
      }
      if (bytes !== entry.size) throw damaged(`${at} holds ${bytes} bytes of ${entry.name} instead of ${entry.size}`)
      const digest = checksum?.digest()
      if (digest !== expected?.checksum) {
        throw damaged(
          `${at} holds ${entry.name} with the ${expected?.algorithm} ${digest}, and the server's manifest says ${expected?.checksum}`,
        )
      }
      if (rewrite) await file.write(rewrite(Buffer.concat(kept)))
      await file.finish()
    } finally {
      await file.drop()
    }
    this.#seen.add(path)
    this.#files++
    this.#bytes += bytes
  }
}

/** A tar entry's name as a path within the data directory: '' for the directory itself. Undefined for what leads out. */
function plainName(name: string): string | undefined {
  const words = name.split('/').filter((word) => word !== '' && word !== '.')
  return words.includes('..') || name.includes('\0') ? undefined : words.join('/')
}
