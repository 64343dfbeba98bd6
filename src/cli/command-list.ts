/**
 * The commands, in the order of `walrx --help`. Each is one line here and one file in `commands/`, loaded only when it
 * is asked for: `walrx wal-fetch` must not pay for what `walrx wal-receive` needs.
 */
import type { CommandName } from '../config/options/option-types.ts'
import type { Command } from './command.ts'

/** One line of `walrx --help`. */
export interface CommandEntry {
  /** What the command does, without a full stop. */
  readonly summary: string
  readonly load: () => Promise<Command>
}

/** Commands by name. */
export type Registry = Partial<Readonly<Record<CommandName, CommandEntry>>>

/** The commands of walrx. */
export const commands: Registry = {
  'wal-receive': {
    summary: 'archive the WAL of a running server',
    load: async () => (await import('./commands/wal-receive.ts')).walReceive,
  },
  'wal-fetch': {
    summary: 'get one WAL file out of the archive, for a restore_command',
    load: async () => (await import('./commands/wal-fetch.ts')).walFetch,
  },
  'restore-command': {
    summary: 'print the restore_command for postgresql.conf',
    load: async () => (await import('./commands/restore-command.ts')).restoreCommandCommand,
  },
  'wal-prefetch': {
    summary: 'keep segments ready ahead of a recovering server (wal-fetch starts it)',
    load: async () => (await import('./commands/wal-prefetch.ts')).walPrefetch,
  },
  'wal-show': {
    summary: 'show which WAL the archive holds, by timeline, and what is missing',
    load: async () => (await import('./commands/wal-show.ts')).walShow,
  },
  'wal-finalize': {
    summary: 'make an ordinary segment of the last, unfinished one, for WAL-G and WAL-RUS',
    load: async () => (await import('./commands/wal-finalize.ts')).walFinalize,
  },
  'backup-push': {
    summary: 'take a backup of a running server, full or a delta',
    load: async () => (await import('./commands/backup-push.ts')).backupPush,
  },
  'backup-plan': {
    summary: 'say what a backup would be, and why, without beginning one',
    load: async () => (await import('./commands/backup-plan.ts')).backupPlan,
  },
  'backup-finish': {
    summary: 'complete a backup whose WAL had not come in time',
    load: async () => (await import('./commands/backup-finish.ts')).backupFinish,
  },
  scrub: {
    summary: 'have a running server read all its pages and verify their checksums',
    load: async () => (await import('./commands/scrub.ts')).scrubCommand,
  },
  'backup-fetch': {
    summary: 'restore a backup, and set up its recovery',
    load: async () => (await import('./commands/backup-fetch.ts')).backupFetch,
  },
  'backup-verify': {
    summary: 'read a backup and check every file of it',
    load: async () => (await import('./commands/backup-verify.ts')).backupVerify,
  },
  'backup-list': {
    summary: 'list the backups of the archive',
    load: async () => (await import('./commands/backup-list.ts')).backupList,
  },
  'backup-show': {
    summary: 'show what the archive says of one backup',
    load: async () => (await import('./commands/backup-show.ts')).backupShow,
  },
  'backup-mark': {
    summary: 'mark a backup as one to keep, or take the mark away',
    load: async () => (await import('./commands/backup-mark.ts')).backupMark,
  },
}
