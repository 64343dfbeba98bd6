/**
 * The commands of walrx: the one list of them, in the order of `walrx --help`. Options, settings, parsers, exit statuses
 * and the reference ask here what a command is like. Plain data, because main.ts loads it before it has checked Node's
 * version.
 */

/** Groups of commands, by their names in the reference. An option is for groups, or for commands by their names. */
export const commandGroups = [
  'all',
  'all with an archive',
  'all that talk to a server',
  'all that archive',
  'all that receive',
  'all that compress',
  'all that plan a backup',
  'all that read data pages',
  'all that complete a backup',
  'all for a restore_command',
  'all with JSON output',
] as const

/** A group of {@link commandGroups}. */
export type CommandGroup = (typeof commandGroups)[number]

/**
 * How long a command runs.
 * - `quick`: a server starts it, again and again. Nothing is loaded that it can do without, and it warns at
 *   log level debug only.
 * - `short`: an operator waits for its answer.
 * - `long`: it reports progress; its log is JSON where nobody watches.
 * - `service`: for days, as a long one. Its log is buffered.
 */
export type CommandKind = 'quick' | 'short' | 'long' | 'service'

/** One row of the table. */
export interface CommandRow {
  /** What the command does, without a full stop. */
  readonly summary: string
  readonly kind: CommandKind
  /** Groups that it is in; `all` goes without saying. */
  readonly groups: readonly CommandGroup[]
  /**
   * The reader of its exit status, where that is no operator: PostgreSQL, for a restore_command or an archive_command, or by
   * the first argument for either, or a postmaster that is process 1 of a container and did not start the process (see
   * cli/exit-status.ts).
   */
  readonly exitStatusFor?: 'restore_command' | 'archive_command' | 'either command' | 'postmaster'
  /**
   * True where V8's heap can stay small: all data is in buffers outside of it, or little of what is read is kept, as where
   * thousands of documents are read one by one.
   */
  readonly keepsHeapSmall?: true
  /**
   * `shown`: it shows the settings, so that none of them stops it, and none raises a warning beside. `none`: it reads
   * neither environment nor config file. `own file`: it reads the environment for its own options; its config file is of
   * another form, and it reads that itself.
   */
  readonly settings?: 'shown' | 'none' | 'own file'
}

/** The table. */
export const commandTable = {
  'wal-receive': {
    summary: 'archive the WAL of a running server',
    kind: 'service',
    groups: [
      'all with an archive',
      'all that talk to a server',
      'all that archive',
      'all that receive',
      'all that compress',
    ],
    keepsHeapSmall: true,
  },
  serve: {
    summary:
      'serve any number of clusters by one file: receive their WAL, and run their backups and checks on schedules',
    kind: 'service',
    groups: [],
    keepsHeapSmall: true,
    settings: 'own file',
  },
  'wal-fetch': {
    summary: 'fetch one WAL file from the archive, for a restore_command',
    kind: 'quick',
    groups: ['all with an archive', 'all for a restore_command'],
    exitStatusFor: 'restore_command',
  },
  'restore-command': {
    summary: 'print the restore_command for postgresql.conf',
    kind: 'short',
    groups: ['all with an archive', 'all for a restore_command'],
  },
  'wal-prefetch': {
    summary: 'keep segments ready for a recovering server (wal-fetch starts it)',
    kind: 'quick',
    groups: ['all with an archive', 'all for a restore_command'],
    exitStatusFor: 'postmaster',
  },
  'wal-push': {
    summary: 'archive one WAL file, for an archive_command beside wal-receive',
    kind: 'quick',
    groups: ['all with an archive', 'all that archive', 'all that compress'],
    exitStatusFor: 'archive_command',
  },
  daemon: {
    summary: "serve wal-push and wal-fetch on a unix socket, in WAL-G's protocol",
    kind: 'service',
    groups: ['all with an archive', 'all that archive', 'all that compress'],
    keepsHeapSmall: true,
  },
  'daemon-client': {
    summary: 'have a daemon do a wal-push or a wal-fetch',
    kind: 'quick',
    groups: [],
    exitStatusFor: 'either command',
  },
  'wal-show': {
    summary: 'show which WAL the archive holds, by timeline, and what is missing',
    kind: 'short',
    groups: ['all with an archive', 'all with JSON output'],
    keepsHeapSmall: true,
  },
  'wal-verify': {
    summary: 'check that no WAL is missing since the earliest backup, and that the timeline is the newest',
    kind: 'short',
    groups: ['all with an archive', 'all that talk to a server', 'all with JSON output'],
    keepsHeapSmall: true,
  },
  'wal-restore': {
    summary: 'fetch the WAL that pg_rewind needs of two clusters that have diverged',
    kind: 'short',
    groups: ['all with an archive', 'all with JSON output'],
  },
  'wal-finalize': {
    summary: 'make an ordinary segment of the unfinished one, for WAL-G and WAL-RUS',
    kind: 'short',
    groups: ['all with an archive', 'all that compress', 'all with JSON output'],
  },
  info: {
    summary: 'show the whole archive: restore windows, backups, missing WAL, storage and its price',
    kind: 'short',
    groups: ['all with an archive', 'all with JSON output'],
    keepsHeapSmall: true,
  },
  'backup-push': {
    summary: 'take a backup of a running server, full or a delta',
    kind: 'long',
    groups: [
      'all with an archive',
      'all that talk to a server',
      'all that archive',
      'all that compress',
      'all that plan a backup',
      'all that read data pages',
      'all that complete a backup',
      'all with JSON output',
    ],
    keepsHeapSmall: true,
  },
  'backup-plan': {
    summary: 'show what backup-push would do, and why, without beginning a backup',
    kind: 'short',
    groups: ['all with an archive', 'all that talk to a server', 'all that plan a backup', 'all with JSON output'],
  },
  'backup-finish': {
    summary: 'complete a backup after its WAL came too late for backup-push',
    kind: 'short',
    groups: ['all with an archive', 'all that complete a backup'],
  },
  scrub: {
    summary: 'have a running server read all its pages and verify their checksums',
    kind: 'long',
    groups: ['all that talk to a server', 'all that read data pages', 'all with JSON output'],
  },
  'backup-fetch': {
    summary: 'restore a backup, and set up its recovery',
    kind: 'long',
    groups: ['all with an archive', 'all with JSON output'],
  },
  'backup-verify': {
    summary: 'read a whole backup and check every file',
    kind: 'long',
    groups: ['all with an archive', 'all with JSON output'],
  },
  'backup-list': {
    summary: 'list the backups of the archive',
    kind: 'short',
    groups: ['all with an archive', 'all with JSON output'],
    keepsHeapSmall: true,
  },
  'backup-show': {
    summary: 'show one backup: its chain, LSNs, times and sizes',
    kind: 'short',
    groups: ['all with an archive', 'all with JSON output'],
  },
  delete: {
    summary: 'delete backups and WAL that no rule keeps; without --confirm show what would go',
    kind: 'short',
    groups: ['all with an archive', 'all with JSON output'],
    keepsHeapSmall: true,
  },
  'backup-mark': {
    summary: 'mark a backup as permanent, or remove the mark',
    kind: 'short',
    groups: ['all with an archive'],
  },
  copy: {
    summary: 'copy the archive to another storage, all of it or a window',
    kind: 'long',
    groups: ['all with an archive', 'all with JSON output'],
  },
  st: {
    summary: 'list, read, write, remove and check single objects of the storage',
    kind: 'short',
    groups: ['all with an archive', 'all that compress', 'all with JSON output'],
  },
  check: {
    summary: 'check server, slot, storage, keys and machine before a start, each finding with what mends it',
    kind: 'short',
    groups: [
      'all with an archive',
      'all that talk to a server',
      'all that archive',
      'all that receive',
      'all that compress',
      'all that plan a backup',
      'all that read data pages',
      'all that complete a backup',
      'all with JSON output',
    ],
  },
  status: {
    summary: 'show how the receiver and its archive are: what would be lost now, the slot, what is wrong',
    kind: 'short',
    groups: ['all with an archive', 'all with JSON output'],
    keepsHeapSmall: true,
  },
  config: {
    summary: "show which settings are in force, where each comes from, and what becomes of WAL-G's",
    kind: 'short',
    groups: ['all with JSON output'],
    settings: 'shown',
  },
  completion: {
    summary: 'print what a shell is to source, so that it completes commands and options',
    kind: 'short',
    groups: [],
    settings: 'none',
  },
} as const satisfies Record<string, CommandRow>

const rows: ReadonlyMap<string | undefined, CommandRow> = new Map(Object.entries(commandTable))

/** The row of a command by its name, as typed; undefined where there is no such command. */
export function commandRow(name: string | undefined): CommandRow | undefined {
  return rows.get(name)
}

/** True where `command` is in `set`: by its name, or by a group. */
export function isIn(command: string, set: readonly string[]): boolean {
  if (set.includes('all') || set.includes(command)) return true
  return commandRow(command)?.groups.some((group) => set.includes(group)) ?? false
}
