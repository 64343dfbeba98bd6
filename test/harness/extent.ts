/**
 * How much a run of the tests does. By default what finds nearly everything in a few minutes: the full list on the
 * oldest and the newest major version, a short one on those between, and few trials of what is drawn by chance. With
 * `WALRX_TEST_ALL=1` the full list on each version, and more trials.
 */
import process from 'node:process'
import { nextMajor, type PgMajor, pgMajors } from './postgres/postgres-files.ts'

/** True when everything was asked for. */
export const isFullRun = process.env['WALRX_TEST_ALL'] === '1'

/** True where a version gets the full list. @param also versions between the oldest and the newest that matter too */
export function isInDepth(major: PgMajor, also: readonly PgMajor[] = []): boolean {
  return isFullRun || major === nextMajor || major === pgMajors[0] || major === pgMajors.at(-1) || also.includes(major)
}

/** The versions that a test of minutes runs on. @param usual those of them when not everything was asked for */
export function majorsFor(usual: readonly PgMajor[]): readonly PgMajor[] {
  return isFullRun ? pgMajors : usual
}

/** The same versions and {@link nextMajor}: each of its tests is skipped for the reason that `majorSkip` gives. */
export function withNext(majors: readonly PgMajor[]): readonly PgMajor[] {
  return [...majors, nextMajor]
}

/** A number of trials, which the variable of that name sets whatever the extent. */
export function trials(variable: string, usual: number, full: number): number {
  return Number(process.env[variable] ?? (isFullRun ? full : usual))
}
