/**
 * Words that users of WAL-G, pgBackRest, Barman and PostgreSQL's own tools type, and what walrx has instead: a command,
 * an option, or nothing. docs/walg.md has the same for readers.
 */
import { optionLabel } from '../../config/load.ts'
import type { CommandName } from '../../config/options/option-types.ts'
import { optionNamed } from '../../config/setting-names.ts'

const deletion = 'did you mean delete? walrx delete --keep-days 14 shows what may go, and --confirm deletes it'
const noArchiveCommand =
  'did you mean wal-push? walrx needs no archive_command: walrx wal-receive gets the WAL over a replication connection'
const neverAsks = 'walrx never asks for a password: PGPASSWORD or a password file (PGPASSFILE, ~/.pgpass) has it'
const onePrefix =
  'an archive has one cluster: --s3-prefix or --file-prefix names it, and --storage-prefix a folder below'
const noDirectory = 'walrx needs no data directory: leave it out; --file-prefix DIRECTORY names the archive'
const directoryFirst = 'write the directory first, then the backup: walrx backup-fetch DEST NAME'
const kindOfTarget =
  'write the kind of the target: --target-time, --target-lsn, --target-name, --target-xid or --target-immediate; --recover has none'
const byChecksum =
  'write --delta to restore over a data directory: files are compared by their checksums, never by size and time'
const noStandby = 'restore with --recover, then create standby.signal beside recovery.signal, and set primary_conninfo'
const deltas = 'write --delta-max-steps COUNT, the longest chain of deltas'
const ownSlot = 'walrx wal-receive creates its slot where there is none: leave it out; --slotless uses none'
const oneStream = 'a backup is one stream of the server, compressed as it comes: leave it out'
const oneOrder = 'the server decides in which order the files of a backup come: leave it out'
const verbose = 'write --log-level debug'
const oneStorage = 'walrx knows one storage only: leave it out'
const noCatchUp = 'a standby catches up by its restore_command, from the archive: walrx restore-command prints it'
const noPgBackRest =
  'walrx does not read archives of pgBackRest: begin a new one, and restore from the old one with pgBackRest'
const noSetUp =
  'nothing has to be set up: walrx wal-receive begins an archive, and its first backup is walrx backup-push'

const ownKeys = 'a copy has the bytes of its source, and so its key: leave it out'
const versions = 'walrx works with the current versions of objects: aws s3api list-object-versions shows the others'

/** Commands of other tools, by the word that is typed. */
const foreignCommands: Readonly<Record<string, string>> = {
  backup: 'did you mean backup-push?',
  basebackup: 'did you mean backup-push?',
  pg_basebackup: 'did you mean backup-push?',
  list: 'did you mean backup-list?',
  'list-backup': 'did you mean backup-list?',
  'list-backups': 'did you mean backup-list?',
  backups: 'did you mean backup-list?',
  show: 'did you mean backup-show, or wal-show?',
  'show-backup': 'did you mean backup-show?',
  restore: 'did you mean backup-fetch?',
  recover: 'did you mean backup-fetch, with --recover?',
  verify: 'did you mean backup-verify?',
  'verify-backup': 'did you mean backup-verify?',
  'check-backup': 'did you mean backup-verify?',
  pg_verifybackup: 'did you mean backup-verify?',
  pg_combinebackup: 'walrx backup-fetch restores a delta together with all that it builds on',
  'replication-status': 'did you mean status? pg_stat_replication shows the connection',
  keep: 'did you mean backup-mark?',
  annotate: 'did you mean backup-mark? data of your own goes into a backup by backup-push --add-user-data',
  'wal-list': 'did you mean wal-show?',
  'list-wal': 'did you mean wal-show?',
  'check-wal-archive': 'did you mean wal-verify?',
  'wal-receive-start': 'did you mean wal-receive?',
  'receive-wal': 'did you mean wal-receive?',
  pg_receivewal: 'did you mean wal-receive?',
  'archive-get': 'did you mean wal-fetch? walrx restore-command prints the line for postgresql.conf',
  'get-wal': 'did you mean wal-fetch? walrx restore-command prints the line for postgresql.conf',
  'barman-wal-restore': 'did you mean wal-fetch? walrx restore-command prints the line for postgresql.conf',
  // Of barman-cloud-wal-restore: wal-restore alone is a command, WAL-G's.
  'wal-restore': 'did you mean wal-fetch? walrx restore-command prints the line for postgresql.conf',
  'archive-push': noArchiveCommand,
  'put-wal': noArchiveCommand,
  'barman-wal-archive': noArchiveCommand,
  'wal-archive': noArchiveCommand,
  'switch-wal': 'select pg_switch_wal() does it; walrx archives an unfinished segment without that',
  'catchup-push': noCatchUp,
  'catchup-fetch': noCatchUp,
  'catchup-list': noCatchUp,
  'catchup-send': noCatchUp,
  'catchup-receive': noCatchUp,
  pgbackrest: noPgBackRest,
  flags: 'walrx COMMAND --help shows the options of a command, and walrx config --walg the settings of WAL-G',
  settings: 'did you mean config?',
  'show-config': 'did you mean config?',
  diagnose: 'did you mean config?',
  'stanza-create': noSetUp,
  'stanza-upgrade': 'an archive belongs to one cluster: give the upgraded one another prefix',
  'create-slot': 'walrx wal-receive creates its slot itself',
  'backup-delete': deletion,
  'delete-backup': deletion,
  'stanza-delete': 'did you mean delete everything? it shows what would go, and --confirm deletes it',
  expire: deletion,
  retain: 'did you mean delete retain?',
  retention: deletion,
  cron: 'a timer runs walrx backup-push, and after it walrx delete: walrx wal-receive runs as a service',
  'repo-ls': 'did you mean st ls?',
  'repo-get': 'did you mean st cat, or st get?',
  'repo-put': 'did you mean st put?',
  'repo-rm': 'did you mean st rm?',
  'sync-backup': 'did you mean copy?',
  'walg-daemon-client': 'did you mean daemon-client?',
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
  w: neverAsks,
  W: neverAsks,
  'no-password': neverAsks,
  password:
    'arguments are visible to all users of the machine: PGPASSWORD or a password file (PGPASSFILE, ~/.pgpass) has it',
  version: 'write walrx --version',
  V: 'write walrx --version',
  slot: 'slotname',
  'slot-name': 'slotname',
  stanza: onePrefix,
  'server-name': onePrefix,
  set: 'write the name of the backup after the command, as walrx backup-list prints it',
  pgdata: noDirectory,
  D: noDirectory,
  directory: noDirectory,
  permanent: 'backup-mark marks a backup as permanent without an option; --impermanent takes the mark away',
  n: 'dry-run',
  'process-max': 'download-concurrency',
  jobs: 'download-concurrency',
  j: 'download-concurrency',
  'compress-type': 'compression-method',
  compress: 'compression-method',
  'compress-level': 'compression-level',
  Z: 'compression-level',
  z: 'compression-method',
  gzip: 'compression-method',
  output: 'json',
  format: 'json',
  f: 'json',
  v: verbose,
  verbose,
  'log-level-console': 'log-level',
  P: 'the progress is shown without an option',
  progress: 'the progress is shown without an option',
  bwlimit: 'max-rate',
  'target-storage': oneStorage,
  turbo: 'leave it out, and the limits out of the settings',
}

/** What is said otherwise, or only, to one command. */
const ofCommand: Partial<Readonly<Record<CommandName, Readonly<Record<string, string>>>>> = {
  copy: {
    all: 'without --backup-name all of the archive is copied: leave it out',
    'with-all-history': 'with-history',
    'without-history': 'with --backup-name the WAL ends with the backup unless --with-history is there: leave it out',
    force: 'walrx replaces nothing in the copy: remove what is wrong there with walrx st rm, or copy to another prefix',
    overwrite:
      'walrx replaces nothing in the copy: remove what is wrong there with walrx st rm, or copy to another prefix',
    reencrypt: ownKeys,
    'decrypt-source': ownKeys,
    'encrypt-target': ownKeys,
  },
  st: {
    'all-versions': versions,
    'version-id': versions,
    p: 'write the path alone',
    prefix: 'write the path alone',
  },
  'backup-fetch': {
    D: directoryFirst,
    directory: directoryFirst,
    pgdata: directoryFirst,
    type: kindOfTarget,
    target: kindOfTarget,
    'recovery-target-time': 'target-time',
    'recovery-target-lsn': 'target-lsn',
    'recovery-target-xid': 'target-xid',
    'recovery-target-name': 'target-name',
    'recovery-target-timeline': 'target-timeline',
    'recovery-target-action': 'target-action',
    'recovery-target-inclusive': 'target-inclusive',
    'target-tli': 'target-timeline',
    'target-exclusive': 'write --target-inclusive=false',
    exclusive: 'write --target-inclusive=false',
    'target-user-data': 'write the name of the backup: walrx backup-list --detail --json shows the user data of each',
    'restore-spec': 'tablespace-mapping',
    tablespace: 'tablespace-mapping',
    'tablespace-map': 'tablespace-mapping',
    force: byChecksum,
    R: noStandby,
    'write-recovery-conf': noStandby,
    'standby-mode': noStandby,
    'get-wal': 'write --recover: the server then gets its WAL by walrx wal-fetch',
    'remote-ssh-command': 'walrx restores on the machine that it runs on: run it there, and leave this out',
    'db-include': 'a restore has all databases; --mask restores single files',
    'reverse-unpack': 'walrx restores a chain in one way: leave it out',
    'skip-redundant-tars': 'walrx reads only the parts that it needs: leave it out',
  },
  'backup-push': {
    type: 'write --full for a full backup, or --delta-max-steps COUNT for deltas',
    incremental: deltas,
    delta: deltas,
    i: deltas,
    c: 'checkpoint',
    'start-fast': 'checkpoint',
    'immediate-checkpoint': 'checkpoint',
    l: 'label',
    r: 'max-rate',
    s: 'accept-checksum-failures',
    v: 'verify',
    'rating-composer': oneOrder,
    'copy-composer': oneOrder,
    'database-composer': oneOrder,
    b: oneOrder,
    'store-all-corrupt': 'accept-checksum-failures',
    'no-verify-checksums': 'write --no-verify',
    'without-files-metadata': 'walrx stores files_metadata.json with every backup: leave it out',
    X: 'walrx wal-receive archives the WAL, and backup-push waits for it: leave it out',
    'wal-method': 'walrx wal-receive archives the WAL, and backup-push waits for it: leave it out',
    F: 'the parts of a backup are always tars: leave it out',
    format: 'the parts of a backup are always tars: leave it out',
    R: 'a recovery is set up when you restore: walrx backup-fetch --recover',
    'write-recovery-conf': 'a recovery is set up when you restore: walrx backup-fetch --recover',
    S: 'a backup uses no slot: leave it out',
    slot: 'a backup uses no slot: leave it out',
    'no-slot': 'a backup uses no slot: leave it out',
    'process-max': oneStream,
    jobs: oneStream,
    j: oneStream,
    T: 'tablespaces get other places when you restore: walrx backup-fetch --tablespace-mapping',
  },
  delete: {
    'repo-retention-full': 'keep-full',
    'retention-policy': 'write --recovery-window 14d, or --keep-full COUNT',
    'minimum-redundancy': 'the last backup that can be restored always stays: leave it out',
    'without-confirm': 'nothing is deleted without --confirm',
    'dry-run': 'without --confirm nothing is deleted: leave it out',
    n: 'without --confirm nothing is deleted: leave it out',
    force: 'write --confirm',
    f: 'write --confirm',
    y: 'confirm',
    'keep-last': 'write walrx delete retain COUNT',
    'keep-within': 'recovery-window',
    set: 'write walrx delete target NAME',
  },
  'wal-receive': {
    D: 'file-prefix',
    directory: 'file-prefix',
    'create-slot': ownSlot,
    'if-not-exists': ownSlot,
    'no-slot': 'slotless',
    'drop-slot': "walrx drops no slot: select pg_drop_replication_slot('NAME') does it, once nothing receives",
    n: 'walrx connects again by itself after a failure; --endpos LSN ends it at a position',
    'no-loop': 'walrx connects again by itself after a failure; --endpos LSN ends it at a position',
    'no-sync': 'walrx makes all that it archives durable: leave it out',
    s: 'walrx reports a position as soon as it is durable: leave it out',
    'status-interval': 'walrx reports a position as soon as it is durable: leave it out',
  },
}

/** What to say to a command of another tool; undefined for a word that none of them has. */
export function foreignCommand(word: string): string | undefined {
  return own(foreignCommands, word.toLowerCase().replace(/^barman-cloud-/, ''))
}

/**
 * What to say to an option of another tool.
 * @param typed with its dashes
 * @param command that it was given to
 * @param flags of that command
 */
export function foreignOption(typed: string, command: CommandName, flags: readonly string[]): string | undefined {
  const name = typed.replace(/^-+/, '')
  const pgbackrest = /^(repo|pg)\d*(-|$)/.exec(name)?.[1]
  if (pgbackrest === 'repo')
    return 'write --s3-prefix s3://BUCKET/PATH or --file-prefix DIRECTORY: walrx has one archive'
  if (pgbackrest === 'pg' && !flags.includes(name)) return foreignOption('pgdata', command, flags)
  const found = own(ofCommand[command] ?? {}, name) ?? own(foreignOptions, name)
  if (found === undefined || found.includes(' ')) return found
  return flags.includes(found) ? `did you mean --${found}?` : undefined
}

/**
 * What to say to an argument that a command does not take.
 * @param flags of the command
 */
export function foreignArgument(typed: string, command: CommandName, flags: readonly string[]): string | undefined {
  if (command === 'backup-plan' && /[/\\]/.test(typed)) return noDirectory
  const asFlag = typed.toLowerCase()
  return flags.includes(asFlag) ? `did you mean --${asFlag}?` : undefined
}

/** What to say to a setting that is typed as a flag, which WAL-G allows: `--walg-slotname`; undefined for other words. */
export function settingAsFlag(typed: string): string | undefined {
  const name = typed.replace(/^-+/, '').replaceAll('-', '_').toUpperCase()
  const option = optionNamed(name)
  if (!option) return undefined
  return option.flag === undefined
    ? `set ${optionLabel(option)}`
    : `write --${option.flag}, or set ${optionLabel(option)}`
}

function own(words: Readonly<Record<string, string>>, word: string): string | undefined {
  return Object.hasOwn(words, word) ? words[word] : undefined
}
