/** What is known of the jobs of one cluster: plain values, kept in a file so that a restart knows what was due. */
import type { TriggerName } from '../configuration/shape.ts'

/** Why a run began: by a trigger of its schedule, or because it was asked for. */
export type RunMode = TriggerName | 'asked'

/** A run that is due. */
export interface PendingRun {
  readonly mode: RunMode
  /** When it was due, in milliseconds since 1970. */
  readonly dueMs: number
  /** Attempts that have failed. */
  readonly attempts: number
  /** It does not begin before. */
  readonly notBeforeMs: number
}

/** A run under way. */
export interface RunningRun {
  readonly mode: RunMode
  readonly dueMs: number
  readonly startedMs: number
  readonly attempts: number
  readonly pid: number | undefined
  /** When the process began, as /proc has it: another process of that id began later. */
  readonly processStart: string | undefined
}

/** How a run ended: `stopped` by walrx, which runs it again. */
export type RunOutcome = 'succeeded' | 'failed' | 'stopped'

/** A run that has ended. */
export interface EndedRun {
  readonly mode: RunMode
  readonly startedMs: number
  readonly endedMs: number
  readonly outcome: RunOutcome
  /** Undefined where a signal ended it. */
  readonly status: number | undefined
  /** Why it failed. */
  readonly error?: string | undefined
}

/** Everything about one job of one cluster. */
export interface JobRecord {
  /** Text of each trigger's schedule: a new one counts from when it was first seen. */
  readonly schedules: Readonly<Partial<Record<TriggerName, string>>>
  /** Up to when each trigger has been looked at. */
  readonly handledMs: Readonly<Partial<Record<TriggerName, number>>>
  readonly pending?: PendingRun | undefined
  readonly running?: RunningRun | undefined
  readonly last?: EndedRun | undefined
  readonly lastSuccessMs?: number | undefined
}

/** A job that nothing is known about. */
export const newRecord: JobRecord = { schedules: {}, handledMs: {} }
