/** Options of restoring and verifying backups. */
import type { OptionSpec } from './option-types.ts'

/** How a backup is restored. */
export const restoreOptions = {
  tablespaceMapping: {
    env: [],
    flag: 'tablespace-mapping',
    alias: 'T',
    type: { kind: 'string' },
    isRepeatable: true,
    valueName: 'OLD=NEW[,…]',
    commands: ['backup-fetch'],
    group: 'Restore',
    help: 'put the tablespace that was at OLD to NEW; several in several options, or separated by commas; \\= and \\, in a path',
  },
  walDirectory: {
    env: [],
    flag: 'waldir',
    type: { kind: 'string' },
    valueName: 'DIRECTORY',
    defaultText: 'pg_wal is in the data directory',
    commands: ['backup-fetch'],
    group: 'Restore',
    help: 'put the WAL into this directory, empty or not there, and make pg_wal a link to it',
  },
  // A flag only, and no relative of the settings about delta backups: one left over in an environment would clear a directory.
  deltaRestore: {
    env: [],
    flag: 'delta',
    type: { kind: 'boolean' },
    default: 'false',
    commands: ['backup-fetch'],
    group: 'Restore',
    help: 'restore over the data directory of the same cluster, stopped: keep files whose size and checksum are as in the backup, fetch the others, remove what the backup does not have. Works with every backup that walrx took, full or delta',
  },
  mask: {
    env: [],
    flag: 'mask',
    type: { kind: 'string' },
    valueName: 'PATTERN',
    commands: ['backup-fetch'],
    group: 'Restore',
    help: "restore only files with a matching path in the data directory, for instance 'base/5/*'; * does not match a slash",
  },
  restoreOnly: {
    env: [],
    flag: 'restore-only',
    type: { kind: 'string' },
    isRepeatable: true,
    valueName: 'DATABASE[,…]',
    commands: ['backup-fetch'],
    group: 'Restore',
    help: 'restore these databases, and the system and template databases; others come as files of zeros, to be dropped after the recovery; \\, in a name',
  },
  disableFsync: {
    env: ['WALG_TAR_DISABLE_FSYNC'],
    flag: 'disable-fsync',
    type: { kind: 'boolean' },
    default: 'false',
    commands: ['backup-fetch'],
    group: 'Restore',
    help: 'do not wait until files are on disk: faster, but a power failure may lose the restore',
  },
  dryRun: {
    env: [],
    flag: 'dry-run',
    type: { kind: 'boolean' },
    default: 'false',
    commands: ['backup-fetch', 'wal-finalize', 'backup-push', 'copy', 'st'],
    group: 'General',
    help: 'check the request and write nothing; with --delta, list what would be kept, fetched and removed; for backup-push, print the plan as backup-plan does; for copy and st rm, show what would be done',
  },
} as const satisfies Record<string, OptionSpec>
