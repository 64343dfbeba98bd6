/** Options of delta backups: WAL-G's own, and what to do where a delta is not possible. */
import type { OptionSpec } from './option-types.ts'

/** What backups build on. */
export const deltaOptions = {
  full: {
    env: [],
    flag: 'full',
    alias: 'f',
    type: { kind: 'boolean' },
    default: 'false',
    commands: ['all that plan a backup'],
    group: 'Backup',
    help: 'take a full backup, whatever the settings of deltas are',
  },
  deltaMaxSteps: {
    env: ['WALG_DELTA_MAX_STEPS'],
    flag: 'delta-max-steps',
    type: { kind: 'integer', min: 0, max: 64 },
    valueName: 'COUNT',
    default: '0',
    commands: ['all that plan a backup'],
    group: 'Backup',
    help: 'most deltas of a chain, before the next full backup (PostgreSQL 17 and later); 0 takes full backups only',
  },
  deltaOrigin: {
    env: ['WALG_DELTA_ORIGIN'],
    flag: 'delta-origin',
    type: { kind: 'choice', values: ['LATEST', 'LATEST_FULL'] },
    valueName: 'ORIGIN',
    default: 'LATEST',
    commands: ['all that plan a backup'],
    group: 'Backup',
    help: 'what a delta builds on: the newest backup, or the full one at the root of its chain',
  },
  deltaFromName: {
    env: ['WALG_DELTA_FROM_NAME'],
    flag: 'delta-from-name',
    type: { kind: 'string' },
    valueName: 'NAME',
    commands: ['all that plan a backup'],
    group: 'Backup',
    help: 'backup to build on instead of the newest',
  },
  deltaFromUserData: {
    env: ['WALG_DELTA_FROM_USER_DATA'],
    flag: 'delta-from-user-data',
    type: { kind: 'string' },
    valueName: 'JSON',
    commands: ['all that plan a backup'],
    group: 'Backup',
    help: 'backup to build on, by the data that --add-user-data stored in it',
  },
  requireIncremental: {
    env: ['WALRX_REQUIRE_INCREMENTAL'],
    flag: 'require-incremental',
    type: { kind: 'boolean' },
    default: 'false',
    commands: ['all that plan a backup'],
    group: 'Backup',
    help: 'fail if a delta is not possible, instead of taking a full backup',
  },
} as const satisfies Record<string, OptionSpec>
