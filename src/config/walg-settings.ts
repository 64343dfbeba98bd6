/**
 * WAL-G's other settings: those that walrx has no option for. A setting that would change what is stored, or where, stops
 * the start. The rest is known, so that it raises no warning.
 */
import type { CommandSet } from './options/option-types.ts'

/** One row: what becomes of settings that walrx doesn't have. */
export interface WalgSetting {
  /** `WALG_X` also stands for `WALE_X`; `AWS_X` and `S3_X` also for their prefixed forms. */
  readonly names: readonly string[]
  /** `refused` stops the start, `warned` says so once in the log, `ignored` only at log level debug. */
  readonly treatment: 'refused' | 'warned' | 'ignored'
  /** Completes the sentence "NAME is set, but …". */
  readonly reason: string
  /** What to do instead. */
  readonly hint?: string
  /** Values with which the setting changes nothing. */
  readonly harmless?: RegExp
  /** Commands that it concerns. Default all. */
  readonly commands?: CommandSet
}

const off = /^(false|f|no|off|0)$/i

/** The rows. A setting is in one of them, in the option table, or unknown. */
export const walgSettings: readonly WalgSetting[] = [
  {
    names: [
      'YC_CSE_KMS_KEY_ID',
      'WALG_ENVELOPE_PGP_KEY',
      'WALG_ENVELOPE_PGP_KEY_PATH',
      'WALG_ENVELOPE_PGP_YC_CSE_KMS_KEY_ID',
    ],
    treatment: 'refused',
    reason: "walrx doesn't use the key service of Yandex Cloud, and reads no object that was encrypted by it",
    hint: 'begin a new archive with WALG_LIBSODIUM_KEY_PATH or WALG_PGP_KEY_PATH, and restore from this one with WAL-G',
  },
  {
    names: ['WALG_GS_PREFIX', 'WALG_AZ_PREFIX', 'WALG_SWIFT_PREFIX', 'WALG_SSH_PREFIX', 'WALG_OSS_PREFIX'],
    treatment: 'refused',
    reason: 'walrx stores in S3 or a directory only',
    hint: 'set WALG_S3_PREFIX or WALG_FILE_PREFIX, and unset this one',
  },
  {
    names: ['WALG_FAILOVER_STORAGES', 'WALG_TARGET_STORAGE'],
    treatment: 'refused',
    reason: 'walrx knows one storage only',
    harmless: /^(default|\{\s*\})$/i,
  },
  {
    names: ['WALG_UPLOAD_WAL_METADATA'],
    treatment: 'refused',
    reason: "walrx doesn't write metadata objects beside segments",
    harmless: /^NOMETADATA$/i,
    commands: ['all that archive'],
  },
  {
    names: ['WALG_USE_WAL_DELTA', 'WALG_FORCE_WAL_DELTA'],
    treatment: 'refused',
    reason: "walrx doesn't write _delta objects, and a delta backup of WAL-G that needs them would scan or fail",
    harmless: off,
    commands: ['all that archive'],
  },
  {
    names: ['S3_RETENTION_PERIOD'],
    treatment: 'refused',
    reason: "walrx doesn't lock objects",
    hint: "let the bucket's default retention do it",
    harmless: /^-1$/,
    commands: ['all that archive'],
  },
  {
    names: ['S3_REQUEST_ADDITIONAL_HEADERS'],
    treatment: 'refused',
    reason: 'walrx sends no additional headers, and they may change how objects are stored',
  },
  {
    names: ['S3_ENDPOINT_SOURCE', 'S3_ENDPOINT_PROTOCOL'],
    treatment: 'refused',
    reason: "walrx doesn't discover endpoints",
    hint: 'set AWS_ENDPOINT',
  },
  {
    names: ['S3_USE_YC_SESSION_TOKEN'],
    treatment: 'refused',
    reason: "walrx doesn't fetch credentials from Yandex Cloud",
    harmless: off,
  },
  {
    names: ['WALG_PG_BLOCK_SIZE', 'WALG_PG_WAL_PAGE_SIZE'],
    treatment: 'refused',
    reason: 'walrx knows WAL in pages of 8192 bytes only',
    harmless: /^8192$/,
  },
  {
    names: ['WALG_NETWORK_RATE_LIMIT'],
    treatment: 'warned',
    reason: 'walrx has no rate limit',
  },
  {
    names: ['WALG_LOG_DESTINATION'],
    treatment: 'warned',
    reason: 'walrx logs to standard error only',
    harmless: /^stderr$/i,
  },
  {
    names: ['WALG_STATSD_ADDRESS'],
    treatment: 'warned',
    reason: 'walrx has its metrics at /metrics only',
  },
  {
    names: ['AWS_DUAL_STACK'],
    treatment: 'warned',
    reason: 'walrx takes AWS_USE_DUALSTACK_ENDPOINT instead, as the AWS SDK does',
    harmless: off,
  },
  {
    names: ['S3_USE_LIST_OBJECTS_V1'],
    treatment: 'warned',
    reason: 'walrx lists objects by version 2 of the request only',
    harmless: off,
  },
  {
    names: ['WALG_PREFETCH_DIR'],
    treatment: 'warned',
    reason: 'walrx prefetches into pg_wal/.walrx, so that a segment only needs to be renamed',
    commands: ['wal-fetch', 'restore-command'],
  },
  {
    names: ['WALG_PREVENT_WAL_OVERWRITE'],
    treatment: 'ignored',
    reason: 'walrx never overwrites WAL with other bytes',
  },
  {
    names: ['S3_RETENTION_MODE'],
    treatment: 'ignored',
    reason: 'it has no effect without S3_RETENTION_PERIOD',
  },
  {
    names: ['WALG_DIRECT_IO', 'WALG_DIRECT_IO_BLOCK_COUNT'],
    treatment: 'ignored',
    reason: 'it has no effect on what is stored',
  },
  {
    names: [
      'YC_SERVICE_ACCOUNT_KEY_FILE',
      'WALG_ENVELOPE_PGP_YC_SERVICE_ACCOUNT_KEY_FILE',
      'WALG_ENVELOPE_PGP_YC_ENDPOINT',
      'WALG_ENVELOPE_CACHE_EXPIRATION',
    ],
    treatment: 'ignored',
    reason: 'it has no effect without a key',
  },
  {
    names: [
      'S3_ENDPOINT_PORT',
      'S3_SKIP_VALIDATION',
      'S3_RANGE_BATCH_ENABLED',
      'S3_RANGE_MAX_RETRIES',
      'S3_MIN_THROTTLING_RETRY_DELAY',
      'S3_MAX_THROTTLING_RETRY_DELAY',
      'S3_DISABLE_100_CONTINUE',
      'S3_ENABLE_VERSIONING',
      'S3_DELETE_BATCH_SIZE',
      'S3_LOG_LEVEL',
      'UPLOAD_CONCURRENCY',
    ],
    treatment: 'ignored',
    reason: 'walrx has its own rule for that',
  },
  {
    names: [
      'WALG_FAILOVER_STORAGES_CHECK',
      'WALG_FAILOVER_STORAGES_CHECK_TIMEOUT',
      'WALG_FAILOVER_STORAGES_CHECK_SIZE',
      'WALG_FAILOVER_STORAGES_CACHE_LIFETIME',
      'WALG_FAILOVER_STORAGES_CACHE_EMA_ALIVE_LIMIT',
      'WALG_FAILOVER_STORAGES_CACHE_EMA_DEAD_LIMIT',
      'WALG_FAILOVER_STORAGES_CACHE_EMA_ALPHA_ALIVE_MAX',
      'WALG_FAILOVER_STORAGES_CACHE_EMA_ALPHA_ALIVE_MIN',
      'WALG_FAILOVER_STORAGES_CACHE_EMA_ALPHA_DEAD_MAX',
      'WALG_FAILOVER_STORAGES_CACHE_EMA_ALPHA_DEAD_MIN',
      'WALG_STATSD_EXTRA_TAGS',
      'WALG_SERIALIZER_TYPE',
    ],
    treatment: 'ignored',
    reason: 'it concerns a part of WAL-G that walrx does not have',
  },
  {
    names: ['WALG_DOWNLOAD_FILE_RETRIES'],
    treatment: 'ignored',
    reason: 'walrx tries again for as long as WALRX_STORE_PATIENCE or WALRX_FETCH_RETRY_TIMEOUT says',
  },
  {
    names: ['WALG_UPLOAD_DISK_CONCURRENCY', 'WALG_UPLOAD_QUEUE'],
    treatment: 'ignored',
    reason: 'a backup is one stream of the server, and its parts are uploaded as they come',
  },
  {
    names: ['WALG_USE_RATING_COMPOSER', 'WALG_USE_DATABASE_COMPOSER', 'WALG_USE_COPY_COMPOSER'],
    treatment: 'ignored',
    reason: 'it decides which file lies in which part, and every restore reads either',
  },
  {
    names: ['WALG_USE_REVERSE_UNPACK', 'WALG_SKIP_REDUNDANT_TARS'],
    treatment: 'ignored',
    reason: 'walrx restores a delta in one way only, from the full backup on',
  },
  {
    names: ['WALG_WITHOUT_FILES_METADATA', 'WALG_DISABLE_PARTIAL_RESTORE'],
    treatment: 'ignored',
    reason: 'walrx always writes the table of files, and never that of databases',
  },
  {
    names: ['WALG_VERIFY_PAGE_CHECKSUMS', 'WALG_STORE_ALL_CORRUPT_BLOCKS'],
    treatment: 'ignored',
    reason: 'the server verifies its pages: see WALRX_BACKUP_VERIFY and WALRX_BACKUP_ACCEPT_CHECKSUM_FAILURES',
  },
  {
    names: ['WALG_FETCH_TARGET_USER_DATA'],
    treatment: 'ignored',
    reason: 'walrx takes the name of the backup: walrx backup-list --detail --json shows the user data of each',
  },
  {
    names: ['WALG_ALIVE_CHECK_INTERVAL', 'WALG_STOP_BACKUP_TIMEOUT'],
    treatment: 'ignored',
    reason: 'a backup has no second connection to keep, and WALRX_BACKUP_WAL_TIMEOUT bounds the wait at its end',
  },
  {
    names: [
      'GCS_CONTEXT_TIMEOUT',
      'GCS_NORMALIZE_PREFIX',
      'GCS_ENCRYPTION_KEY',
      'GCS_MAX_CHUNK_SIZE',
      'GCS_MAX_RETRIES',
      'GOOGLE_APPLICATION_CREDENTIALS',
      'WALG_GS_ENDPOINT',
      'STORAGE_EMULATOR_HOST',
    ],
    treatment: 'ignored',
    reason: 'it has no effect without WALG_GS_PREFIX',
  },
  {
    names: ['AWS_CA_BUNDLE'],
    treatment: 'ignored',
    reason: 'the AWS SDK of walrx does not read it',
    hint: 'set S3_CA_CERT_FILE',
  },
  {
    names: ['AWS_DEFAULT_REGION', 'AWS_DEFAULT_OUTPUT'],
    treatment: 'ignored',
    reason: 'it is for the command line of AWS; walrx takes AWS_REGION',
  },
  {
    names: ['HTTP_LISTEN', 'HTTP_EXPOSE_PPROF', 'HTTP_EXPOSE_EXPVAR'],
    treatment: 'ignored',
    reason: 'walrx has a status page at WALRX_STATUS_LISTEN',
  },
  {
    names: ['GOMAXPROCS', 'GODEBUG', 'PROFILE_SAMPLING_RATIO', 'PROFILE_MODE', 'PROFILE_PATH'],
    treatment: 'ignored',
    reason: 'it is for programs in Go',
  },
  {
    names: ['PGBACKREST_STANZA'],
    treatment: 'ignored',
    reason: 'walrx does not read the archives of pgBackRest',
  },
]

/** Beginnings of the names that WAL-G has for other databases: not ours, and no reason for a warning. */
export const foreignPrefixes: readonly string[] = [
  'WALG_MYSQL_',
  'WALG_REDIS_',
  'WALG_GP_',
  'WALG_ETCD_',
  'WALG_STREAM_',
  'WALG_AZURE_',
  'WALG_BACKUP_DOWNLOAD_',
]
