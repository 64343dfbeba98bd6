/**
 * The commands and flags that WAL-G 3.0.9 has for PostgreSQL, and what walrx has for each: its own, or the answer that it
 * gives to the word (see foreign-words.ts). docs/walg-commands.md is made from this.
 */
import { commandRow } from '../../config/commands.ts'
import type { CommandName } from '../../config/options/option-types.ts'
import { flagsOf } from './arguments.ts'
import { foreignCommand, foreignOption } from './foreign-words.ts'

const transferFlags = [
  ...['source|s', 'overwrite|o', 'preserve|p', 'fail-fast', 'concurrency|c', 'max-files|m'],
  ...['appearance-checks', 'appearance-checks-interval'],
]
const deleteFlags = ['confirm', 'use-sentinel-time']
const storageFlags = ['target|t', 'glob|g']

/** Flags of each command, with their letter after a bar; without those of all commands (wal-g: cmd/pg, cmd/common). */
export const walgCommands: Readonly<Record<string, readonly string[]>> = {
  'backup-fetch': [
    ...['mask', 'restore-spec', 'reverse-unpack', 'skip-redundant-tars', 'target-user-data', 'restore-only'],
    'target-storage',
  ],
  'backup-list': ['pretty', 'json', 'detail', 'target-storage'],
  'backup-mark': ['impermanent|i'],
  'backup-push': [
    ...['permanent|p', 'full|f', 'verify|v', 'store-all-corrupt|s', 'rating-composer|r', 'copy-composer|c'],
    ...['database-composer|b', 'delta-from-name', 'delta-from-user-data', 'add-user-data', 'without-files-metadata'],
    'target-storage',
  ],
  'catchup-fetch': ['use-new-unwrap'],
  'catchup-list': ['pretty', 'json', 'detail'],
  'catchup-push': ['from-lsn'],
  'catchup-receive': [],
  'catchup-send': [],
  completion: [],
  copy: ['backup-name|b', 'from|f', 'to|t', 'with-history|w'],
  daemon: [],
  delete: deleteFlags,
  'delete before': deleteFlags,
  'delete everything': deleteFlags,
  'delete garbage': ['without-backup-check', ...deleteFlags],
  'delete retain': ['after|a', ...deleteFlags],
  'delete target': ['target-user-data', ...deleteFlags],
  flags: [],
  pgbackrest: [],
  'pgbackrest backup-fetch': [],
  'pgbackrest backup-list': ['pretty', 'json', 'detail'],
  'pgbackrest wal-fetch': [],
  'pgbackrest wal-show': ['detailed-json'],
  st: storageFlags,
  'st cat': ['decompress', 'decrypt', ...storageFlags],
  'st check': storageFlags,
  'st check read': storageFlags,
  'st check write': storageFlags,
  'st copy': ['decrypt-source|d', 'encrypt-source|e', 'from', 'to', 'prefix|p', ...storageFlags],
  'st get': ['no-decompress', 'no-decrypt', ...storageFlags],
  'st ls': ['all-versions', 'recursive|r', ...storageFlags],
  'st put': ['force|f', 'no-compress', 'no-encrypt', 'read-stdin|s', ...storageFlags],
  'st rm': ['all-versions', 'version-id', ...storageFlags],
  'st stat': storageFlags,
  'st transfer': [...transferFlags, ...storageFlags],
  'st transfer backups': ['max-backups', ...transferFlags, ...storageFlags],
  'st transfer files': [...transferFlags, ...storageFlags],
  'st transfer pg-wals': [...transferFlags, ...storageFlags],
  'wal-fetch': ['target-storage'],
  'wal-prefetch': ['target-storage'],
  'wal-push': ['target-storage'],
  'wal-receive': [],
  'wal-restore': [],
  'wal-show': ['detailed-json', 'without-backups'],
  'wal-verify': ['json', 'timeline', 'lsn', 'backup-name'],
}

/** Flags of all commands of WAL-G, but for the settings, each of which is a flag too: `--walg-slotname`. */
export const walgGlobalFlags: readonly string[] = ['config', 'turbo', 'help|h', 'version|v']

/** Commands below one that walrx has, which it does not have. */
const missing: Readonly<Record<string, string>> = {
  'st copy': 'the tools of the storage do that: aws s3 sync for a bucket, cp -a for a directory',
  'st transfer': 'walrx knows one storage only: there is nothing to move between several',
}

/** What walrx has for a command of WAL-G. */
export interface WalgCommandFate {
  /** As typed: `delete retain`. */
  readonly name: string
  /** The command of walrx, by its name; undefined for none. */
  readonly command: CommandName | undefined
  /** What it answers instead; undefined where it has the command. */
  readonly answer: string | undefined
  readonly flags: readonly WalgFlagFate[]
}

/** Flags that walrx has, and that take less there than WAL-G's. */
const partly: Readonly<Record<string, string>> = {
  'backup-fetch restore-only': 'for databases; walrx has no tables there (db/table)',
}

/** What walrx has for a flag. */
export interface WalgFlagFate {
  /** Without the dashes. */
  readonly flag: string
  readonly letter: string | undefined
  /** `same`: as it is. Else the answer of the program; undefined where it has none, or the command is not there. */
  readonly answer: 'same' | string | undefined
  /** True where the letter is the same too. */
  readonly isLetterSame: boolean
  /** How far it is the same; undefined for a flag that takes all that WAL-G's takes. */
  readonly extent: string | undefined
}

/** All commands, in the order of the table. */
export function walgCommandFates(): WalgCommandFate[] {
  return Object.entries(walgCommands).map(([name, flags]) => {
    const [word = ''] = name.split(' ')
    const lacking = Object.entries(missing).find(([each]) => name === each || name.startsWith(`${each} `))?.[1]
    const command = lacking === undefined && commandRow(word) ? (word as CommandName) : undefined
    const answer = command ? undefined : (lacking ?? foreignCommand(word))
    return { name, command, answer, flags: flags.map((each) => flagFate(each, command)) }
  })
}

function flagFate(each: string, command: CommandName | undefined): WalgFlagFate {
  const [flag = '', letter] = each.split('|')
  const extent = partly[`${command} ${flag}`]
  if (!command) return { flag, letter, answer: undefined, isLetterSame: false, extent }
  const own = flagsOf({ name: command })
  const found = own.find((it) => it.flag === flag || `no-${it.flag}` === flag)
  if (found) return { flag, letter, answer: 'same', isLetterSame: found.spec.alias === letter, extent }
  const names = own.map((it) => it.flag)
  return { flag, letter, answer: foreignOption(`--${flag}`, command, names), isLetterSame: false, extent }
}
