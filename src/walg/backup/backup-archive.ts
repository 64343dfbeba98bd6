/**
 * The base backups of an archive, from any writer: their sentinels, documents and parts. What the storage throws goes
 * through as it is.
 */
import { hasCode, WalrxError } from '../../primitives/errors.ts'
import type { ListOptions, ObjectInfo, Storage, StorageCallOptions } from '../../storage/storage.ts'
import { isTempName } from '../../storage/temp-name.ts'
import { openDocument, openObject, readDocument } from '../stored/stored-reader.ts'
import { putDocument } from '../stored/stored-writer.ts'
import { type BackupContents, parseContents } from './backup-contents.ts'
import { checkKeysOf } from './backup-keys.ts'
import { type BackupMetadata, formatMetadata, parseMetadata } from './backup-metadata.ts'
import {
  backupFolder,
  contentsKey,
  filesMetadataKey,
  manifestKey,
  metadataKey,
  nameOfSentinel,
  type PartName,
  parsePartName,
  partsPrefix,
  sentinelKey,
} from './backup-names.ts'
import {
  decodeFilesMetadata,
  embeddedFilesMetadata,
  encodeFilesMetadata,
  type FilesMetadata,
} from './files-metadata.ts'
import { formatSentinel, parseSentinel, type Sentinel } from './sentinel.ts'
import { type BackupFolder, type ListedFolders, listFolder, listFolders, listSentinels } from './backup-listing.ts'

/** A finished backup, as a listing shows it. */
export interface ListedBackup {
  readonly name: string
  /** Of the sentinel: LATEST is the newest, to WAL-G, WAL-RUS and walrx. Milliseconds since 1970. */
  readonly lastModifiedMs: number
}

/** A part of a backup. */
export interface BackupPart extends ObjectInfo, PartName {
  /** Its name within tar_partitions, extension included. */
  readonly fileName: string
}

/**
 * The table of a backup's files: `disabled` when the writer left it out on purpose and says so, `missing` when it should
 * be there (docs/walg-format.md, 2.5: WAL-G goes on then and restores what it finds, which nobody should).
 */
export type FoundFilesMetadata =
  { readonly kind: 'found'; readonly metadata: FilesMetadata } | { readonly kind: 'disabled' | 'missing' }

/** See the file's header. */
export class BackupArchive {
  readonly #storage: Storage

  constructor(storage: Storage) {
    this.#storage = storage
  }

  /** The prefix as an operator writes it. */
  get location(): string {
    return this.#storage.location
  }

  /** All backups that have a sentinel, in byte order of their names; unfinished ones are not among them. */
  async listBackups(options?: StorageCallOptions): Promise<ListedBackup[]> {
    const backups: ListedBackup[] = []
    for (const { key, lastModifiedMs } of await listSentinels(this.#storage, options)) {
      const name = nameOfSentinel(key)
      if (name !== undefined) backups.push({ name, lastModifiedMs })
    }
    return backups
  }

  /** The same, and what lies in the folders of all backups, those without a sentinel too. */
  listFolders(options?: StorageCallOptions): Promise<ListedFolders> {
    return listFolders(this.#storage, options)
  }

  /** What lies in the folder of a backup. */
  listFolder(name: string, options?: StorageCallOptions): Promise<BackupFolder> {
    return listFolder(this.#storage, name, options)
  }

  /** A backup as its listing would show it; undefined where it has no sentinel. */
  async headBackup(name: string, options?: StorageCallOptions): Promise<ListedBackup | undefined> {
    const info = await this.#storage.head(sentinelKey(name), options)
    return info && { name, lastModifiedMs: info.lastModifiedMs }
  }

  /** The bytes of a sentinel. Throws WALRX_BACKUP_NOT_FOUND. */
  async readSentinelBytes(name: string, options?: StorageCallOptions): Promise<Buffer> {
    try {
      return await readDocument(this.#storage, sentinelKey(name), options)
    } catch (error) {
      if (!hasCode(error, 'WALRX_OBJECT_NOT_FOUND')) throw error
      throw new WalrxError('WALRX_BACKUP_NOT_FOUND', `there is no backup ${name} at ${this.location}`, {
        hint: 'walrx backup-list shows the backups of the archive',
        cause: error,
      })
    }
  }

  /** A backup's sentinel. Throws WALRX_BACKUP_NOT_FOUND, WALRX_OBJECT_DAMAGED. */
  async readSentinel(name: string, options?: StorageCallOptions): Promise<Sentinel> {
    return parseSentinel(await this.readSentinelBytes(name, options), this.#at(sentinelKey(name)))
  }

  /** A backup's metadata.json; undefined where there is none (WAL-E, old WAL-G). Throws WALRX_OBJECT_DAMAGED. */
  async readMetadata(name: string, options?: StorageCallOptions): Promise<BackupMetadata | undefined> {
    const key = metadataKey(name)
    try {
      return parseMetadata(await readDocument(this.#storage, key, options), this.#at(key))
    } catch (error) {
      if (hasCode(error, 'WALRX_OBJECT_NOT_FOUND')) return undefined
      throw error
    }
  }

  /** A backup's walrx.json; undefined where walrx did not take the backup. Throws WALRX_OBJECT_DAMAGED. */
  async readContents(name: string, options?: StorageCallOptions): Promise<BackupContents | undefined> {
    const key = contentsKey(name)
    try {
      return parseContents(await readDocument(this.#storage, key, options), this.#at(key))
    } catch (error) {
      if (hasCode(error, 'WALRX_OBJECT_NOT_FOUND')) return undefined
      throw error
    }
  }

  /**
   * The table of a backup's files, from its own object or, in old backups, from the sentinel.
   * @throws WALRX_OBJECT_DAMAGED when it is there but cannot be read
   */
  async readFilesMetadata(
    name: string,
    sentinel: Pick<Sentinel, 'filesMetadataDisabled' | 'extra'>,
    options?: StorageCallOptions,
  ): Promise<FoundFilesMetadata> {
    const key = filesMetadataKey(name)
    try {
      const source = await openDocument(this.#storage, key, options)
      return { kind: 'found', metadata: await decodeFilesMetadata(source, this.#at(key)) }
    } catch (error) {
      if (!hasCode(error, 'WALRX_OBJECT_NOT_FOUND')) throw error
    }
    const embedded = embeddedFilesMetadata(sentinel.extra, this.#at(sentinelKey(name)))
    if (embedded) return { kind: 'found', metadata: embedded }
    return { kind: sentinel.filesMetadataDisabled ? 'disabled' : 'missing' }
  }

  /** The parts of a backup, by name. Unfinished files of a crashed writer are not among them. */
  async listParts(name: string, options?: StorageCallOptions): Promise<BackupPart[]> {
    const prefix = partsPrefix(name)
    const parts: BackupPart[] = []
    for await (const info of this.#storage.list(prefix, options)) {
      const fileName = info.key.slice(prefix.length)
      if (!isTempName(fileName)) parts.push({ ...info, fileName, ...parsePartName(fileName) })
    }
    return parts
  }

  /**
   * Checks that the keys open a backup; see {@link checkKeysOf}.
   * @param parts of the backup
   * @throws WALRX_KEY_WRONG, WALRX_KEY_MISSING, WALRX_KEY_UNAVAILABLE
   */
  checkKeys(parts: readonly BackupPart[], options?: StorageCallOptions): Promise<void> {
    return checkKeysOf(this.#storage, parts, options)
  }

  /** Every object of a backup but its sentinel, finished or not: what a removal removes. */
  listObjects(name: string, options?: ListOptions): AsyncIterable<ObjectInfo> {
    return this.#storage.list(backupFolder(name), options)
  }

  /**
   * The tar stream of a part, decoded by its own extension: parts are not probed for.
   * @throws WALRX_CODEC_UNSUPPORTED for an extension that walrx cannot read; while iterating WALRX_OBJECT_DAMAGED
   */
  async openPart(
    part: Pick<BackupPart, 'key' | 'extension'>,
    options?: StorageCallOptions,
  ): Promise<AsyncIterable<Uint8Array>> {
    return (await openObject(this.#storage, part, options)).body
  }

  /** Where the server's manifest is stored, under whatever extension; undefined where there is none. */
  async findManifest(
    name: string,
    options?: StorageCallOptions,
  ): Promise<(ObjectInfo & { readonly extension: string }) | undefined> {
    const bare = manifestKey(name, '')
    for await (const info of this.#storage.list(bare, options)) {
      const rest = info.key.slice(bare.length)
      if (!isTempName(info.key) && (rest === '' || /^\.[^./]*$/.test(rest)))
        return { ...info, extension: rest.slice(1) }
    }
    return undefined
  }

  /** Writes a new backup's files_metadata.json as a stream. Not for WAL-G's: its DatabasesByNames would be lost. */
  putFilesMetadata(name: string, metadata: FilesMetadata, options?: StorageCallOptions): Promise<void> {
    return putDocument(this.#storage, filesMetadataKey(name), encodeFilesMetadata(metadata), options)
  }

  /** Writes metadata.json. */
  putMetadata(name: string, metadata: BackupMetadata, options?: StorageCallOptions): Promise<void> {
    return putDocument(this.#storage, metadataKey(name), formatMetadata(metadata), options)
  }

  /** Writes a new backup's sentinel: from now on the backup exists, and it is LATEST. */
  putSentinel(name: string, sentinel: Sentinel, options?: StorageCallOptions): Promise<void> {
    return this.putSentinelBytes(name, formatSentinel(sentinel), options)
  }

  /** Writes a sentinel's bytes as they are. */
  putSentinelBytes(name: string, bytes: Uint8Array, options?: StorageCallOptions): Promise<void> {
    return putDocument(this.#storage, sentinelKey(name), bytes, options)
  }

  #at(key: string): string {
    return `${this.location}/${key}`
  }
}
