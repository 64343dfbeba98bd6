/** Takes what the server sends: archives to parts, the manifest to its object, warnings to the log. */
import type { WriteCodec } from '../../compression/codec.ts'
import type { Logger } from '../../observe/log.ts'
import { WalrxError } from '../../primitives/errors.ts'
import type { BackupTablespace, BaseBackupSink, ServerNotice } from '../../postgres/backup/base-backup-sink.ts'
import { fullLabel, type IncrementOrigin } from '../../postgres/backup/incremental-label.ts'
import { type ChecksumState, parseChecksumState } from '../../postgres/control-file.ts'
import { LeftOutFiles } from '../../postgres/backup/left-out-files.ts'
import type { BackupTree } from '../../walg/backup/backup-contents.ts'
import { controlFileName, labelFileName, withExtension } from '../../walg/backup/backup-names.ts'
import type { FileRecord } from '../../walg/backup/files-metadata.ts'
import type { StoredObject } from '../../walg/stored/object-sum.ts'
import { ObjectWriter, storeObject } from '../../walg/stored/object-upload.ts'
import type { Storage } from '../../storage/storage.ts'
import { IncrementCheck } from './increment-check.ts'
import { PartWriter } from './part-writer.ts'
import { formatHeader, paddingOf, tarTrailer } from './tar-header.ts'
import { type AsideFile, type EntryNames, TarRewriter } from './tar-rewriter.ts'

/** Options of {@link BackupReceiver}. */
export interface ReceiverOptions {
  readonly storage: Storage
  readonly codec: WriteCodec
  /** Beginning of the keys, up to the backup's name and a slash. */
  readonly folder: string
  readonly partBytesMax: number
  readonly laneCount?: number
  readonly hasManifest: boolean
  readonly tablespaces: readonly BackupTablespace[]
  /** What the backup builds on; undefined for a full one. */
  readonly parent?: (EntryNames & IncrementOrigin) | undefined
  readonly log: Logger
  readonly signal: AbortSignal
  readonly onProgress: (progress: { readonly receivedBytes: number; readonly totalBytes: number | undefined }) => void
}

/** All that is stored. */
export interface StoredContent {
  readonly objects: readonly StoredObject[]
  readonly files: ReadonlyMap<string, FileRecord>
  readonly tarFileSets: ReadonlyMap<string, readonly string[]>
  /** Number of tars. */
  readonly parts: number
  /** Bytes of all tars, and of what is stored of them. */
  readonly tarBytes: number
  readonly storedBytes: number
  /** Of the pages, by pg_control, which the server sends last; undefined where that does not show it. */
  readonly checksums: ChecksumState | undefined
  /** Paths that the server left out, relative to the data directory. */
  readonly leftOut: readonly string[]
  /** Directories and modes of what it sent. */
  readonly tree: BackupTree
}

/** See the file's header. */
export class BackupReceiver implements BaseBackupSink {
  readonly #options: ReceiverOptions
  readonly #parts: PartWriter
  readonly #rewriter: TarRewriter
  readonly #totalBytes: number | undefined
  #manifest: ObjectWriter | undefined
  #check: IncrementCheck | undefined
  #receivedBytes = 0
  readonly #leftOut = new LeftOutFiles()

  constructor(options: ReceiverOptions) {
    this.#options = options
    this.#parts = new PartWriter(options)
    this.#rewriter = new TarRewriter(this.#parts, options.parent)
    const sizes = options.tablespaces.map(({ sizeBytes }) => sizeBytes)
    this.#totalBytes = sizes.reduce(
      (sum, size) => (sum === undefined || size === undefined ? undefined : sum + size),
      0,
    )
  }

  onArchive(tablespace: BackupTablespace): void | Promise<void> {
    return this.#rewriter.beginArchive(tablespace)
  }

  onData(bytes: Buffer): void | Promise<void> {
    this.#receivedBytes += bytes.length
    this.#options.onProgress({ receivedBytes: this.#receivedBytes, totalBytes: this.#totalBytes })
    return this.#rewriter.feed(bytes)
  }

  onManifest(): void {
    this.#rewriter.end()
    const { codec, folder, parent, signal, storage } = this.#options
    const name = withExtension('backup_manifest', codec.extension)
    this.#manifest = new ObjectWriter(storage, codec, folder, name, signal)
    if (parent) this.#check = new IncrementCheck(this.#rewriter.increments)
  }

  onManifestData(bytes: Buffer): void | Promise<void> {
    this.#check?.write(bytes)
    // A copy, for the encoder holds it longer than the read buffer lasts.
    return this.#manifest?.write(Buffer.from(bytes), () => {})
  }

  onNotice(notice: ServerNotice): void {
    this.#options.log.warn('the server says', { severity: notice['S'], message: notice['M'], detail: notice['D'] })
    this.#leftOut.note(notice)
  }

  /** Drops what is under way. */
  async drop(error: Error): Promise<void> {
    await Promise.all([this.#parts.drop(error), this.#manifest?.drop(error)])
  }

  /**
   * Stores the rest. Resolves when all is durable.
   * @throws WALRX_PROTOCOL when the server left out what every backup has
   */
  async finish(): Promise<StoredContent> {
    this.#rewriter.end()
    const parts = await this.#parts.finish()
    const control = this.#aside('/global/pg_control')
    const label = this.#label()
    const map = this.#rewriter.aside.get('tablespace_map')
    const { codec, hasManifest } = this.#options
    const labels = map ? [map, label] : [label]
    const labelTar = await this.#storeTar(labelFileName(codec.extension), labels)
    const controlTar = await this.#storeTar(controlFileName(codec.extension), [control])
    const manifest = await this.#manifest?.finish()
    if (hasManifest && !manifest) throw new WalrxError('WALRX_PROTOCOL', 'the server sent no manifest')
    this.#check?.end()
    const tars = [...parts, labelTar, controlTar]
    return {
      objects: [...tars, ...(manifest ? [manifest] : [])].map(({ crc32c, name, size }) => ({ name, size, crc32c })),
      files: this.#rewriter.files,
      tarFileSets: new Map([
        ...parts.map((part) => [part.fileName, part.files] as const),
        [labelTar.fileName, labels.map(({ name }) => name)] as const,
      ]),
      parts: tars.length,
      tarBytes: tars.reduce((sum, { tarBytes }) => sum + tarBytes, 0),
      storedBytes: tars.reduce((sum, { size }) => sum + size, 0),
      checksums: parseChecksumState(control.content),
      leftOut: this.#leftOut.list,
      tree: this.#rewriter.tree,
    }
  }

  /** As a server wants it that starts on what is restored. */
  #label(): AsideFile {
    const { parent } = this.#options
    const file = this.#aside('backup_label')
    return parent ? { ...file, content: fullLabel(file.content, parent) } : file
  }

  #aside(name: string): AsideFile {
    const file = this.#rewriter.aside.get(name)
    if (!file) throw new WalrxError('WALRX_PROTOCOL', `the server sent a backup without ${name}`)
    return file
  }

  async #storeTar(fileName: string, files: readonly AsideFile[]) {
    const blocks = files.flatMap(({ content, mode, mtime, name }) => [
      formatHeader({ name, kind: 'file', size: content.length, mode, mtime }),
      content,
      Buffer.alloc(paddingOf(content.length)),
    ])
    const tar = Buffer.concat([...blocks, tarTrailer])
    const { codec, folder, signal, storage } = this.#options
    const stored = await storeObject(storage, codec, folder, `tar_partitions/${fileName}`, tar, signal)
    return { ...stored, fileName, tarBytes: tar.length }
  }
}
