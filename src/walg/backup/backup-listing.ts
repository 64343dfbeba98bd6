/** What listings show of the backups of an archive: their sentinels alone, or all that lies in their folders. */
import { listInPages, type ObjectInfo, type Storage, type StorageCallOptions } from '../../storage/storage.ts'
import { isTempName } from '../../storage/temp-name.ts'
import { isJsonObject } from '../json-document.ts'
import { backupObjects, basebackupsFolder, sentinelSuffix } from '../names.ts'
import { backupFolder, nameOfSentinel, parsePartName } from './backup-names.ts'
import type { Sentinel } from './sentinel.ts'

/**
 * Objects of one backup that are read past before a new listing leaps over the rest. A new listing costs a request to S3,
 * which lists 1000 objects at a time, and in a directory it reads the names of all backups again.
 */
const readPastMax = 1000

/**
 * All sentinels in byte order of their keys. What else a backup consists of lies in a folder of its name, and `base_X/`
 * sorts before `base_X_backup_stop_sentinel.json`. Backups of a few objects are listed as they come: 10,000 of them are 50
 * requests to S3. What is left of a larger one is leapt over by a new listing.
 */
export async function listSentinels(
  storage: Pick<Storage, 'list'>,
  options?: StorageCallOptions,
): Promise<ObjectInfo[]> {
  const sentinels: ObjectInfo[] = []
  let startAfter: string | undefined
  for (let isMore = true; isMore;) {
    isMore = false
    const listOptions = startAfter === undefined ? options : { ...options, startAfter }
    let folder = ''
    let count = 0
    for await (const info of storage.list(basebackupsFolder, listOptions)) {
      const slash = info.key.indexOf('/', basebackupsFolder.length)
      if (slash === -1) {
        if (info.key.endsWith(sentinelSuffix)) sentinels.push(info)
        continue
      }
      const isSame = info.key.startsWith(folder) && folder.length === slash + 1
      if (!isSame) folder = info.key.slice(0, slash + 1)
      count = isSame ? count + 1 : 1
      if (count <= readPastMax) continue
      // '0' is the successor of '/': after everything in this folder.
      startAfter = `${info.key.slice(0, slash)}0`
      isMore = true
      break
    }
  }
  return sentinels
}

/** What lies in the folder of a backup. */
export interface BackupFolder {
  readonly objects: number
  readonly bytes: number
  /** Of the parts alone. */
  readonly partBytes: number
  /** True where one of the parts is that of pg_control, without which nothing starts. */
  readonly hasControl: boolean
  /** True where one of the parts has files of the cluster. */
  readonly hasData: boolean
  /** True where files_metadata.json is there, and not empty. */
  readonly hasFileTable: boolean
  /** Whether walrx.json is there: walrx took the backup. */
  readonly contents: 'none' | 'empty' | 'found'
  /** True where the server's manifest is there, and not empty. */
  readonly hasManifest: boolean
  /** True where one of the parts has no bytes: no tar is that short, encoded or not. */
  readonly hasEmptyPart: boolean
  /** When the newest of them was written, in milliseconds since 1970 by the clock of the storage. */
  readonly newestMs: number
}

/** The folder of a backup that has none. */
export const noFolder: BackupFolder = {
  objects: 0,
  bytes: 0,
  partBytes: 0,
  hasControl: false,
  hasData: false,
  hasFileTable: false,
  contents: 'none',
  hasManifest: false,
  hasEmptyPart: false,
  newestMs: 0,
}

/** The sentinel of a backup. */
export interface ListedSentinel extends Pick<ObjectInfo, 'lastModifiedMs' | 'size'> {
  /** Of the backup. */
  readonly name: string
}

/** What a listing of all backups shows. */
export interface ListedFolders {
  /** In the order of their names. */
  readonly listed: readonly ListedSentinel[]
  /** By name, those of backups without a sentinel too. */
  readonly folders: ReadonlyMap<string, BackupFolder>
  /** Bytes of objects that belong to no backup. */
  readonly otherBytes: number
}

/** Lists every object of all backups, and sums them up as they come. Throws what the storage says. */
export async function listFolders(
  storage: Pick<Storage, 'list' | 'listPages'>,
  options?: StorageCallOptions,
): Promise<ListedFolders> {
  const listed: ListedSentinel[] = []
  const folders = new Map<string, BackupFolder>()
  let otherBytes = 0
  const add = (info: ObjectInfo) => {
    const { key, lastModifiedMs, size } = info
    const slash = key.indexOf('/', basebackupsFolder.length)
    if (slash < 0) {
      const name = nameOfSentinel(key)
      if (name === undefined) otherBytes += size
      else listed.push({ name, lastModifiedMs, size })
      return
    }
    const name = key.slice(basebackupsFolder.length, slash)
    folders.set(name, withObject(folders.get(name) ?? noFolder, info, key.slice(slash + 1)))
  }
  for await (const page of listInPages(storage, basebackupsFolder, options)) for (const info of page) add(info)
  return { listed, folders, otherBytes }
}

/** @param path of the object within the folder */
function withObject(folder: BackupFolder, { lastModifiedMs, size }: ObjectInfo, path: string): BackupFolder {
  const isPart = path.startsWith(backupObjects.parts) && !isTempName(path)
  const kind = isPart ? parsePartName(path).kind : undefined
  return {
    objects: folder.objects + 1,
    bytes: folder.bytes + size,
    partBytes: folder.partBytes + (isPart ? size : 0),
    hasControl: folder.hasControl || kind === 'control',
    hasData: folder.hasData || kind === 'data',
    hasFileTable: folder.hasFileTable || (path === backupObjects.filesMetadata && size > 0),
    contents: path !== backupObjects.contents ? folder.contents : size > 0 ? 'found' : 'empty',
    hasManifest: folder.hasManifest || (path.startsWith(backupObjects.manifest) && !isTempName(path) && size > 0),
    hasEmptyPart: folder.hasEmptyPart || (isPart && size === 0),
    newestMs: Math.max(folder.newestMs, lastModifiedMs),
  }
}

/** Lists the folder of one backup. Throws what the storage says. */
export async function listFolder(
  storage: Pick<Storage, 'list'>,
  name: string,
  options?: StorageCallOptions,
): Promise<BackupFolder> {
  const prefix = backupFolder(name)
  let folder = noFolder
  for await (const info of storage.list(prefix, options))
    folder = withObject(folder, info, info.key.slice(prefix.length))
  return folder
}

/**
 * What a backup lacks that every restore needs, as far as its sentinel and a listing show it; undefined for nothing. A
 * restore checks the same, and each object besides.
 *
 * The parts have as many bytes as the sentinel counts at least: each of the tools counts what it has uploaded, and some
 * leave small parts out of the count.
 */
export function lackOf(
  sentinel: Pick<Sentinel, 'compressedSize' | 'extra' | 'filesMetadataDisabled'>,
  folder: BackupFolder,
): string | undefined {
  const { contents, hasControl, hasData, hasEmptyPart, hasFileTable, hasManifest, partBytes } = folder
  const { compressedSize = 0, extra, filesMetadataDisabled } = sentinel
  if (!hasControl) return 'has no part with pg_control'
  if (!hasData) return 'has no part with data'
  if (hasEmptyPart) return 'has a part of 0 bytes'
  if (partBytes < compressedSize) return `has ${partBytes} bytes of parts instead of ${compressedSize}`
  if (!hasFileTable && !filesMetadataDisabled && !isJsonObject(extra['Files']))
    return `has no ${backupObjects.filesMetadata}`
  if (contents === 'empty') return `has a ${backupObjects.contents} of 0 bytes`
  // walrx stores both with every backup; those of the other tools have neither.
  if (contents === 'found' && !hasManifest) return `has no ${backupObjects.manifest}`
  return undefined
}
