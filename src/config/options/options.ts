/** The one table of options. Environment, config file, flags, `--help` and docs/reference.md all come from it. */
import type { CommandName, CommandsOf, OptionSpec, OptionValue } from './option-types.ts'
import { backupOptions } from './backup.ts'
import { catalogOptions, retentionOptions } from './catalog.ts'
import { copyOptions } from './objects/copy.ts'
import { deltaOptions } from './delta.ts'
import { encryptionOptions } from './encryption.ts'
import { objectOptions } from './objects/single-objects.ts'
import { postgresOptions } from './postgres.ts'
import { recoveryOptions } from './recovery.ts'
import { restoreOptions } from './restore.ts'
import { slotOptions } from './slot.ts'
import { s3Options, storageOptions } from './storage.ts'
import { tailOptions } from './tail.ts'
import { compressionOptions, fetchOptions, pushOptions, receiveOptions } from './wal.ts'

const generalOptions = {
  configPath: {
    env: ['WALG_CONFIG_PATH'],
    flag: 'config',
    type: { kind: 'string' },
    valueName: 'FILE',
    defaultText: '~/.walg.{json,yaml,yml,toml,env}, the first that exists',
    commands: ['all'],
    group: 'General',
    help: 'file of settings, by the names of the environment variables; the environment takes precedence',
  },
  serveCheck: {
    env: [],
    flag: 'check',
    type: { kind: 'boolean' },
    default: 'false',
    commands: ['serve'],
    group: 'General',
    help: 'only check the configuration: print its mistakes with line and column and end with status 2, or print what would run',
  },
  serveSchema: {
    env: [],
    flag: 'schema',
    type: { kind: 'boolean' },
    default: 'false',
    commands: ['serve'],
    group: 'General',
    help: 'print the JSON schema of the configuration, for editors',
  },
  logLevel: {
    env: ['WALRX_LOG_LEVEL', 'WALG_LOG_LEVEL'],
    flag: 'log-level',
    type: {
      kind: 'choice',
      values: ['error', 'warn', 'info', 'debug'],
      synonyms: { NORMAL: 'info', DEVEL: 'debug', ERROR: 'error' },
    },
    valueName: 'LEVEL',
    default: 'info',
    commands: ['all'],
    group: 'General',
    help: "least level that is logged; WAL-G's NORMAL, DEVEL and ERROR are understood",
  },
  logFormat: {
    env: ['WALRX_LOG_FORMAT'],
    flag: 'log-format',
    type: { kind: 'choice', values: ['auto', 'json', 'pretty'] },
    valueName: 'FORMAT',
    default: 'auto',
    commands: ['all'],
    group: 'General',
    help: 'JSON lines, or text for people; auto is text on a terminal and JSON elsewhere',
  },
  json: {
    env: [],
    flag: 'json',
    type: { kind: 'boolean' },
    default: 'false',
    commands: ['all with JSON output'],
    group: 'General',
    help: "print JSON instead of text; for a command that WAL-G has too, with WAL-G's fields",
  },
} as const satisfies Record<string, OptionSpec>

/** The table, in the order of `--help`. */
export const optionTable = {
  ...storageOptions,
  ...s3Options,
  ...postgresOptions,
  ...compressionOptions,
  ...encryptionOptions,
  ...receiveOptions,
  ...pushOptions,
  ...slotOptions,
  ...tailOptions,
  ...backupOptions,
  ...deltaOptions,
  ...fetchOptions,
  ...restoreOptions,
  ...recoveryOptions,
  ...catalogOptions,
  ...retentionOptions,
  ...copyOptions,
  ...objectOptions,
  ...generalOptions,
} as const satisfies Record<string, OptionSpec>

/** Name of an option in code. */
export type OptionKey = keyof typeof optionTable

type OptionKeyOf<C extends CommandName> = {
  [K in OptionKey]: C extends CommandsOf<(typeof optionTable)[K]['commands'][number]> ? K : never
}[OptionKey]

/** The values of the options that a command takes, by key. */
export type OptionValues<C extends CommandName> = {
  readonly [K in OptionKeyOf<C>]: OptionValue<(typeof optionTable)[K]>
}
