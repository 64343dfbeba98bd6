/** What an errno of the file system means for the caller of a storage. */
import { type ErrorCode, WalrxError } from '../../primitives/errors.ts'
import { errnoOf } from './file-system.ts'

/** Errno names by what they mean; any other is WALRX_STORAGE_UNAVAILABLE, which is tried again. */
const MEANINGS: Readonly<Record<string, { readonly code: ErrorCode; readonly hint: string }>> = {
  EACCES: { code: 'WALRX_STORAGE_DENIED', hint: 'check the owner and mode of the archive directory' },
  EPERM: { code: 'WALRX_STORAGE_DENIED', hint: 'check the owner, mode and attributes of the archive directory' },
  EROFS: { code: 'WALRX_STORAGE_DENIED', hint: 'mount the file system of the archive for writing' },
  // The shape of what lies there stands in the way, and will until somebody changes it.
  ENOTDIR: {
    code: 'WALRX_STORAGE_DENIED',
    hint: 'a file stands where a folder of the archive has to be: move it away',
  },
  EISDIR: { code: 'WALRX_STORAGE_DENIED', hint: 'a folder stands where an object has to be: move it away' },
  ENOTEMPTY: { code: 'WALRX_STORAGE_DENIED', hint: 'a folder stands where an object has to be: move it away' },
  ELOOP: { code: 'WALRX_STORAGE_DENIED', hint: 'the symbolic links in the path lead in a circle' },
  ENAMETOOLONG: { code: 'WALRX_STORAGE_DENIED', hint: 'the file system takes no names of this length' },
}

/** What is asked of which object, for messages. */
export interface FileTask {
  /** `put`, `get` and so on. */
  readonly operation: string
  /** The key, or the prefix of a listing. */
  readonly key: string
  /** {@link Storage.location}. */
  readonly location: string
}

/** The error of a failed system call: WALRX_STORAGE_DENIED, or WALRX_STORAGE_UNAVAILABLE for what may pass by itself. */
export function fileError(error: unknown, task: FileTask): WalrxError {
  if (error instanceof WalrxError) return error
  const errno = errnoOf(error)
  const message = error instanceof Error ? error.message : String(error)
  // Without an errno it is no failure of the file system, but a defect.
  if (errno === undefined)
    return new WalrxError('WALRX_INTERNAL', `${describeTask(task)}: ${message}`, { cause: error })
  const meaning = Object.hasOwn(MEANINGS, errno) ? MEANINGS[errno] : undefined
  return new WalrxError(meaning?.code ?? 'WALRX_STORAGE_UNAVAILABLE', `${describeTask(task)} failed: ${message}`, {
    cause: error,
    ...(meaning && { hint: meaning.hint }),
  })
}

/** The error for a root that is not there, or no directory. */
export function missingRoot(root: string, problem: string, cause?: unknown): WalrxError {
  return new WalrxError('WALRX_STORAGE_MISSING', `the archive directory ${root} ${problem}`, {
    cause,
    hint: 'create the directory, or mount its file system; walrx makes only the folders inside of it',
  })
}

/** `put of folder/x to file:///archive`. */
export function describeTask(task: FileTask): string {
  return `${task.operation} of ${task.key === '' ? 'everything' : task.key} at ${task.location}`
}
