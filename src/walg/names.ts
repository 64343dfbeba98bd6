/**
 * Names of objects in a bucket that WAL-G, WAL-RUS and walrx share (wal-g: utility/utility.go), and those of our own.
 * All keys are relative to the storage's prefix.
 */
import { extensions, unsupportedExtensions } from '../compression/codecs.ts'
import { walFileKind, type WalFileKind } from '../postgres/wal-file.ts'

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

/** End of a sentinel's key. */
export const sentinelSuffix = '_backup_stop_sentinel.json'

/** Key of a WAL file: `wal_005/<name>.<extension>`, without a dot when there is no extension. */
export function walKey(name: string, extension: string): string {
  return extension === '' ? walFolder + name : `${walFolder}${name}.${extension}`
}

/** Extensions that a WAL file may have; one of `unsupportedExtensions` is found all the same, so that it can be named. */
const walExtensions: ReadonlySet<string> = new Set([...Object.values(extensions), ...unsupportedExtensions])

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
