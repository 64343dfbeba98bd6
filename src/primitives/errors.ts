/**
 * Every error code of walrx, in one table: its meaning, whether a retry can help, and the exit status of a command that
 * ends with it. `--help` and docs/reference.md print the exit statuses from here.
 */
import { isNetworkError, isSystemError, type SystemError, systemErrorHint, systemErrorText } from './system-error.ts'

/** The row of one error code. */
export interface ErrorKind {
  /** Exit status of the process when a command ends with this error. */
  readonly exitStatus: number
  /** True when the same attempt may succeed later without any change. */
  readonly transient: boolean
  /** One line for the documentation. */
  readonly meaning: string
}

/** Exit statuses, by number, as documented. PostgreSQL reads 1 to 125 from a restore_command as "no such file". */
export const exitStatuses = {
  0: 'done',
  1: 'a defect of walrx; from wal-fetch on a standby: the file is not there yet, the standby asks again; from wal-prefetch: any failure; from check and status with --monitoring: a warning, where 2 is an error and 3 that nothing could be seen',
  2: 'usage or configuration: unknown option, bad value, unsupported setting',
  3: 'the server could not be reached, or refused the connection or a command; from status: no receiver streams, or WAL is about to be lost',
  4: 'the storage could not be reached, or refused a request; from daemon-client: the daemon could not be reached, or has failed',
  5: 'the archive contradicts the server or itself: another cluster, other bytes under the same name, a damaged backup, damaged pages; the WAL of a backup that did not arrive in time; wal-verify: WAL is missing, another timeline is newer, or there is nothing to verify; wal-restore: the archive lacks WAL that pg_rewind needs',
  6: 'WAL is gone from the server before it was archived',
  7: 'stopped before all received WAL was archived (--drain-timeout, or a second signal); the slot still holds it',
  8: 'no backup was taken: the standby has had no restartpoint since the end of the parent',
  9: 'this machine: a file or directory cannot be read or written, the destination is not empty, a disk is full, a limit is reached',
  74: 'wal-fetch: the storage has answered, and has neither the file nor a later segment of that timeline',
  75: 'wal-push, and daemon-client for it: stopped by a signal before the file was archived; PostgreSQL asks again',
  126: 'wal-fetch: the storage did not answer, the file is damaged or missing before later ones, or the call is wrong: PostgreSQL does not promote',
  130: 'stopped by SIGINT (Ctrl-C) before it was done',
  143: 'stopped by SIGTERM before it was done; wal-receive ends with 0 when all received WAL is archived',
} as const

/** The table of error codes. */
export const errorTable = {
  WALRX_INTERNAL: {
    exitStatus: 1,
    transient: false,
    meaning: 'a defect of walrx: please report it, with the stack that --log-level debug shows',
  },
  WALRX_USAGE: {
    exitStatus: 2,
    transient: false,
    meaning: 'an argument or option is missing, unknown or out of range',
  },
  WALRX_OPTION_UNSUPPORTED: {
    exitStatus: 2,
    transient: false,
    meaning: "a WAL-G setting that would change stored bytes is set, and walrx doesn't support it",
  },
  WALRX_CONNECT_FAILED: { exitStatus: 3, transient: true, meaning: 'no configured host accepts a connection' },
  WALRX_CONNECTION_LOST: { exitStatus: 3, transient: true, meaning: 'the connection to the server broke' },
  WALRX_SERVER_STARTING: { exitStatus: 3, transient: true, meaning: 'the server is starting up or shutting down' },
  WALRX_AUTH_FAILED: { exitStatus: 3, transient: false, meaning: 'the server rejected the user, password or host' },
  WALRX_TLS_FAILED: {
    exitStatus: 3,
    transient: false,
    meaning: 'TLS with the server failed: a certificate was not accepted, or the server offers no TLS',
  },
  WALRX_SERVER_UNSUPPORTED: { exitStatus: 3, transient: false, meaning: 'the server is older than PostgreSQL 14' },
  WALRX_NO_PRIVILEGE: { exitStatus: 3, transient: false, meaning: 'the role lacks REPLICATION or another privilege' },
  WALRX_NO_WALSENDER: {
    exitStatus: 3,
    transient: true,
    meaning: 'the server has no free walsender: raise max_wal_senders',
  },
  WALRX_SERVER_ERROR: { exitStatus: 3, transient: true, meaning: 'the server answered a command with an error' },
  WALRX_PROTOCOL: {
    exitStatus: 3,
    transient: true,
    meaning: 'the server sent a message that the protocol does not allow here',
  },
  WALRX_SOURCE_IN_RECOVERY: {
    exitStatus: 3,
    transient: true,
    meaning: 'the server is a standby and --allow-standby was not given',
  },
  WALRX_SOURCE_BEHIND: {
    exitStatus: 3,
    transient: true,
    meaning: 'the server is on an older timeline than another server or the archive: it is probably a former primary',
  },
  WALRX_SOURCE_AMBIGUOUS: {
    exitStatus: 3,
    transient: true,
    meaning: 'several hosts accept writes, and their timelines have diverged',
  },
  WALRX_SLOT_ACTIVE: { exitStatus: 3, transient: true, meaning: 'the replication slot is in use by another process' },
  WALRX_SLOT_UNUSABLE: { exitStatus: 3, transient: false, meaning: 'the slot is logical, or has no reserved WAL' },
  WALRX_SLOT_INVALIDATED: {
    exitStatus: 6,
    transient: false,
    meaning: 'the server invalidated the slot: WAL that it held may be gone',
  },
  WALRX_SLOT_OVER_BUDGET: {
    exitStatus: 6,
    transient: true,
    meaning: 'the slot keeps more WAL than --max-slot-lag allows, and walrx drops it',
  },
  WALRX_WAL_REMOVED: { exitStatus: 6, transient: false, meaning: 'the server no longer has WAL that is not archived' },
  WALRX_WAL_GAP: {
    exitStatus: 3,
    transient: true,
    meaning: 'the server sent WAL that does not continue at the next LSN',
  },
  WALRX_WAL_DIVERGED: {
    exitStatus: 5,
    transient: true,
    meaning: 'the server sent other bytes for WAL that was already received',
  },
  WALRX_WAL_INVALID: { exitStatus: 5, transient: false, meaning: 'a received segment fails its page header checks' },
  WALRX_OTHER_CLUSTER: {
    exitStatus: 5,
    transient: false,
    meaning: 'the archive belongs to a cluster with another system identifier or WAL segment size',
  },
  WALRX_ARCHIVE_CONFLICT: {
    exitStatus: 5,
    transient: false,
    meaning: 'the archive holds other bytes under the name of a file that walrx is to archive',
  },
  WALRX_STORAGE_UNAVAILABLE: { exitStatus: 4, transient: true, meaning: 'the storage did not answer, or failed' },
  WALRX_STORAGE_DENIED: {
    exitStatus: 4,
    transient: false,
    meaning: 'the storage refused access: check the key, the policy, or the mode of the directory',
  },
  WALRX_STORAGE_MISSING: { exitStatus: 4, transient: false, meaning: 'the bucket or directory does not exist' },
  WALRX_OBJECT_NOT_FOUND: { exitStatus: 74, transient: false, meaning: 'no such object in the storage' },
  WALRX_OBJECT_DAMAGED: {
    exitStatus: 126,
    transient: false,
    meaning: 'a stored object cannot be decoded, or its content is wrong',
  },
  WALRX_KEY_MISSING: {
    exitStatus: 2,
    transient: false,
    meaning: 'an object is encrypted, and no key is set, or only a public one',
  },
  WALRX_KEY_WRONG: {
    exitStatus: 2,
    transient: false,
    meaning: 'an object is encrypted with a key that is not set, or is not encrypted although a key is',
  },
  WALRX_KEY_UNAVAILABLE: {
    exitStatus: 2,
    transient: false,
    meaning: 'a key cannot be read or used: its file, its command, its passphrase, or the service that keeps it',
  },
  WALRX_ARCHIVE_HOLE: {
    exitStatus: 126,
    transient: false,
    meaning: 'the file is not in the archive although later segments of its timeline are',
  },
  WALRX_CODEC_UNSUPPORTED: {
    exitStatus: 126,
    transient: false,
    meaning: 'an object is stored in a codec that walrx cannot read',
  },
  WALRX_BACKUP_CHECKSUM: {
    exitStatus: 5,
    transient: false,
    meaning: 'the server found data pages with wrong checksums',
  },
  WALRX_BACKUP_EXISTS: {
    exitStatus: 5,
    transient: false,
    meaning: 'the archive has a backup of this name, or another one is being written under it',
  },
  WALRX_BACKUP_NOT_INCREMENTAL: {
    exitStatus: 2,
    transient: false,
    meaning: 'the backup has to be a full one, and --require-incremental forbids that',
  },
  WALRX_BACKUP_TOO_EARLY: {
    exitStatus: 8,
    transient: true,
    meaning: 'a delta of a standby would begin before its parent ends: the standby has had no restartpoint since',
  },
  WALRX_BACKUP_INCOMPLETE: {
    exitStatus: 5,
    transient: false,
    meaning: 'a backup cannot be completed: its WAL did not come in time, or objects that it stored are missing',
  },
  WALRX_SYSTEM: {
    exitStatus: 9,
    transient: true,
    meaning: 'the operating system refused a request: permissions, a full disk, a limit, a missing file',
  },
  WALRX_RESTORE_FAILED: {
    exitStatus: 9,
    transient: false,
    meaning: 'a backup could not be written to its destination',
  },
  WALRX_BACKUP_UNSUPPORTED: {
    exitStatus: 2,
    transient: false,
    meaning: 'walrx cannot restore this kind of backup',
  },
  WALRX_BACKUP_DAMAGED: {
    exitStatus: 5,
    transient: false,
    meaning: 'a backup lacks files, or its files differ from those in its own documents',
  },
  WALRX_TARGET_UNREACHABLE: {
    exitStatus: 2,
    transient: false,
    meaning: 'the archive lacks WAL for the requested recovery, or no backup is old enough for it',
  },
  WALRX_BACKUP_NOT_FOUND: {
    exitStatus: 2,
    transient: false,
    meaning: 'the archive has no backup with this name, or none at all',
  },
  WALRX_MARK_REFUSED: {
    exitStatus: 2,
    transient: false,
    meaning: 'a backup cannot be marked as requested: a delta builds on it, or its sentinel would contradict the mark',
  },
  WALRX_DELETE_REFUSED: {
    exitStatus: 2,
    transient: false,
    meaning: 'a deletion cannot be done as requested: a backup is permanent, is needed by another, or is a delta',
  },
  WALRX_DESTINATION: {
    exitStatus: 9,
    transient: false,
    meaning: 'a file cannot be written to its destination: permissions, or a full disk; wal-fetch makes 126 of it',
  },
  WALRX_DAEMON_FAILED: {
    exitStatus: 4,
    transient: true,
    meaning: 'the daemon could not be asked, or could not do what it was asked for; its log says why',
  },
  WALRX_INTERRUPTED: { exitStatus: 126, transient: true, meaning: 'wal-fetch was stopped by a signal' },
  WALRX_DRAIN_INCOMPLETE: {
    exitStatus: 7,
    transient: false,
    meaning: 'stopped before all received WAL was archived',
  },
} as const satisfies Record<string, ErrorKind>

/** A code of {@link errorTable}. */
export type ErrorCode = keyof typeof errorTable

/** Options of {@link WalrxError}. */
export interface WalrxErrorOptions {
  /** The next step: one sentence, printed after the message. */
  readonly hint?: string
  /** The underlying error. */
  readonly cause?: unknown
  /** Overrides the table's `transient` where the cause decides it (a 403 or a 503, for example). */
  readonly transient?: boolean
}

/**
 * An error with a code. The message is lower case without a full stop, and names the object and both values that
 * disagree; the next step goes in `hint`.
 */
export class WalrxError extends Error {
  readonly code: ErrorCode
  readonly hint: string | undefined
  readonly transient: boolean

  constructor(code: ErrorCode, message: string, options: WalrxErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause })
    this.name = 'WalrxError'
    this.code = code
    this.hint = options.hint
    this.transient = options.transient ?? errorTable[code].transient
  }

  /** Exit status of a command that ends with this error. */
  get exitStatus(): number {
    return errorTable[this.code].exitStatus
  }
}

/** True when `error` is a {@link WalrxError} with this code. */
export function hasCode(error: unknown, code: ErrorCode): error is WalrxError {
  return error instanceof WalrxError && error.code === code
}

/**
 * True for an object that the keys don't open: it is encrypted with another one, or not although it has to be. The object may
 * be sound, so it counts neither as damaged nor as absent, and nothing replaces it.
 */
export function isOfKey(error: unknown): error is WalrxError {
  return hasCode(error, 'WALRX_KEY_MISSING') || hasCode(error, 'WALRX_KEY_WRONG')
}

/** True where the service that keeps a key does not answer just now: as with a storage, the next attempt may succeed. */
export function isKeyOutage(error: unknown): boolean {
  return hasCode(error, 'WALRX_KEY_UNAVAILABLE') && error.transient
}

/**
 * Any thrown value as a WalrxError. A failed system call is a matter of the machine or of the network (WALRX_SYSTEM,
 * WALRX_CONNECTION_LOST); anything else becomes WALRX_INTERNAL. The value is the cause.
 */
export function toWalrxError(error: unknown): WalrxError {
  if (error instanceof WalrxError) return error
  const failedCall = error instanceof AggregateError ? error.errors.find(isSystemError) : error
  if (isSystemError(failedCall)) return ofSystem(failedCall, error)
  const message = error instanceof Error ? error.message : String(error)
  return new WalrxError('WALRX_INTERNAL', message, { cause: error })
}

function ofSystem(error: SystemError, cause: unknown): WalrxError {
  const hint = systemErrorHint(error)
  const code = isNetworkError(error) ? 'WALRX_CONNECTION_LOST' : 'WALRX_SYSTEM'
  return new WalrxError(code, systemErrorText(error), { cause, ...(hint !== undefined && { hint }) })
}

/** What a stopped command throws instead of the signal's own error, where it has left something: {@link isAbort} holds. */
export class StoppedError extends Error {
  /** What is left, and what to do next. */
  readonly hint: string

  constructor(hint: string, cause: unknown) {
    super('stopped', { cause })
    this.name = 'AbortError'
    this.hint = hint
  }
}

/** True for the error that an aborted AbortSignal raises. */
export function isAbort(error: unknown): boolean {
  return (
    error instanceof Error && (error.name === 'AbortError' || (error as NodeJS.ErrnoException).code === 'ABORT_ERR')
  )
}
