/** Which runs of a job are due, by its schedules and by what has been looked at before. Functions of their arguments. */
import type { JobPlan, Trigger } from '../configuration/cluster-plan.ts'
import type { TriggerName } from '../configuration/shape.ts'
import { jitterAt } from '../schedule/schedule.ts'
import type { JobRecord } from './job-record.ts'

/** A trigger that has come. */
export interface DueTrigger {
  readonly name: TriggerName
  readonly dueMs: number
}

/** What a look at the schedules finds. */
export interface Look {
  /** Of triggers that came several times since the last look, the last one counts: one run makes up for all. */
  readonly due: readonly DueTrigger[]
  readonly record: JobRecord
}

/** At most so many times of one trigger are looked at one by one. */
const timesMax = 10_000

/**
 * Looks at the schedules of a job.
 * @param what cluster and job, for the jitter
 */
export function lookAtSchedules(plan: JobPlan, record: JobRecord, nowMs: number, what: string): Look {
  const due: DueTrigger[] = []
  const schedules: Partial<Record<TriggerName, string>> = {}
  const handledMs: Partial<Record<TriggerName, number>> = {}
  for (const trigger of plan.triggers) {
    const { name, text } = trigger
    schedules[name] = text
    const known = record.schedules[name] === text ? record.handledMs[name] : undefined
    // The clock may have been put back.
    const fromMs = known === undefined || known > nowMs + plan.jitterMs ? nowMs : known
    const { dueMs, handled } = timesOf(trigger, fromMs, plan, { nowMs, what })
    handledMs[name] = handled
    if (dueMs !== undefined) due.push({ name, dueMs })
  }
  return { due, record: { ...record, schedules, handledMs } }
}

function timesOf(
  { schedule }: Trigger,
  fromMs: number,
  { jitterMs }: JobPlan,
  { nowMs, what }: { readonly nowMs: number; readonly what: string },
): { readonly handled: number; readonly dueMs: number | undefined } {
  let dueMs: number | undefined
  let handled = fromMs
  for (let count = 0; count < timesMax; count++) {
    const next = schedule.next(handled)
    if (next === undefined || next + jitterAt(what, next, jitterMs) > nowMs) break
    dueMs = next
    // Of a long time that was missed only the end can hold times that are still to come.
    handled = Math.max(next, count === 0 ? nowMs - jitterMs - 1 : next)
  }
  return { dueMs, handled }
}

/** When a job begins next by its schedules, jitter included, and by which trigger; undefined for never. */
export function nextRun(
  plan: JobPlan,
  record: JobRecord,
  nowMs: number,
  what: string,
): { readonly atMs: number; readonly name: TriggerName } | undefined {
  let first: { readonly atMs: number; readonly name: TriggerName } | undefined
  for (const { name, schedule, text } of plan.triggers) {
    const handled = record.schedules[name] === text ? (record.handledMs[name] ?? nowMs) : nowMs
    const next = schedule.next(handled)
    if (next === undefined) continue
    const atMs = next + jitterAt(what, next, plan.jitterMs)
    if (!first || atMs < first.atMs) first = { atMs, name }
  }
  return first
}
