/**
 * The sentinel of a backup, `<name>_backup_stop_sentinel.json`: written last, and only it makes a backup exist
 * (docs/walg-format.md, 2.1; wal-g: internal/databases/postgres/backup_sentinel_dto.go, wal-rus: src/pg/backup/mod.rs).
 */
import { formatJson, type JsonValue } from '../../primitives/json/json.ts'
import type { Lsn } from '../../postgres/lsn.ts'
import { JsonDocument, type JsonObject } from '../json-document.ts'
import { backupTimeFormat } from './backup-time.ts'
import { readSpec, specToJson, type TablespaceSpec } from './tablespace-spec.ts'

/** What makes a backup a delta. */
export interface DeltaOrigin {
  /** Name of the backup that it builds on: the link that counts, whatever the names say. */
  readonly parentName: string
  /** The parent's start LSN. */
  readonly parentLsn: Lsn | undefined
  /** Name of the full backup at the root. */
  readonly fullName: string | undefined
  /** Steps from the full backup; 1 for the first delta. */
  readonly count: number | undefined
  /** `native` for PostgreSQL 17's own increments (WAL-RUS only); undefined for WAL-G's. */
  readonly incrementFormat: string | undefined
}

/** A sentinel. What an old one doesn't say is undefined. */
export interface Sentinel {
  readonly startLsn: Lsn | undefined
  readonly delta: DeltaOrigin | undefined
  /** server_version_num: 170005. */
  readonly pgVersion: number | undefined
  readonly finishLsn: Lsn | undefined
  readonly systemIdentifier: bigint | undefined
  /** Bytes before compression: sum of the tar streams. */
  readonly uncompressedSize: number
  /** Bytes as stored, without the JSON documents. */
  readonly compressedSize: number
  /** Bytes of the data directory; 0 where nobody knew. */
  readonly dataCatalogSize: number
  readonly spec: TablespaceSpec | undefined
  /** Whatever `--add-user-data` said. */
  readonly userData: JsonValue | undefined
  /** True where files_metadata.json is left out on purpose. */
  readonly filesMetadataDisabled: boolean
  /** 2; old sentinels say none. */
  readonly version: number | undefined
  /** RFC 3339 text. */
  readonly startTime: string | undefined
  readonly finishTime: string | undefined
  /** Host that the backup was taken from by the tool: not the server's. */
  readonly hostname: string | undefined
  /** The server's data directory. */
  readonly dataDir: string | undefined
  /** What WAL-RUS goes by; WAL-G goes by metadata.json. */
  readonly isPermanent: boolean
  /** Keys that walrx doesn't know, kept for a rewrite: OrioleDB's, old ones, those to come. */
  readonly extra: JsonObject
}

/** Written where a time is not known: Go's zero time, which both tools parse. */
const noTime = '0001-01-01T00:00:00Z'

/** A sentinel's bytes: compact, Go's order of keys, 64-bit numbers bare; what Go omits when empty is left out. */
export function formatSentinel(sentinel: Sentinel): Buffer {
  const { delta } = sentinel
  const { ChkpNum: checkpointNumber = null, ...extra } = sentinel.extra
  return Buffer.from(
    formatJson({
      LSN: sentinel.startLsn ?? null,
      ...(delta && deltaToJson(delta)),
      PgVersion: sentinel.pgVersion ?? 0,
      FinishLSN: sentinel.finishLsn ?? null,
      ...(sentinel.systemIdentifier !== undefined && { SystemIdentifier: sentinel.systemIdentifier }),
      UncompressedSize: sentinel.uncompressedSize,
      CompressedSize: sentinel.compressedSize,
      ...(sentinel.dataCatalogSize !== 0 && { DataCatalogSize: sentinel.dataCatalogSize }),
      ...(sentinel.spec && { Spec: specToJson(sentinel.spec) }),
      ...(sentinel.userData !== undefined && { UserData: sentinel.userData }),
      ...(sentinel.filesMetadataDisabled && { FilesMetadataDisabled: true }),
      ChkpNum: checkpointNumber,
      Version: sentinel.version ?? 2,
      StartTime: sentinel.startTime ?? noTime,
      FinishTime: sentinel.finishTime ?? noTime,
      DateFmt: backupTimeFormat,
      Hostname: sentinel.hostname ?? '',
      DataDir: sentinel.dataDir ?? '',
      IsPermanent: sentinel.isPermanent,
      ...extra,
    }),
  )
}

function deltaToJson({ parentName, parentLsn, fullName, count, incrementFormat }: DeltaOrigin): JsonObject {
  return {
    ...(parentLsn !== undefined && { DeltaLSN: parentLsn }),
    DeltaFrom: parentName,
    ...(fullName !== undefined && { DeltaFullName: fullName }),
    ...(count !== undefined && { DeltaCount: count }),
    ...(incrementFormat !== undefined && { IncrementFormat: incrementFormat }),
  }
}

/**
 * Reads a sentinel of WAL-G (any version), WAL-RUS or WAL-E.
 * @param key of the object, for messages
 * @throws WALRX_OBJECT_DAMAGED naming the key and the field: no JSON object, an LSN that is no number, a delta without
 * its parent
 */
export function parseSentinel(bytes: Uint8Array, key: string): Sentinel {
  const fields = JsonDocument.parse(bytes, key)
  const spec = fields.take('Spec')
  fields.take('DateFmt')
  return {
    startLsn: fields.lsn('LSN'),
    delta: readDelta(fields),
    pgVersion: fields.count('PgVersion'),
    finishLsn: fields.lsn('FinishLSN'),
    systemIdentifier: fields.u64('SystemIdentifier'),
    uncompressedSize: fields.count('UncompressedSize') ?? 0,
    compressedSize: fields.count('CompressedSize') ?? 0,
    dataCatalogSize: fields.count('DataCatalogSize') ?? 0,
    spec: spec === undefined ? undefined : readSpec(spec, key),
    userData: fields.any('UserData'),
    filesMetadataDisabled: fields.flag('FilesMetadataDisabled'),
    version: fields.count('Version'),
    startTime: fields.text('StartTime'),
    finishTime: fields.text('FinishTime'),
    hostname: fields.text('Hostname'),
    dataDir: fields.text('DataDir'),
    isPermanent: fields.flag('IsPermanent'),
    extra: fields.rest(),
  }
}

/** Any of the delta's keys makes a delta: one that is taken for a full backup would be restored as rubbish. */
function readDelta(fields: JsonDocument): DeltaOrigin | undefined {
  const parentName = fields.text('DeltaFrom')
  // The second is its name in old sentinels (DeprecatedSentinelFields).
  const parentLsn = fields.lsn('DeltaLSN') ?? fields.lsn('DeltaFromLSN')
  const fullName = fields.text('DeltaFullName')
  const count = fields.count('DeltaCount')
  const incrementFormat = fields.text('IncrementFormat')
  const isFull = [parentName, parentLsn, fullName, count, incrementFormat].every((value) => value === undefined)
  if (isFull) return undefined
  if (parentName === undefined || parentName === '') throw fields.wrong('DeltaFrom', parentName, 'the name of a parent')
  return { parentName, parentLsn, fullName, count, incrementFormat }
}

/** True for a delta: it cannot be restored without its parents. */
export function isDelta(sentinel: Pick<Sentinel, 'delta'>): boolean {
  return sentinel.delta !== undefined
}

/**
 * The same sentinel with another mark of permanence; everything else, and the order of keys, stays as it was written.
 * @param key of the object, for messages
 * @throws WALRX_OBJECT_DAMAGED for what is not a JSON object
 */
export function withPermanence(bytes: Uint8Array, isPermanent: boolean, key: string): Buffer {
  return Buffer.from(formatJson({ ...JsonDocument.parse(bytes, key).rest(), IsPermanent: isPermanent }))
}
