/**
 * The exit status of a command that failed. PostgreSQL reads that of wal-fetch: it takes 1 to 125 from a
 * restore_command as "no such file", ends recovery there and promotes (xlogarchive.c, RestoreArchivedFile). So
 * whatever else goes wrong in it, a mistyped option included, must end with 126 or above.
 */
import { existsSync } from 'node:fs'
import { commandRow } from '../config/commands.ts'
import type { WalrxError } from '../primitives/errors.ts'

/** Ends a recovery with an error instead of a promotion. */
export const restoreFailedStatus = 126

/** PostgreSQL takes it for a shutdown that it asked for: the startup process ends silently (RestoreArchivedFile). */
const terminatedStatus = 143

/** "Not there yet": a standby asks again by itself, where 126 would shut it down. */
const askAgainStatus = 1

/**
 * The exit status for `error` out of `command`.
 * @param isStandby says whether the server that called is a standby; default: standby.signal is in the working
 * directory, which PostgreSQL makes the data directory
 */
export function failureStatus(
  command: string | undefined,
  error: Pick<WalrxError, 'exitStatus'>,
  isStandby: () => boolean = () => hasStandbySignal(),
): number {
  // An orphan of the server: where the postmaster is process 1 of a container, it takes any other end of a child that it
  // doesn't know for a crash, and restarts everything (postmaster.c, CleanupBackend).
  const { exitStatusFor: reader } = commandRow(command) ?? {}
  if (reader === 'postmaster') return Math.min(error.exitStatus, 1)
  // Both are wal-fetch's own, for PostgreSQL; anywhere else the archive contradicts itself.
  if (reader !== 'restore_command') return [74, 126].includes(error.exitStatus) ? 5 : error.exitStatus
  if (error.exitStatus === 74) return 74
  if (isStandby()) return askAgainStatus
  return error.exitStatus === terminatedStatus ? restoreFailedStatus : Math.max(error.exitStatus, restoreFailedStatus)
}

/** True where the data directory, by default the working directory, has a standby.signal. */
export function hasStandbySignal(dataDirectory = '.'): boolean {
  return existsSync(`${dataDirectory}/standby.signal`)
}
