/** What may be asked for: WAL-G's words, and rules of what is to stay. */
import type { JsonValue } from '../../primitives/json/json.ts'

/** WAL-G's modifiers: only full backups count (`FULL`), or the next older full one is taken (`FIND_FULL`). */
export type Modifier = 'none' | 'FULL' | 'FIND_FULL'

/** A backup by the beginning of its name, or a moment, in milliseconds since 1970. */
export type Point = { readonly name: string } | { readonly timeMs: number }

/** `delete retain`: the newest backups stay. */
export interface RetainRule {
  readonly kind: 'retain'
  readonly count: number
  readonly modifier: Modifier
  /** What is as new as this stays as well. */
  readonly after: Point | undefined
  /** True: moments are compared with when a backup began; false: with when its sentinel was written. */
  readonly usesSentinelTime: boolean
}

/** `delete before`: what is older than a backup goes. */
export interface BeforeRule {
  readonly kind: 'before'
  readonly point: Point
  readonly modifier: Exclude<Modifier, 'FULL'>
  readonly usesSentinelTime: boolean
}

/** `delete target`: one backup goes with all that builds on it, or with its whole family. */
export interface TargetRule {
  readonly kind: 'target'
  readonly target: { readonly name: string } | { readonly userData: JsonValue }
  readonly wholeFamily: boolean
}

/** `delete garbage`: WAL from before the oldest backup, and what dead backups have left. */
export interface GarbageRule {
  readonly kind: 'garbage'
  readonly what: 'all' | 'ARCHIVES' | 'BACKUPS'
  /** True: also where there is no backup but permanent ones. */
  readonly withoutBackupCheck: boolean
}

/** Periods of the calendar, in UTC. */
export const periods = ['day', 'week', 'month', 'year'] as const

/** One of {@link periods}. */
export type Period = (typeof periods)[number]

/** What is to stay: all that any of these keeps. */
export interface KeepRule {
  readonly kind: 'keep'
  /** Any moment of the last so many milliseconds stays reachable. */
  readonly windowMs: number | undefined
  /** So many full backups, with all that is newer. */
  readonly fullCount: number | undefined
  /** The last backup of each of so many periods, without the WAL between them. */
  readonly periods: Readonly<Partial<Record<Period, number>>>
}

/** A rule by which a plan is made. */
export type RetentionRule = RetainRule | BeforeRule | TargetRule | GarbageRule | KeepRule
