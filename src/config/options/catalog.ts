/** Options of the commands that look at the backups of an archive and mark them. Flags only. */
import type { OptionSpec } from './option-types.ts'

/** How backups are shown and marked. */
export const catalogOptions = {
  detail: {
    env: [],
    flag: 'detail',
    type: { kind: 'boolean' },
    default: 'false',
    commands: ['backup-list', 'backup-show'],
    group: 'Catalogue',
    help: 'backup-list: also the fields of metadata.json; backup-show: also every part, and with --json the table of files',
  },
  pretty: {
    env: [],
    flag: 'pretty',
    type: { kind: 'boolean' },
    default: 'false',
    commands: ['backup-list'],
    group: 'Catalogue',
    help: "WAL-G's option: with --json the output is indented; without it nothing changes",
  },
  chains: {
    env: [],
    flag: 'chains',
    type: { kind: 'boolean' },
    default: 'false',
    commands: ['backup-list'],
    group: 'Catalogue',
    help: "also the chain of each delta, and whether the archive has all of it, in columns or fields after WAL-G's own",
  },
  impermanent: {
    env: [],
    flag: 'impermanent',
    alias: 'i',
    type: { kind: 'boolean' },
    default: 'false',
    commands: ['backup-mark'],
    group: 'Catalogue',
    help: 'remove the mark instead of setting it',
  },
  rewriteSentinels: {
    env: [],
    flag: 'rewrite-sentinels',
    type: { kind: 'boolean' },
    default: 'false',
    commands: ['backup-mark'],
    group: 'Catalogue',
    help: 'also write the mark into sentinels, where WAL-RUS reads it; all newer sentinels are put again after them, so that LATEST stays the same backup',
  },
} as const satisfies Record<string, OptionSpec>
