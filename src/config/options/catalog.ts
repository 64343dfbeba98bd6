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
    help: 'backup-list: what metadata.json says as well; backup-show: every part, and the table of files as well',
  },
  chains: {
    env: [],
    flag: 'chains',
    type: { kind: 'boolean' },
    default: 'false',
    commands: ['backup-list'],
    group: 'Catalogue',
    help: "what each delta builds on, and whether all of it is there, in columns or fields behind WAL-G's own",
  },
  impermanent: {
    env: [],
    flag: 'impermanent',
    alias: 'i',
    type: { kind: 'boolean' },
    default: 'false',
    commands: ['backup-mark'],
    group: 'Catalogue',
    help: 'take the mark away instead',
  },
  rewriteSentinels: {
    env: [],
    flag: 'rewrite-sentinels',
    type: { kind: 'boolean' },
    default: 'false',
    commands: ['backup-mark'],
    group: 'Catalogue',
    help: 'write the mark into sentinels too, which WAL-RUS goes by, where they are not the newest; all newer ones are put again after them, so that LATEST stays what it is',
  },
} as const satisfies Record<string, OptionSpec>
