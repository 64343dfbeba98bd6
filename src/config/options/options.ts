/** The one table of options. Environment, config file, flags, `--help` and the README's reference all come from it. */
import type { CommandName, OptionSpec, OptionValue } from './option-types.ts'
import { backupOptions } from './options-backup.ts'
import { catalogOptions } from './options-catalog.ts'
import { deltaOptions } from './options-delta.ts'
import { postgresOptions } from './options-postgres.ts'
import { recoveryOptions } from './options-recovery.ts'
import { restoreOptions } from './options-restore.ts'
import { slotOptions } from './options-slot.ts'
import { s3Options, storageOptions } from './options-storage.ts'
import { tailOptions } from './options-tail.ts'
import { compressionOptions, fetchOptions, receiveOptions } from './options-wal.ts'

const all = [
  'wal-receive',
  'wal-fetch',
  'restore-command',
  'wal-prefetch',
  'wal-show',
  'wal-finalize',
  'backup-push',
  'backup-plan',
  'backup-finish',
  'scrub',
  'backup-fetch',
  'backup-verify',
  'backup-list',
  'backup-show',
  'backup-mark',
] as const satisfies CommandName[]

const generalOptions = {
  configPath: {
    env: ['WALG_CONFIG_PATH'],
    flag: 'config',
    type: { kind: 'string' },
    valueName: 'FILE',
    defaultText: '~/.walg.{json,yaml,yml,toml,env}, the first that exists',
    commands: all,
    group: 'General',
    help: 'file of settings by the names of the environment variables; the environment goes before it',
  },
  logLevel: {
    env: ['WALRX_LOG_LEVEL', 'WALG_LOG_LEVEL'],
    flag: 'log-level',
    type: {
      kind: 'choice',
      values: ['error', 'warn', 'info', 'debug'],
      synonyms: { NORMAL: 'info', DEVEL: 'debug', ERROR: 'error' },
    },
    default: 'info',
    commands: all,
    group: 'General',
    help: "what is logged; WAL-G's NORMAL, DEVEL and ERROR are understood",
  },
  logFormat: {
    env: ['WALRX_LOG_FORMAT'],
    flag: 'log-format',
    type: { kind: 'choice', values: ['auto', 'json', 'pretty'] },
    default: 'auto',
    commands: all,
    group: 'General',
    help: 'JSON lines, or text for people; auto is text on a terminal and JSON elsewhere',
  },
  json: {
    env: [],
    flag: 'json',
    type: { kind: 'boolean' },
    default: 'false',
    commands: [
      'wal-show',
      'wal-finalize',
      'backup-push',
      'backup-plan',
      'scrub',
      'backup-fetch',
      'backup-verify',
      'backup-list',
      'backup-show',
    ],
    group: 'General',
    help: 'print JSON instead of text; where WAL-G has the command, in its shape',
  },
} as const satisfies Record<string, OptionSpec>

/** The table, in the order of `--help`. */
export const optionTable = {
  ...storageOptions,
  ...s3Options,
  ...postgresOptions,
  ...compressionOptions,
  ...receiveOptions,
  ...slotOptions,
  ...tailOptions,
  ...backupOptions,
  ...deltaOptions,
  ...fetchOptions,
  ...restoreOptions,
  ...recoveryOptions,
  ...catalogOptions,
  ...generalOptions,
} as const satisfies Record<string, OptionSpec>

/** Name of an option in code. */
export type OptionKey = keyof typeof optionTable

type OptionKeyOf<C extends CommandName> = {
  [K in OptionKey]: C extends (typeof optionTable)[K]['commands'][number] ? K : never
}[OptionKey]

/** The values of the options that a command takes, by key. */
export type OptionValues<C extends CommandName> = {
  readonly [K in OptionKeyOf<C>]: OptionValue<(typeof optionTable)[K]>
}
