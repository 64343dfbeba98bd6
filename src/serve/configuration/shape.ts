/**
 * What a configuration of `walrx serve` may hold: the one table for the reader, the JSON schema and the tests. Keys with
 * an option that they stand for have its name, its type and its help from config/options; the others are here.
 */
import { optionsOf } from '../../config/load.ts'
import type { CommandName, OptionGroup, OptionSpec, OptionType } from '../../config/options/option-types.ts'
import { type OptionKey, optionTable } from '../../config/options/options.ts'

/** How the text of a key is read: as an option, or as one of our own. */
export type ValueType = OptionType | { readonly kind: 'schedule' } | { readonly kind: 'time zone' }

/** One key with a value. */
export interface KeyShape {
  readonly help: string
  readonly type: ValueType
  /** The option that it sets; undefined for a key of our own. */
  readonly option?: OptionKey
  /** What happens without it, for the schema. */
  readonly defaultText?: string
}

/** A map of keys in a cluster, or in `defaults`. */
export interface SectionShape {
  readonly help: string
  readonly keys: ReadonlyMap<string, KeyShape>
}

/** What is run on a schedule, by the name of its section. */
export const jobTable = {
  backup: { command: 'backup-push', words: [], help: 'base backups: full ones, and deltas' },
  retention: { command: 'delete', words: ['--confirm'], help: 'deletion of what no rule keeps' },
  verify: { command: 'backup-verify', words: ['LATEST'], help: 'reads the newest backup and checks every file of it' },
  'wal-verify': { command: 'wal-verify', words: [], help: 'checks that no WAL is missing since the earliest backup' },
  scrub: { command: 'scrub', words: [], help: 'has the server read all its pages and verify their checksums' },
} as const satisfies Record<
  string,
  { readonly command: CommandName; readonly words: readonly string[]; readonly help: string }
>

/** A job of {@link jobTable}. */
export type JobName = keyof typeof jobTable

/** The jobs, in the order in which those that are due at once run. */
export const jobNames = Object.keys(jobTable) as readonly JobName[]

/** When a job runs: each key is a trigger of its own. */
export const triggerNames = ['schedule', 'full', 'delta'] as const

/** A trigger of {@link triggerNames}. */
export type TriggerName = (typeof triggerNames)[number]

const dayMs = 24 * 3600_000
const MiB = 1024 * 1024

const scheduleKey: KeyShape = {
  help: 'when it runs, as cron writes it (30 2 * * sun, or six fields with seconds first), or a list of that; off for never',
  type: { kind: 'schedule' },
}

const timeZoneKey: KeyShape = {
  help: 'time zone of the schedules, for instance Europe/Zurich',
  type: { kind: 'time zone' },
  defaultText: "the machine's",
}

const ofEveryJob: readonly (readonly [string, KeyShape])[] = [
  ['schedule', scheduleKey],
  ['time-zone', timeZoneKey],
  [
    'jitter',
    {
      help: 'it begins up to so much later than the schedule says: always as much for one time of one cluster',
      type: { kind: 'duration', minMs: 0, maxMs: dayMs },
      defaultText: '0',
    },
  ],
  [
    'timeout',
    {
      help: 'a run that takes longer is ended, and has failed',
      type: { kind: 'duration', minMs: 1000, maxMs: 30 * dayMs },
      defaultText: '24h',
    },
  ],
]

const ofBackups: readonly (readonly [string, KeyShape])[] = [
  ['full', { ...scheduleKey, help: `full backups: ${scheduleKey.help}` }],
  ['delta', { ...scheduleKey, help: `deltas where they are possible, else full backups: ${scheduleKey.help}` }],
]

/** Options that mean nothing here: serve says it in another way, or they are for one call. */
const leftOut: ReadonlySet<OptionKey> = new Set<OptionKey>([
  ...(['endPos', 'statusListen', 'full', 'waitForWal', 'confirm', 'retainAfter', 'useSentinelTime'] as const),
  ...(['targetUserData', 'withoutBackupCheck'] as const),
])

function ofGroups(command: CommandName, ...groups: readonly OptionGroup[]): (readonly [string, KeyShape])[] {
  return optionsOf(command).flatMap(([key, spec]) => (groups.includes(spec.group) ? keyOf(key, spec) : []))
}

function ofOptions(...keys: readonly OptionKey[]): (readonly [string, KeyShape])[] {
  return keys.flatMap((key) => keyOf(key, optionTable[key]))
}

function keyOf(option: OptionKey, spec: OptionSpec): (readonly [string, KeyShape])[] {
  const { default: fallback, flag, help, type } = spec
  const defaultText = fallback ?? spec.defaultText
  if (flag === undefined || leftOut.has(option)) return []
  return [[flag, { help, type, option, ...(defaultText !== undefined && { defaultText }) }]]
}

function section(help: string, ...keys: readonly (readonly (readonly [string, KeyShape])[])[]): SectionShape {
  return { help, keys: new Map(keys.flat()) }
}

/** The sections of a cluster, and of `defaults`; those of jobs have the names of {@link jobTable}. */
export const sections: ReadonlyMap<string, SectionShape> = new Map([
  ['server', section('how the server is connected to', ofGroups('wal-receive', 'PostgreSQL'))],
  [
    'storage',
    section(
      'where the archive is, and how it is reached',
      ofGroups('wal-receive', 'Storage', 'S3'),
      ofOptions('storePatienceMs'),
    ),
  ],
  ['compression', section('how new objects are compressed', ofGroups('wal-receive', 'Compression'))],
  ['encryption', section('how objects are encrypted', ofGroups('wal-receive', 'Encryption'))],
  ['receive', section('how WAL is received', ofGroups('wal-receive', 'Receive'))],
  ['backup', section(jobTable.backup.help, ofEveryJob, ofBackups, ofGroups('backup-push', 'Backup'))],
  ['retention', section(jobTable.retention.help, ofEveryJob, ofGroups('delete', 'Retention'))],
  ['verify', section(jobTable.verify.help, ofEveryJob, ofOptions('downloadConcurrency', 'record'))],
  ['wal-verify', section(jobTable['wal-verify'].help, ofEveryJob, ofOptions('maxDelayedWals', 'verifyBackupName'))],
  ['scrub', section(jobTable.scrub.help, ofEveryJob, ofOptions('checkpoint', 'maxRateBytes'))],
])

/** Keys of a cluster, and of `defaults`, that are no sections. */
export const clusterKeys: ReadonlyMap<string, KeyShape> = new Map([['time-zone', timeZoneKey]])

/** The section of variables. */
export const environmentKey = 'environment'

/** What {@link environmentKey} is for. */
export const environmentHelp =
  "settings by the names of their environment variables: secrets, libpq's PG* variables, and every setting of WAL-G"

/** Keys at the top that are no maps. */
export const topKeys: ReadonlyMap<string, KeyShape> = new Map<string, KeyShape>([
  [
    'listen',
    {
      help: 'address of /metrics, /healthz and /readyz for all clusters; off for none',
      type: { kind: 'string' },
      defaultText: '127.0.0.1:8432',
    },
  ],
  [
    'memory',
    {
      help: 'memory for WAL of all clusters together: what no cluster has a share of its own of is divided evenly',
      type: { kind: 'bytes', min: 2 * MiB, max: 1024 * 1024 * MiB },
      defaultText: "a quarter of the machine's",
    },
  ],
  [
    'jobs',
    {
      help: 'most jobs that run at a time, of all clusters together; of one cluster there is never more than one',
      type: { kind: 'integer', min: 1, max: 1000 },
      defaultText: '2',
    },
  ],
  [
    'nice',
    {
      help: 'priority of the processes of jobs, as nice has it: 0 is that of walrx itself, 19 the lowest',
      type: { kind: 'integer', min: 0, max: 19 },
      defaultText: '10',
    },
  ],
  [
    'state',
    {
      help: 'directory where it is kept which job ran when: an absolute path; it is made where it is missing',
      type: { kind: 'string' },
      defaultText: "systemd's STATE_DIRECTORY, else /var/lib/walrx",
    },
  ],
])

/** Ending of a key whose value is the path of a file that holds the value: `dbname-file`, and `PGPASSWORD_FILE` among variables. */
export const fileEnding = '-file'

/** The same for variables. */
export const variableFileEnding = '_FILE'

/** What the name of a cluster may be: it is a label of metrics, and part of the name of a file. */
export const clusterNamePattern = /^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$/
