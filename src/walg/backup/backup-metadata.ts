/**
 * A backup's `metadata.json`: what lists of backups show, and where WAL-G keeps its mark of permanence
 * (docs/walg-format.md, 2.2; ExtendedMetadataDto in wal-g: internal/databases/postgres/backup_sentinel_dto.go).
 */
import { formatJson, type JsonValue } from '../../primitives/json/json.ts'
import { type Lsn } from '../../postgres/lsn.ts'
import { JsonDocument, type JsonObject } from '../json-document.ts'
import { backupTimeFormat } from './backup-time.ts'
import type { Sentinel } from './sentinel.ts'

/** See the file's header. The fields are those of {@link Sentinel}. */
export interface BackupMetadata {
  readonly startTime: string | undefined
  readonly finishTime: string | undefined
  readonly hostname: string | undefined
  readonly dataDir: string | undefined
  readonly pgVersion: number | undefined
  readonly startLsn: Lsn | undefined
  readonly finishLsn: Lsn | undefined
  /** What WAL-G goes by; WAL-RUS goes by the sentinel. */
  readonly isPermanent: boolean
  readonly systemIdentifier: bigint | undefined
  readonly uncompressedSize: number
  readonly compressedSize: number
  readonly userData: JsonValue | undefined
  /** Keys that walrx doesn't know, kept for a rewrite. */
  readonly extra: JsonObject
}

/** The metadata of a backup with this sentinel. */
export function metadataOf(sentinel: Sentinel): BackupMetadata {
  return {
    startTime: sentinel.startTime,
    finishTime: sentinel.finishTime,
    hostname: sentinel.hostname,
    dataDir: sentinel.dataDir,
    pgVersion: sentinel.pgVersion,
    startLsn: sentinel.startLsn,
    finishLsn: sentinel.finishLsn,
    isPermanent: sentinel.isPermanent,
    systemIdentifier: sentinel.systemIdentifier,
    uncompressedSize: sentinel.uncompressedSize,
    compressedSize: sentinel.compressedSize,
    userData: sentinel.userData,
    extra: {},
  }
}

/** Go's zero time: what WAL-G writes, and what its list shows, where a time is not known. */
const noTime = '0001-01-01T00:00:00Z'

/** Metadata as JSON, in Go's order of keys. */
export function metadataToJson(metadata: BackupMetadata): JsonObject {
  return {
    start_time: metadata.startTime ?? noTime,
    finish_time: metadata.finishTime ?? noTime,
    date_fmt: backupTimeFormat,
    hostname: metadata.hostname ?? '',
    data_dir: metadata.dataDir ?? '',
    pg_version: metadata.pgVersion ?? 0,
    start_lsn: metadata.startLsn ?? 0,
    finish_lsn: metadata.finishLsn ?? 0,
    is_permanent: metadata.isPermanent,
    system_identifier: metadata.systemIdentifier ?? null,
    uncompressed_size: metadata.uncompressedSize,
    compressed_size: metadata.compressedSize,
    ...(metadata.userData !== undefined && { user_data: metadata.userData }),
    ...metadata.extra,
  }
}

/** The bytes of a metadata.json: compact, 64-bit numbers bare. */
export function formatMetadata(metadata: BackupMetadata): Buffer {
  return Buffer.from(formatJson(metadataToJson(metadata)))
}

/**
 * Reads a metadata.json.
 * @param key of the object, for messages
 * @throws WALRX_OBJECT_DAMAGED naming the key and the field
 */
export function parseMetadata(bytes: Uint8Array, key: string): BackupMetadata {
  const fields = JsonDocument.parse(bytes, key)
  fields.take('date_fmt')
  return {
    startTime: fields.text('start_time'),
    finishTime: fields.text('finish_time'),
    hostname: fields.text('hostname'),
    dataDir: fields.text('data_dir'),
    pgVersion: fields.count('pg_version'),
    startLsn: fields.lsn('start_lsn'),
    finishLsn: fields.lsn('finish_lsn'),
    isPermanent: fields.flag('is_permanent'),
    systemIdentifier: fields.u64('system_identifier'),
    uncompressedSize: fields.count('uncompressed_size') ?? 0,
    compressedSize: fields.count('compressed_size') ?? 0,
    userData: fields.any('user_data'),
    extra: fields.rest(),
  }
}
