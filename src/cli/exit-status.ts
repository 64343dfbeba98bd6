/**
 * The exit status of a command that failed. PostgreSQL reads that of wal-fetch: it takes 1 to 125 from a
 * restore_command as "no such file", ends recovery there and promotes (xlogarchive.c, RestoreArchivedFile). So
 * whatever else goes wrong in it, a mistyped option included, must end with 126 or above.
 *
 * From an archive_command it takes 1 to 125 as "try again", for ever, and from 126 on, which a shell makes of a signal, it
 * ends its archiver, to start another one (pgarch.c, pgarch_archiveXlog). So whatever goes wrong in wal-push must end with
 * 125 or below.
 */
import { existsSync } from 'node:fs'
import { commandRow } from '../config/commands.ts'
import type { WalrxError } from '../primitives/errors.ts'

/** Ends a recovery with an error instead of a promotion. */
export const restoreFailedStatus = 126

/** PostgreSQL takes it for a shutdown that it asked for: the startup process ends silently (RestoreArchivedFile). */
const terminatedStatus = 143

/** EX_TEMPFAIL: wal-push was stopped by a signal. */
const pushStoppedStatus = 75

/** "Not there yet": a standby asks again by itself, where 126 would shut it down. */
const askAgainStatus = 1

/**
 * The exit status for `error` out of `command`.
 * @param isStandby says whether the server that called is a standby; default: standby.signal is in the working
 * directory, which PostgreSQL makes the data directory
 * @param words of the command line, for a command that PostgreSQL calls for both: default the process's own
 */
export function failureStatus(
  command: string | undefined,
  error: Pick<WalrxError, 'exitStatus'>,
  isStandby: () => boolean = () => hasStandbySignal(),
  words: readonly string[] = process.argv,
): number {
  // An orphan of the server: where the postmaster is process 1 of a container, it takes any other end of a child that it
  // doesn't know for a crash, and restarts everything (postmaster.c, CleanupBackend).
  const { exitStatusFor } = commandRow(command) ?? {}
  const reader = exitStatusFor === 'either command' ? readerOf(words) : exitStatusFor
  if (reader === 'postmaster') return Math.min(error.exitStatus, 1)
  if (reader !== 'restore_command') {
    // Both are wal-fetch's own, for PostgreSQL; anywhere else the archive contradicts itself.
    if ([74, 126].includes(error.exitStatus)) return 5
    return reader === 'archive_command' && error.exitStatus > 125 ? pushStoppedStatus : error.exitStatus
  }
  if (error.exitStatus === 74) return 74
  if (isStandby()) return askAgainStatus
  return error.exitStatus === terminatedStatus ? restoreFailedStatus : Math.max(error.exitStatus, restoreFailedStatus)
}

/** Without a word that says it, it is no call of PostgreSQL's that could work. */
function readerOf(words: readonly string[]): 'restore_command' | 'archive_command' {
  return words.includes('wal-fetch') ? 'restore_command' : 'archive_command'
}

/** True where the data directory, by default the working directory, has a standby.signal. */
export function hasStandbySignal(dataDirectory = '.'): boolean {
  return existsSync(`${dataDirectory}/standby.signal`)
}
