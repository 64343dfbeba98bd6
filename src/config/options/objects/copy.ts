/** Options of copying an archive. Flags only. */
import type { OptionSpec } from '../option-types.ts'

/** What is copied, and where to. */
export const copyOptions = {
  copyTo: {
    env: [],
    flag: 'to',
    alias: 't',
    type: { kind: 'string' },
    isRepeatable: true,
    valueName: 'ARCHIVE|END',
    commands: ['copy'],
    group: 'Copy',
    help: 'the archive to copy to: s3://BUCKET/PATH, a directory, or a config file with its own settings; once more with a time, an LSN or the name of a backup, where a window ends',
  },
  copyFrom: {
    env: [],
    flag: 'from',
    alias: 'f',
    type: { kind: 'string' },
    isRepeatable: true,
    valueName: 'BEGIN|ARCHIVE',
    defaultText: 'all of the archive of the settings',
    commands: ['copy'],
    group: 'Copy',
    help: 'where a window begins: a time, an LSN or the name of a backup; the newest backup that was complete there comes along, with its WAL. An archive, as for --to, is the one to copy from',
  },
  copyBackup: {
    env: [],
    flag: 'backup-name',
    alias: 'b',
    type: { kind: 'string' },
    valueName: 'NAME',
    commands: ['copy'],
    group: 'Copy',
    help: 'copy only this backup, or LATEST, with all that it builds on and the WAL that makes it consistent',
  },
  withHistory: {
    env: [],
    flag: 'with-history',
    alias: 'w',
    type: { kind: 'boolean' },
    default: 'false',
    commands: ['copy'],
    group: 'Copy',
    help: 'with --backup-name: also all WAL from that backup on; without it, all WAL is copied anyway',
  },
  verifyCopy: {
    env: [],
    flag: 'verify',
    type: { kind: 'boolean' },
    default: 'false',
    commands: ['copy'],
    group: 'Copy',
    help: 'read the copy and its source once more, what was there already too, and compare every byte',
  },
} as const satisfies Record<string, OptionSpec>
