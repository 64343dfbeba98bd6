/** Reads the records of jobs out of a file that anybody may have written: every field is looked at. */
import { type JobName, jobNames, type TriggerName, triggerNames } from '../configuration/shape.ts'
import type { EndedRun, JobRecord, PendingRun, RunMode, RunningRun } from './job-record.ts'

type Fields = Readonly<Record<string, unknown>>

/** The file has another shape than it should. */
class ShapeError extends Error {}

/**
 * The records by the names of jobs; those of names that are not known are left out.
 * @returns undefined for a text that is no state, or of another version, or where any field is not what it should be
 */
export function parseRecords(text: string): Readonly<Partial<Record<JobName, JobRecord>>> | undefined {
  try {
    const { jobs, version } = fieldsOf(JSON.parse(text))
    if (version !== 1) return undefined
    const known = jobNames.flatMap((name) => {
      const record = fieldsOf(jobs)[name]
      return record === undefined ? [] : [[name, recordOf(fieldsOf(record))] as const]
    })
    return Object.fromEntries(known)
  } catch (error) {
    if (error instanceof ShapeError || error instanceof SyntaxError) return undefined
    throw error
  }
}

function recordOf({ handledMs, last, lastSuccessMs, pending, running, schedules }: Fields): JobRecord {
  return {
    schedules: byTrigger(schedules, textOf),
    handledMs: byTrigger(handledMs, timeOf),
    pending: optional(pending, (value) => pendingOf(fieldsOf(value))),
    running: optional(running, (value) => runningOf(fieldsOf(value))),
    last: optional(last, (value) => endedOf(fieldsOf(value))),
    lastSuccessMs: optional(lastSuccessMs, timeOf),
  }
}

function pendingOf({ attempts, dueMs, mode, notBeforeMs }: Fields): PendingRun {
  return { mode: modeOf(mode), dueMs: timeOf(dueMs), attempts: countOf(attempts), notBeforeMs: timeOf(notBeforeMs) }
}

function runningOf({ attempts, dueMs, mode, pid, processStart, startedMs }: Fields): RunningRun {
  return {
    mode: modeOf(mode),
    dueMs: timeOf(dueMs),
    startedMs: timeOf(startedMs),
    attempts: countOf(attempts),
    pid: optional(pid, pidOf),
    processStart: optional(processStart, textOf),
  }
}

function endedOf({ endedMs, error, mode, outcome, startedMs, status }: Fields): EndedRun {
  if (outcome !== 'succeeded' && outcome !== 'failed' && outcome !== 'stopped') throw new ShapeError('outcome')
  return {
    mode: modeOf(mode),
    startedMs: timeOf(startedMs),
    endedMs: timeOf(endedMs),
    outcome,
    status: optional(status, countOf),
    error: optional(error, textOf),
  }
}

function byTrigger<Value>(value: unknown, read: (value: unknown) => Value): Partial<Record<TriggerName, Value>> {
  const fields = fieldsOf(value)
  const known = triggerNames.filter((name) => fields[name] !== undefined)
  return Object.fromEntries(known.map((name) => [name, read(fields[name])]))
}

function optional<Value>(value: unknown, read: (value: unknown) => Value): Value | undefined {
  return value === undefined ? undefined : read(value)
}

function fieldsOf(value: unknown): Fields {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw new ShapeError('object')
  return value as Fields
}

function modeOf(value: unknown): RunMode {
  const mode = [...triggerNames, 'asked' as const].find((each) => each === value)
  if (mode === undefined) throw new ShapeError('mode')
  return mode
}

/** The last moment that a Date can have. */
const timeMax = 8.64e15

/** Milliseconds since 1970. */
function timeOf(value: unknown): number {
  if (typeof value !== 'number' || !(Math.abs(value) <= timeMax)) throw new ShapeError('time')
  return value
}

function countOf(value: unknown): number {
  if (!Number.isSafeInteger(value) || (value as number) < 0) throw new ShapeError('count')
  return value as number
}

/** Ids of 0 and below stand for groups of processes. */
function pidOf(value: unknown): number {
  const pid = countOf(value)
  if (pid <= 1) throw new ShapeError('process')
  return pid
}

function textOf(value: unknown): string {
  if (typeof value !== 'string') throw new ShapeError('text')
  return value
}
