/**
 * Names of backups and of the objects that a backup consists of (docs/walg-format.md, 1.2, 1.3; wal-g:
 * internal/backup.go).
 */
import { type Lsn, type Timeline } from '../../postgres/lsn.ts'
import { segmentNameAt } from '../../postgres/wal/wal-file.ts'
import { backupObjects, basebackupsFolder, intentsPrefix, sentinelSuffix } from '../names.ts'

/** A backup's name, taken apart. */
export interface BackupName {
  readonly name: string
  /** The segment that it starts in: 24 hex digits. */
  readonly segment: string
  readonly timeline: Timeline
  /** What follows the first `_D_` of a delta; never derive the parent from it: WAL-G and WAL-RUS write other things. */
  readonly deltaSuffix: string | undefined
}

/**
 * Name of a full backup over the replication protocol: the segment of its start LSN, without the minus one of WAL-G's
 * local mode (wal-g: internal/databases/postgres/streaming_base_backup.go).
 */
export function backupName(timeline: Timeline, startLsn: Lsn, segmentSize: number): string {
  return `base_${segmentNameAt(timeline, startLsn, segmentSize)}`
}

/**
 * Name of a delta over the replication protocol, as WAL-G calls it: the parent by the first segment in its name, however
 * long its chain is (wal-g: internal/databases/postgres/backup_push_handler.go).
 */
export function deltaName(timeline: Timeline, startLsn: Lsn, segmentSize: number, parentName: string): string {
  const parentSegment = /[0-9A-F]{24}/.exec(parentName)?.[0] ?? ''
  return `${backupName(timeline, startLsn, segmentSize)}_D_${parentSegment}`
}

/**
 * `base_<24>`, then for a delta `_D_<24>` once (WAL-G) or once for every step of the chain (WAL-RUS), and WAL-E's
 * `_<8>`, the offset within the segment.
 */
const backupNamePattern = /^base_([0-9A-F]{24})((?:_D_[0-9A-F]{24})*)(?:_[0-9A-F]{8})?$/

/** Takes the name of a backup apart; undefined for what is none. */
export function parseBackupName(name: string): BackupName | undefined {
  const match = backupNamePattern.exec(name)
  if (!match) return undefined
  const [, segment = '', delta = ''] = match
  const deltaSuffix = delta === '' ? undefined : delta.slice('_D_'.length)
  return { name, segment, timeline: parseInt(segment.slice(0, 8), 16), deltaSuffix }
}

/** Key of the sentinel: without it the backup does not exist. */
export function sentinelKey(name: string): string {
  return `${basebackupsFolder}${name}${sentinelSuffix}`
}

/** Name of the backup that this sentinel belongs to; undefined for every other key. */
export function nameOfSentinel(key: string): string | undefined {
  if (!key.startsWith(basebackupsFolder) || !key.endsWith(sentinelSuffix)) return undefined
  const name = key.slice(basebackupsFolder.length, -sentinelSuffix.length)
  return name === '' || name.includes('/') ? undefined : name
}

/** Prefix of everything that belongs to a backup but its sentinel. */
export function backupFolder(name: string): string {
  return `${basebackupsFolder}${name}/`
}

/** Key of metadata.json: what lists of backups show. */
export function metadataKey(name: string): string {
  return backupFolder(name) + backupObjects.metadata
}

/** Key of files_metadata.json: which files a restore takes from the parts. */
export function filesMetadataKey(name: string): string {
  return backupFolder(name) + backupObjects.filesMetadata
}

/** Prefix of the parts. WAL-G extracts whatever lies there as a tar, so nothing else may. */
export function partsPrefix(name: string): string {
  return backupFolder(name) + backupObjects.parts
}

/** Key of a part by its file name, extension included. */
export function partKey(name: string, fileName: string): string {
  return partsPrefix(name) + fileName
}

/** `<base>.<extension>`, without a dot where there is none (method `none`). */
export function withExtension(base: string, extension: string): string {
  return extension === '' ? base : `${base}.${extension}`
}

/** File name of part `number` (from 1): at least three digits, `part_001.tar.zst`. */
export function partFileName(number: number, extension: string): string {
  return withExtension(`part_${String(number).padStart(3, '0')}.tar`, extension)
}

/** File name of the part that holds pg_control alone and is extracted last. */
export function controlFileName(extension: string): string {
  return withExtension('pg_control.tar', extension)
}

/** File name of the part that holds backup_label and tablespace_map. */
export function labelFileName(extension: string): string {
  return withExtension('backup_label.tar', extension)
}

/** What a part is for: pg_control is put in place after everything else, the label after the data. */
export type PartKind = 'data' | 'control' | 'label'

/** A part's file name, taken apart. */
export interface PartName {
  /** Without the extension: `part_001.tar`. */
  readonly base: string
  /** Of the codec, without the dot; '' for none, also where WAL-G up to 3.0.8 left a trailing dot. */
  readonly extension: string
  readonly kind: PartKind
}

/**
 * Takes a part's file name apart as WAL-G does: the last extension is the codec, `.tar` and none are no compression
 * (wal-g: internal/extract.go). The extension may be one that walrx cannot read.
 */
export function parsePartName(fileName: string): PartName {
  const dot = fileName.lastIndexOf('.')
  const last = dot === -1 ? '' : fileName.slice(dot + 1)
  const isPlain = dot === -1 || last === 'tar'
  const base = isPlain ? fileName : fileName.slice(0, dot)
  // WAL-G looks for these anywhere before the extension (tars_to_extract_provider.go: `pg_control\.tar(\..+$|$)`).
  const kind = base.endsWith('pg_control.tar') ? 'control' : base.endsWith('backup_label.tar') ? 'label' : 'data'
  return { base, extension: isPlain ? '' : last, kind }
}

/** Key of the server's own manifest, verbatim. Outside of tar_partitions, where it would break WAL-G's restore. */
export function manifestKey(name: string, extension: string): string {
  return backupFolder(name) + withExtension(backupObjects.manifest, extension)
}

/** Key of walrx's list of the objects that a backup consists of, with their sizes and checksums. */
export function contentsKey(name: string): string {
  return backupFolder(name) + backupObjects.contents
}

/** Key of the intent of a backup: once nobody renews it, the backup's objects may be removed. */
export function intentKey(name: string): string {
  return `${intentsPrefix}${name}.json`
}

/** The backup that an intent is of; undefined for any other key. */
export function nameOfIntent(key: string): string | undefined {
  if (!key.startsWith(intentsPrefix) || !key.endsWith('.json')) return undefined
  const name = key.slice(intentsPrefix.length, -'.json'.length)
  return name === '' || name.includes('/') ? undefined : name
}
