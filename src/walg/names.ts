/**
 * Names of objects in a bucket that WAL-G, WAL-RUS and walrx share (wal-g: utility/utility.go), and those of our own.
 * All keys are relative to the storage's prefix.
 */
import { extensions, unsupportedExtensions } from '../compression/codecs.ts'
import { walFileKind, type WalFileKind } from '../postgres/wal/wal-file.ts'
import type { StorageFolders } from '../storage/storage.ts'

/** WAL segments, histories, partials, backup labels; WAL-G also keeps delta maps and metadata here. */
export const walFolder = 'wal_005/'

/** Base backups. */
export const basebackupsFolder = 'basebackups_005/'

/** What only walrx reads: neither WAL-G nor WAL-RUS lists it. */
export const walrxFolder = 'walrx_005/'

/** Where partials go that contradict the one under the common name. */
export const divergedFolder = `${walrxFolder}partial/`

/** What the archive will never have; see gap-records.ts. */
export const gapFolder = `${walrxFolder}gap/`

/** The marker that binds an archive to one cluster. */
export const systemKey = `${walrxFolder}system.json`

/** Tails of segments that are not whole yet: `<timeline>/<segment>/<from>-<to>` below it. */
export const tailFolder = `${walrxFolder}tail/`

/** Chunks that were set aside: nothing reads them. */
export const asideFolder = `${walrxFolder}aside/`

/** The folders that a storage has to know; see {@link StorageFolders}. */
export const archiveFolders: StorageFolders = {
  probe: `${walrxFolder}probe`,
  durable: walFolder.slice(0, -1),
  swept: tailFolder.slice(0, -1),
  own: [walFolder, basebackupsFolder, walrxFolder].map((folder) => folder.slice(0, -1)),
}

/** End of a sentinel's key. */
export const sentinelSuffix = '_backup_stop_sentinel.json'

/** Names of a backup's objects below its own folder; the manifest's may be followed by a codec's extension. */
export const backupObjects = {
  metadata: 'metadata.json',
  filesMetadata: 'files_metadata.json',
  contents: 'walrx.json',
  manifest: 'backup_manifest',
  /** Folder of the parts. */
  parts: 'tar_partitions/',
} as const

/** Prefix of the intents of backups. */
export const intentsPrefix = `${walrxFolder}backups/`

/** Which backups a walrx delete at work is removing. */
export const deletionKey = `${walrxFolder}deletion.json`

/** Sentinels that a walrx delete at work has removed, by the names of their objects, so that they can be put back. */
export const deletedFolder = `${walrxFolder}deletion/`

/** What checks of backups have found, by the names of the backups. */
export const verifiedFolder = `${walrxFolder}verified/`

/** What a walrx backup-mark at work is going to do. */
export const sentinelOrderKey = `${walrxFolder}sentinel-order.json`

/** Key of a WAL file: `wal_005/<name>.<extension>`, without a dot when there is no extension. */
export function walKey(name: string, extension: string): string {
  return extension === '' ? walFolder + name : `${walFolder}${name}.${extension}`
}

/** Offsets of a chunk within its segment, in bytes: `from` inclusive, `to` exclusive. */
export interface TailRange {
  readonly from: number
  readonly to: number
}

/** Folder of a segment's chunks. */
export function tailFolderOf(segment: string): string {
  return `${tailFolder}${segment.slice(0, 8)}/${segment}/`
}

/** Key of a chunk: `walrx_005/tail/<8>/<24>/<from>-<to>.<extension>`, offsets as 8 hex digits, so that they sort. */
export function tailKey(segment: string, { from, to }: TailRange, extension: string): string {
  const name = [from, to].map((offset) => offset.toString(16).toUpperCase().padStart(8, '0')).join('-')
  return tailFolderOf(segment) + (extension === '' ? name : `${name}.${extension}`)
}

/** A chunk's key, taken apart. */
export interface TailObjectName extends TailRange {
  /** Name of the segment that it is of. */
  readonly segment: string
  /** Without the dot; '' for none. */
  readonly extension: string
}

/** Takes a chunk's key apart; undefined for anything else. */
export function parseTailKey(key: string): TailObjectName | undefined {
  if (!key.startsWith(tailFolder)) return undefined
  const match = /^([0-9A-F]{8})\/(\1[0-9A-F]{16})\/([0-9A-F]{8})-([0-9A-F]{8})(?:\.([a-z0-9]+))?$/.exec(
    key.slice(tailFolder.length),
  )
  if (!match) return undefined
  const [segment = '', from = '', to = '', extension = ''] = match.slice(2)
  const range = { from: parseInt(from, 16), to: parseInt(to, 16) }
  return range.from < range.to ? { segment, ...range, extension } : undefined
}

/** Extensions that a WAL file may have; one of `unsupportedExtensions` is found all the same, so that it can be named. */
const walExtensions: ReadonlySet<string> = new Set([...Object.values(extensions), ...unsupportedExtensions])

const segmentKey = new RegExp(`^${walFolder}([0-9A-F]{24})\\.([a-z0-9]+)$`)

/** A key of `wal_005`, taken apart. */
export interface WalObjectName {
  /** The WAL file's own name. */
  readonly name: string
  /** Without the dot; '' for none, also where WAL-G up to 3.0.8 left a trailing dot. */
  readonly extension: string
  readonly kind: WalFileKind
}

/**
 * Takes a key of `wal_005` apart; undefined for what is no WAL file: metadata (`<24>.json`, `<23>.json`), delta maps
 * (`<24>_delta.<ext>`), temporary files. An extension-less `<24>.partial` is a partial, never a segment. (WAL-G's
 * wal-show cuts one extension off and counts every 24 characters that remain as a segment, which hides gaps.)
 */
export function parseWalKey(key: string): WalObjectName | undefined {
  if (!key.startsWith(walFolder)) return undefined
  // Nearly all of them, a million in a listing.
  const common = segmentKey.exec(key)
  const [, segment = '', suffix = ''] = common ?? []
  if (common && walExtensions.has(suffix)) return { name: segment, extension: suffix, kind: 'segment' }
  const object = key.slice(walFolder.length)
  const whole = walFileKind(object)
  if (whole) return { name: object, extension: '', kind: whole }
  const dot = object.lastIndexOf('.')
  if (dot === -1) return undefined
  const name = object.slice(0, dot)
  const extension = object.slice(dot + 1)
  const kind = walFileKind(name)
  return kind && walExtensions.has(extension) ? { name, extension, kind } : undefined
}
