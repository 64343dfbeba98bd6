/** What schedules did. */

/** What a schedule did, for the test's report. */
export interface ScheduleReport {
  readonly seed: number
  flushes: number
  kills: number
  promotions: number
  switchovers: number
  splits: number
  shutdowns: number
  outages: number
  slotLosses: number
  gaps: number
  /** Receivers of schedules that had two. */
  pairs: number
  /** Schedules that ended with receivers that the history of another promotion keeps out. */
  fenced: number
  /** Objects that a failed put has left torn, and those of them that a receiver has named. */
  tears: number
  torn: number
}

/** Of a schedule that has not begun. */
export function emptyReport(seed: number): ScheduleReport {
  return {
    seed,
    flushes: 0,
    kills: 0,
    promotions: 0,
    switchovers: 0,
    splits: 0,
    shutdowns: 0,
    outages: 0,
    slotLosses: 0,
    gaps: 0,
    pairs: 0,
    fenced: 0,
    tears: 0,
    torn: 0,
  }
}
