/** The errors of a file system that a restore writes to. */
import { WalrxError } from '../../../primitives/errors.ts'

/** Gives what the file system throws a code, and the path. */
export function explained<T>(path: string, work: () => T): T {
  try {
    return work()
  } catch (error) {
    throw cannotWrite(path, error)
  }
}

/** What a full disk asks for where a restore begins in an empty directory. */
const fullDiskHint = 'free disk space, empty the destination and restore again'

/** The same error for a restore that completes what is there: nothing has to be emptied. */
export function completable(error: unknown): unknown {
  if (!(error instanceof WalrxError) || error.hint !== fullDiskHint) return error
  return new WalrxError(error.code, error.message, {
    cause: error.cause,
    hint: 'free disk space, and run the same command again: it completes the restore',
  })
}

/** WALRX_RESTORE_FAILED for a path that cannot be written; errors of walrx as they are. */
export function cannotWrite(path: string, error: unknown): unknown {
  if (error instanceof WalrxError) return error
  const { code = '', message } = error as NodeJS.ErrnoException
  return new WalrxError('WALRX_RESTORE_FAILED', `${path} cannot be written: ${message}`, {
    cause: error,
    ...(code === 'ENOSPC' && { hint: fullDiskHint }),
  })
}
