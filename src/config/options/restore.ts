/** Options of restoring and verifying backups. */
import type { OptionSpec } from './option-types.ts'

/** How a backup is restored. */
export const restoreOptions = {
  tablespaceMapping: {
    env: [],
    flag: 'tablespace-mapping',
    alias: 'T',
    type: { kind: 'string' },
    valueName: 'OLD=NEW[,…]',
    commands: ['backup-fetch'],
    group: 'Restore',
    help: 'put the tablespace that was at OLD to NEW; several with commas between',
  },
  mask: {
    env: [],
    flag: 'mask',
    type: { kind: 'string' },
    valueName: 'PATTERN',
    commands: ['backup-fetch'],
    group: 'Restore',
    help: "restore only the files whose path in the data directory matches, such as 'base/5/*'; * stands for no slash",
  },
  disableFsync: {
    env: ['WALG_TAR_DISABLE_FSYNC'],
    flag: 'disable-fsync',
    type: { kind: 'boolean' },
    default: 'false',
    commands: ['backup-fetch'],
    group: 'Restore',
    help: 'do not wait for files to be on disk: faster, and nothing after a power failure',
  },
  dryRun: {
    env: [],
    flag: 'dry-run',
    type: { kind: 'boolean' },
    default: 'false',
    commands: ['backup-fetch', 'wal-finalize', 'backup-push'],
    group: 'Restore',
    help: 'check that it can be done, and write nothing; of backup-push the same as backup-plan',
  },
} as const satisfies Record<string, OptionSpec>
