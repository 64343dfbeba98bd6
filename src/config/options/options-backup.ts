/** Options of taking backups. */
import type { CommandName, OptionSpec } from './option-types.ts'

const push = ['backup-push'] as const satisfies CommandName[]
const planning = ['backup-push', 'backup-plan'] as const satisfies CommandName[]
const reading = ['backup-push', 'scrub'] as const satisfies CommandName[]
const waiting = ['backup-push', 'backup-finish'] as const satisfies CommandName[]
const KiB = 1024

/** How backups are taken. */
export const backupOptions = {
  permanent: {
    env: [],
    flag: 'permanent',
    alias: 'p',
    type: { kind: 'boolean' },
    default: 'false',
    commands: planning,
    group: 'Backup',
    help: 'mark the backup as permanent: no retention rule removes it or its WAL',
  },
  userData: {
    env: ['WALG_SENTINEL_USER_DATA'],
    flag: 'add-user-data',
    type: { kind: 'string' },
    valueName: 'JSON',
    commands: push,
    group: 'Backup',
    help: 'data to keep in the sentinel; what is no JSON is kept as a string',
  },
  backupLabel: {
    env: ['WALRX_BACKUP_LABEL'],
    flag: 'label',
    type: { kind: 'string' },
    valueName: 'TEXT',
    default: 'walrx',
    commands: push,
    group: 'Backup',
    help: 'label of the backup, in its backup_label',
  },
  checkpoint: {
    env: ['WALRX_BACKUP_CHECKPOINT'],
    flag: 'checkpoint',
    type: { kind: 'choice', values: ['fast', 'spread'] },
    default: 'fast',
    commands: reading,
    group: 'Backup',
    help: 'how the server writes the checkpoint that comes first: at once, or spread over minutes',
  },
  maxRateBytes: {
    env: ['WALG_DISK_RATE_LIMIT'],
    flag: 'max-rate',
    type: { kind: 'bytes', min: 32 * KiB, max: 1024 * KiB * KiB },
    valueName: 'SIZE',
    defaultText: 'no limit',
    commands: reading,
    group: 'Backup',
    help: 'bytes per second that the server reads at most',
  },
  verifyChecksums: {
    env: ['WALRX_BACKUP_VERIFY'],
    flag: 'verify',
    type: { kind: 'boolean' },
    default: 'true',
    commands: push,
    group: 'Backup',
    help: 'let the server verify the checksums of data pages, where it has them: damage fails the backup; --no-verify to do without',
  },
  acceptChecksumFailures: {
    env: ['WALRX_BACKUP_ACCEPT_CHECKSUM_FAILURES'],
    flag: 'accept-checksum-failures',
    type: { kind: 'boolean' },
    default: 'false',
    commands: push,
    group: 'Backup',
    help: 'finish the backup although the server found damaged pages, and say which',
  },
  metricsFile: {
    env: ['WALRX_METRICS_FILE'],
    flag: 'metrics-file',
    type: { kind: 'string' },
    valueName: 'FILE',
    commands: push,
    group: 'Backup',
    help: "file to write metrics to, for the textfile collector of Prometheus's node exporter",
  },
  tarSizeThreshold: {
    env: ['WALG_TAR_SIZE_THRESHOLD'],
    flag: 'tar-size-threshold',
    type: { kind: 'bytes', min: 1024 * KiB, max: 1024 * 1024 * 1024 * KiB },
    valueName: 'SIZE',
    default: '1GB',
    commands: planning,
    group: 'Backup',
    help: 'size of the tars of a backup; a larger file has one of its own',
  },
  waitForWal: {
    env: [],
    flag: 'wait',
    type: { kind: 'boolean' },
    default: 'true',
    commands: push,
    group: 'Backup',
    help: 'finish the backup when its WAL is in the archive; --no-wait finishes at once',
  },
  walTimeoutMs: {
    env: ['WALRX_BACKUP_WAL_TIMEOUT'],
    flag: 'wal-timeout',
    type: { kind: 'duration', minMs: 0, maxMs: 7 * 24 * 3600_000 },
    default: '1h',
    commands: waiting,
    group: 'Backup',
    help: 'how long the WAL of the backup is waited for',
  },
} as const satisfies Record<string, OptionSpec>
