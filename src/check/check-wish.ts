/** What `walrx check` is to check for: the settings of the receiver and of backups, as far as they meet the outside. */
import type { Conninfo } from '../postgres/connect/conninfo.ts'

/** See the file's header. */
export interface CheckWish {
  readonly conninfo: Conninfo
  /** Undefined with `--slotless`. */
  readonly slot: string | undefined
  readonly allowStandby: boolean
  readonly isSynchronous: boolean
  /** `--max-slot-lag` in bytes. */
  readonly maxSlotLagBytes: number | undefined
  /** Above it, the slot is dropped. */
  readonly dropsSlot: boolean
  /** `--delta-max-steps`; 0 takes full backups only. */
  readonly deltaMaxSteps: number
  readonly requireIncremental: boolean
  /** `--memory` in bytes; undefined for the default. */
  readonly memoryBytes: number | undefined
}
