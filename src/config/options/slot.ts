/** Options of wal-receive about the slot, the WAL that it keeps, and WAL that is lost. */
import type { OptionSpec } from './option-types.ts'

const MiB = 1024 * 1024

/** What the slot may cost the server, and what is done about gaps. */
export const slotOptions = {
  maxSlotLagBytes: {
    env: ['WALRX_MAX_SLOT_LAG'],
    flag: 'max-slot-lag',
    type: { kind: 'bytes', min: 2 * MiB, max: 1024 * 1024 * 1024 * MiB },
    valueName: 'SIZE',
    defaultText: 'no limit',
    commands: ['all that receive'],
    group: 'Receive',
    help: 'most WAL that the slot may make the server keep: above half of it walrx logs a warning, above it an error',
  },
  slotLagAction: {
    env: ['WALRX_SLOT_LAG_ACTION'],
    flag: 'slot-lag-action',
    type: { kind: 'choice', values: ['warn', 'drop'] },
    valueName: 'ACTION',
    default: 'warn',
    commands: ['all that receive'],
    group: 'Receive',
    help: "above --max-slot-lag: log an error, or also drop the slot: that saves the server's disk, and may lose WAL",
  },
  backupAfterGap: {
    env: ['WALRX_BACKUP_AFTER_GAP'],
    flag: 'backup-after-gap',
    type: { kind: 'boolean' },
    default: 'false',
    commands: ['all that receive'],
    group: 'Receive',
    help: 'take a base backup after every gap, with the same settings',
  },
} as const satisfies Record<string, OptionSpec>
