/**
 * Words that users of WAL-G, pgBackRest, Barman and PostgreSQL's own tools type, and what walrx has instead: a command,
 * an option, or nothing. docs/walg.md has the same for readers.
 */

const noDeletion =
  'walrx deletes nothing that it has archived: delete with wal-g delete, and keep backups with walrx backup-mark'
const noArchiveCommand = 'walrx needs no archive_command: walrx wal-receive gets the WAL over a replication connection'
const noSetUp =
  'nothing has to be set up: walrx wal-receive begins an archive, and its first backup is walrx backup-push'

/** Commands of other tools, by the word that is typed. */
const foreignCommands: Readonly<Record<string, string>> = {
  backup: 'did you mean backup-push?',
  basebackup: 'did you mean backup-push?',
  pg_basebackup: 'did you mean backup-push?',
  'catchup-push': 'did you mean backup-push?',
  list: 'did you mean backup-list?',
  info: 'did you mean backup-list? walrx wal-show shows the WAL',
  'list-backup': 'did you mean backup-list?',
  'list-backups': 'did you mean backup-list?',
  show: 'did you mean backup-show, or wal-show?',
  'show-backup': 'did you mean backup-show?',
  restore: 'did you mean backup-fetch?',
  recover: 'did you mean backup-fetch, with --recover?',
  'catchup-fetch': 'did you mean backup-fetch?',
  verify: 'did you mean backup-verify?',
  'verify-backup': 'did you mean backup-verify?',
  'check-backup': 'did you mean backup-verify?',
  check: 'walrx backup-verify LATEST checks a backup, walrx wal-show what WAL is missing, walrx backup-plan the server',
  status: 'walrx wal-show shows how far the archive reaches; wal-receive has a status page, see docs/monitoring.md',
  keep: 'did you mean backup-mark?',
  annotate: 'did you mean backup-mark? data of your own goes into a backup by backup-push --add-user-data',
  'wal-verify': 'did you mean wal-show?',
  'wal-receive-start': 'did you mean wal-receive?',
  'receive-wal': 'did you mean wal-receive?',
  pg_receivewal: 'did you mean wal-receive?',
  'archive-get': 'did you mean wal-fetch? walrx restore-command prints the line for postgresql.conf',
  'get-wal': 'did you mean wal-fetch? walrx restore-command prints the line for postgresql.conf',
  'barman-wal-restore': 'did you mean wal-fetch? walrx restore-command prints the line for postgresql.conf',
  'archive-push': noArchiveCommand,
  'wal-push': noArchiveCommand,
  'put-wal': noArchiveCommand,
  'barman-wal-archive': noArchiveCommand,
  'stanza-create': noSetUp,
  'stanza-upgrade': 'an archive belongs to one cluster: give the upgraded one another prefix',
  'create-slot': 'walrx wal-receive creates its slot itself',
  delete: noDeletion,
  'backup-delete': noDeletion,
  'delete-backup': noDeletion,
  'stanza-delete': noDeletion,
  expire: noDeletion,
  retain: noDeletion,
  cron: 'walrx has no housekeeping: walrx wal-receive runs as a service, and a timer runs walrx backup-push',
}

/** Options of other tools, without the dashes: an option of walrx by its flag, or a sentence. */
const foreignOptions: Readonly<Record<string, string>> = {
  db: 'dbname',
  host: 'pghost',
  h: 'pghost',
  port: 'pgport',
  username: 'pguser',
  user: 'pguser',
  U: 'pguser',
  w: 'walrx never asks for a password: PGPASSWORD or a password file (PGPASSFILE, ~/.pgpass) has it',
  W: 'walrx never asks for a password: PGPASSWORD or a password file (PGPASSFILE, ~/.pgpass) has it',
  password:
    'arguments are visible to all users of the machine: PGPASSWORD or a password file (PGPASSFILE, ~/.pgpass) has it',
  slot: 'slotname',
  'slot-name': 'slotname',
  'create-slot': 'walrx wal-receive creates its slot itself, and --slotless uses none',
  'no-slot': 'slotless',
  'recovery-target-time': 'target-time',
  'recovery-target-lsn': 'target-lsn',
  'recovery-target-xid': 'target-xid',
  'recovery-target-name': 'target-name',
  'recovery-target-timeline': 'target-timeline',
  'recovery-target-action': 'target-action',
  'recovery-target-inclusive': 'target-inclusive',
  'target-tli': 'target-timeline',
  'target-exclusive': 'write --target-inclusive=false',
  target:
    'write the kind of the target: --target-time, --target-lsn, --target-name, --target-xid or --target-immediate',
  type: 'a backup: --full, or --delta-max-steps COUNT for deltas; a restore: --target-time, --target-lsn, --target-immediate …',
  incremental: 'write --delta-max-steps COUNT, the longest chain of deltas',
  stanza: 'an archive has one cluster: --s3-prefix or --file-prefix names it, and --storage-prefix a folder below',
  'server-name':
    'an archive has one cluster: --s3-prefix or --file-prefix names it, and --storage-prefix a folder below',
  set: 'write the name of the backup after the command, as walrx backup-list prints it',
  pgdata: 'walrx backup-fetch DEST NAME has it as its first argument; the other commands need no data directory',
  D: 'walrx backup-fetch DEST NAME has it as its first argument; the others write to --file-prefix or --s3-prefix',
  directory: 'file-prefix',
  permanent: 'backup-mark marks a backup as permanent without an option; --impermanent takes the mark away',
  'process-max': 'download-concurrency',
  jobs: 'download-concurrency',
  j: 'download-concurrency',
  'compress-type': 'compression-method',
  compress: 'compression-method',
  'compress-level': 'compression-level',
  Z: 'compression-level',
  'detailed-json': 'json',
  output: 'json',
  v: 'write --log-level debug',
  verbose: 'write --log-level debug',
  'log-level-console': 'log-level',
  P: 'the progress is shown without an option',
  progress: 'the progress is shown without an option',
  c: 'checkpoint',
  'start-fast': 'checkpoint',
  'immediate-checkpoint': 'checkpoint',
  l: 'label',
  r: 'max-rate',
  bwlimit: 'max-rate',
  'reverse-unpack': 'walrx restores a chain in one way: leave it out',
  'skip-redundant-tars': 'walrx reads only the parts that it needs: leave it out',
}

/** What to say to a command of another tool; undefined for a word that none of them has. */
export function foreignCommand(word: string): string | undefined {
  return own(foreignCommands, word.toLowerCase())
}

/**
 * What to say to an option of another tool.
 * @param typed with its dashes
 * @param flags of the command that it was given to
 */
export function foreignOption(typed: string, flags: readonly string[]): string | undefined {
  const name = typed.replace(/^-+/, '')
  const pgbackrest = /^(repo|pg)\d*(-|$)/.exec(name)?.[1]
  if (pgbackrest === 'repo')
    return 'write --s3-prefix s3://BUCKET/PATH or --file-prefix DIRECTORY: walrx has one archive'
  if (pgbackrest === 'pg' && !flags.includes(name)) return own(foreignOptions, 'pgdata')
  const found = own(foreignOptions, name)
  if (found === undefined || found.includes(' ')) return found
  return flags.includes(found) ? `did you mean --${found}?` : undefined
}

function own(words: Readonly<Record<string, string>>, word: string): string | undefined {
  return Object.hasOwn(words, word) ? words[word] : undefined
}
