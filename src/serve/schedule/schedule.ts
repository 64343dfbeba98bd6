/**
 * When something is due: patterns of cron in a time zone, by the library croner. Where the clocks are put forward, a time
 * that does not exist comes right after the gap; where they are put back, a time that comes twice counts once.
 */
import { Cron } from 'croner'

/** Patterns of one schedule: it is due when any of them is. */
export class Schedule {
  readonly #crons: readonly Cron[]

  /** @throws Error for what {@link scheduleProblem} finds */
  constructor(patterns: readonly string[], timeZone: string) {
    this.#crons = patterns.map((pattern) => cronOf(pattern, timeZone))
  }

  /** The first time after `afterMs`, both in milliseconds since 1970; undefined for never. */
  next(afterMs: number): number | undefined {
    const times = this.#crons.flatMap((cron) => cron.nextRun(new Date(afterMs))?.getTime() ?? [])
    return times.length === 0 ? undefined : Math.min(...times)
  }
}

function cronOf(pattern: string, timezone: string): Cron {
  return new Cron(pattern.trim(), { timezone, paused: true, mode: '5-or-6-parts' })
}

/** What is wrong with a pattern, without quoting it; undefined for nothing. */
export function scheduleProblem(pattern: string): string | undefined {
  const form = 'must be a schedule as cron writes it, such as 30 2 * * sun'
  // The library also takes a date, which comes once: a schedule is for always.
  const fields = pattern.trim().split(/\s+/)
  const isNickname = fields.length === 1 && fields[0]?.startsWith('@')
  if (!isNickname && fields.length !== 5 && fields.length !== 6) {
    return `${form}: it has five fields, or six with seconds first, or is a word such as @daily`
  }
  if (/^\d{4}$/.test(fields[5] ?? '')) return `${form}: six fields begin with seconds, and none is a year`
  try {
    const cron = cronOf(pattern, 'UTC')
    return cron.nextRun(new Date(0)) === null ? 'is a schedule that is never due' : undefined
  } catch (error) {
    const field = /invalid value for (minute|hour|dayOfWeek|day|month|second)/i.exec(String(error))?.[1]
    return field === undefined ? form : `${form}: its ${fieldNames[field] ?? field} is out of range`
  }
}

const fieldNames: Readonly<Record<string, string>> = { dayOfWeek: 'day of the week', day: 'day of the month' }

/** What is wrong with the name of a time zone; undefined for nothing. */
export function timeZoneProblem(name: string): string | undefined {
  try {
    new Intl.DateTimeFormat('en', { timeZone: name })
    return undefined
  } catch {
    return 'must be the name of a time zone, such as UTC or Europe/Zurich'
  }
}

/** The time zone of this machine. */
export function localTimeZone(): string {
  return new Intl.DateTimeFormat('en').resolvedOptions().timeZone
}

/**
 * How much later than the schedule says something begins: from 0 to below `jitterMs`. It follows from its arguments, so
 * that a restart does not change it.
 * @param what is due: cluster and job
 */
export function jitterAt(what: string, dueMs: number, jitterMs: number): number {
  if (jitterMs <= 0) return 0
  // FNV-1a: near texts have far values.
  let hash = 0x811c9dc5
  for (const byte of Buffer.from(`${what} ${dueMs}`)) hash = Math.imul(hash ^ byte, 0x01000193) >>> 0
  // One more mix: the low bits of FNV-1a alone are uneven.
  hash = Math.imul(hash ^ (hash >>> 15), 0x2c1b3c6d) >>> 0
  return Math.floor((((hash ^ (hash >>> 12)) >>> 0) / 2 ** 32) * jitterMs)
}
