/** Options of what goes to the archive before a segment is whole, and of commits that wait for it. */
import type { OptionSpec } from './option-types.ts'

/** Rows of the table. */
export const tailOptions = {
  tailIntervalMs: {
    env: ['WALRX_TAIL_INTERVAL'],
    flag: 'tail-interval',
    type: { kind: 'duration', minMs: 0, maxMs: 3600_000 },
    default: '1s',
    commands: ['wal-receive'],
    group: 'Receive',
    help: 'new bytes of the unfinished segment go to the archive at most this often, and only if there are any; 0 for never',
  },
  tailBytes: {
    env: ['WALRX_TAIL_BYTES'],
    flag: 'tail-bytes',
    type: { kind: 'bytes', min: 64 * 1024, max: 64 * 1024 * 1024 },
    valueName: 'SIZE',
    default: '1MB',
    commands: ['wal-receive'],
    group: 'Receive',
    help: 'longest chunk of an unfinished segment, before compression',
  },
  synchronous: {
    env: ['WALRX_SYNCHRONOUS'],
    flag: 'synchronous',
    type: { kind: 'boolean' },
    default: 'false',
    commands: ['wal-receive'],
    group: 'Receive',
    help: 'commits wait for the archive: report what is durable in it as flushed; name us in synchronous_standby_names',
  },
  syncOutageMs: {
    env: ['WALRX_SYNC_OUTAGE'],
    flag: 'sync-outage',
    type: { kind: 'duration', minMs: 0, maxMs: 7 * 24 * 3600_000 },
    default: '0',
    commands: ['wal-receive'],
    group: 'Receive',
    help: 'synchronous: how long commits wait for a storage that is out before we step down, so that other standbys take over; 0 for ever',
  },
} as const satisfies Record<string, OptionSpec>
