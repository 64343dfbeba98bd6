/** Clocks that differ: times of a recovery target, of backups and of logs are then not what they seem. */
import { type Finding, ok, skipped, warning, words } from './finding.ts'
import type { CheckId } from './check-table.ts'

/** Clocks that differ by more are warned of, in milliseconds. */
const skewMaxMs = 5_000

/** How far another clock is ahead of ours. */
export interface ClockReading {
  readonly aheadMs: number
  /** The reading may be wrong by so much. */
  readonly errorMs: number
}

/** @param whose for the sentence: `the server`, `the store` */
export function clockFinding(id: CheckId, whose: string, reading: ClockReading | undefined, reason: string): Finding {
  if (!reading) return skipped(id, reason)
  const { aheadMs, errorMs } = reading
  const seconds = (Math.abs(aheadMs) / 1000).toFixed(1)
  const direction = aheadMs > 0 ? 'ahead of' : 'slower than'
  if (Math.abs(aheadMs) - errorMs <= skewMaxMs) {
    return ok(
      id,
      `the clock of ${whose} and of this machine agree to ${((Math.abs(aheadMs) + errorMs) / 1000).toFixed(1)} s`,
    )
  }
  return warning(
    id,
    `the clock of ${whose} is ${seconds} s ${direction} this machine's, and they must agree to ${skewMaxMs / 1000} s`,
    words(`have both machines follow the same time (chronyd or systemd-timesyncd): timedatectl shows this one's state`),
  )
}
