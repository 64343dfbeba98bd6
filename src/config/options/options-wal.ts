/** Options of compression, of wal-receive and of wal-fetch. */
import type { CommandName, OptionSpec } from './option-types.ts'

const receive = ['wal-receive'] as const satisfies CommandName[]
const write = ['wal-receive', 'backup-push', 'wal-finalize'] as const satisfies CommandName[]
const fetch = ['wal-fetch', 'restore-command', 'wal-prefetch'] as const satisfies CommandName[]
const MiB = 1024 * 1024

/** How objects are compressed. */
export const compressionOptions = {
  compressionMethod: {
    env: ['WALG_COMPRESSION_METHOD'],
    flag: 'compression-method',
    type: { kind: 'choice', values: ['zstd', 'lz4', 'brotli', 'none', 'lzma', 'gzip'] },
    default: 'zstd',
    unsupported: {
      values: ['lzma', 'gzip'],
      commands: write,
      reason: 'walrx reads that codec, but writes only zstd, lz4, brotli and none',
    },
    commands: [...write, ...fetch],
    group: 'Compression',
    help: "codec of new objects, and the first that wal-fetch looks for; WAL-G's own default is lz4; lzma and gzip are read only",
  },
  zstdLevel: {
    env: ['WALG_ZSTD_LEVEL'],
    flag: 'zstd-level',
    type: { kind: 'choice', values: ['fastest', 'default', 'better', 'best'] },
    defaultText: 'the level of that name',
    commands: write,
    group: 'Compression',
    help: "zstd's level by WAL-G's names, which stand for 1, 3, 7 and 11",
  },
  compressionLevel: {
    env: ['WALG_COMPRESSION_LEVEL'],
    flag: 'compression-level',
    type: { kind: 'integer', min: 1, max: 22 },
    valueName: 'LEVEL',
    defaultText: 'by WALG_ZSTD_LEVEL for zstd, 3 for brotli',
    commands: write,
    group: 'Compression',
    help: "the codec's own level: zstd 1 to 22, brotli 1 to 11",
  },
} as const satisfies Record<string, OptionSpec>

/** How WAL is received. */
export const receiveOptions = {
  slotName: {
    env: ['WALG_SLOTNAME'],
    flag: 'slotname',
    alias: 'S',
    type: { kind: 'string' },
    valueName: 'NAME',
    default: 'walrx',
    commands: receive,
    group: 'Receive',
    help: 'physical replication slot; it is created where it is missing',
  },
  slotless: {
    env: ['WALRX_SLOTLESS'],
    flag: 'slotless',
    type: { kind: 'boolean' },
    default: 'false',
    commands: receive,
    group: 'Receive',
    help: 'use no slot: the server may then remove WAL that is not archived',
  },
  allowStandby: {
    env: ['WALRX_ALLOW_STANDBY'],
    flag: 'allow-standby',
    type: { kind: 'boolean' },
    default: 'false',
    commands: receive,
    group: 'Receive',
    help: 'receive from a server in recovery too',
  },
  memoryBytes: {
    env: ['WALRX_MEMORY'],
    flag: 'memory',
    type: { kind: 'bytes', min: 2 * MiB, max: 64 * 1024 * MiB },
    valueName: 'SIZE',
    defaultText: 'the larger of 64MB and four segments',
    commands: receive,
    group: 'Receive',
    help: 'size of the pool of segment buffers; two segments at least',
  },
  uploadConcurrency: {
    env: ['WALG_UPLOAD_CONCURRENCY'],
    flag: 'upload-concurrency',
    type: { kind: 'integer', min: 1, max: 1000 },
    default: '16',
    commands: receive,
    group: 'Receive',
    help: 'segments that are compressed and uploaded at the same time; the pool of buffers is the other limit',
  },
  endPos: {
    env: [],
    flag: 'endpos',
    alias: 'E',
    type: { kind: 'lsn' },
    commands: receive,
    group: 'Receive',
    help: 'stop when all WAL up to this position is in the archive',
  },
  drainTimeoutMs: {
    env: ['WALRX_DRAIN_TIMEOUT'],
    flag: 'drain-timeout',
    type: { kind: 'duration', minMs: 0, maxMs: 24 * 3600_000 },
    default: '60s',
    commands: receive,
    group: 'Receive',
    help: 'how long a stop waits for uploads to finish',
  },
  statusListen: {
    env: ['WALRX_STATUS_LISTEN'],
    flag: 'status-listen',
    type: { kind: 'string' },
    valueName: 'HOST:PORT',
    default: '127.0.0.1:8432',
    commands: receive,
    group: 'Receive',
    help: 'address of /metrics, /healthz and /readyz; off for none',
  },
} as const satisfies Record<string, OptionSpec>

/** How WAL is given back. */
export const fetchOptions = {
  downloadConcurrency: {
    env: ['WALG_DOWNLOAD_CONCURRENCY'],
    flag: 'download-concurrency',
    type: { kind: 'integer', min: 1, max: 1000 },
    default: '10',
    commands: [...fetch, 'backup-fetch', 'backup-verify'],
    group: 'Fetch',
    help: 'segments that the prefetcher downloads at the same time, 1 for no prefetching; tars of a backup, at most 4',
  },
  prefetchBytes: {
    env: ['WALRX_PREFETCH_SIZE'],
    flag: 'prefetch-size',
    type: { kind: 'bytes', min: 2 * MiB, max: 1024 * 1024 * MiB },
    valueName: 'SIZE',
    default: '160MB',
    commands: fetch,
    group: 'Fetch',
    help: 'what the prefetcher keeps in pg_wal/.walrx ahead of the server; two segments at least',
  },
  recoveryPid: {
    env: [],
    flag: 'recovery-pid',
    type: { kind: 'integer', min: 1, max: 2 ** 31 - 1 },
    valueName: 'PID',
    defaultText: 'nothing is prefetched',
    commands: ['wal-fetch'],
    group: 'Fetch',
    help: "process id of the server's startup process, for which segments are prefetched: $PPID in a restore_command",
  },
  fetchRetryTimeoutMs: {
    env: ['WALRX_FETCH_RETRY_TIMEOUT'],
    flag: 'fetch-retry-timeout',
    type: { kind: 'duration', minMs: 0, maxMs: 24 * 3600_000 },
    default: '60s',
    commands: fetch,
    group: 'Fetch',
    help: 'how long an outage of the storage, or a hole, is retried before the command ends with 126',
  },
  walSegmentMegabytes: {
    env: ['WALG_PG_WAL_SIZE'],
    flag: 'pg-wal-size',
    type: { kind: 'integer', min: 1, max: 1024 },
    valueName: 'MEGABYTES',
    defaultText: 'what the WAL itself says',
    commands: [...fetch, 'wal-show'],
    group: 'Fetch',
    help: "segment size in MiB, where it can't be read from the archive",
  },
} as const satisfies Record<string, OptionSpec>
