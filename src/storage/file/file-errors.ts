/** Translates an errno of the file system into the error of a storage. */
import { type ErrorCode, WalrxError } from '../../primitives/errors.ts'
import { errnoOf } from './file-system.ts'

/** The error for an errno name; any other errno is WALRX_STORAGE_UNAVAILABLE, which is tried again. */
const MEANINGS: Readonly<Record<string, { readonly code: ErrorCode; readonly hint: string }>> = {
  EACCES: { code: 'WALRX_STORAGE_DENIED', hint: 'check the owner and mode of the archive directory' },
  EPERM: { code: 'WALRX_STORAGE_DENIED', hint: 'check the owner, mode and attributes of the archive directory' },
  EROFS: { code: 'WALRX_STORAGE_DENIED', hint: 'mount the file system of the archive for writing' },
  // A file or folder of the wrong kind is in the way until somebody moves it.
  ENOTDIR: {
    code: 'WALRX_STORAGE_DENIED',
    hint: 'a file is in the place of a folder of the archive: move it away',
  },
  EISDIR: { code: 'WALRX_STORAGE_DENIED', hint: 'a folder is in the place of an object: move it away' },
  ENOTEMPTY: { code: 'WALRX_STORAGE_DENIED', hint: 'a folder is in the place of an object: move it away' },
  ELOOP: { code: 'WALRX_STORAGE_DENIED', hint: 'the symbolic links in the path form a circle: correct them' },
  ENAMETOOLONG: {
    code: 'WALRX_STORAGE_DENIED',
    hint: 'the file system does not allow names of this length: use another one for the archive',
  },
}

/** An operation on an object, for messages. */
export interface FileTask {
  /** `put`, `get` and so on. */
  readonly operation: string
  /** The key, or the prefix of a listing. */
  readonly key: string
  /** {@link Storage.location}. */
  readonly location: string
}

/** The error of a failed system call: WALRX_STORAGE_DENIED, or WALRX_STORAGE_UNAVAILABLE when a retry may succeed. */
export function fileError(error: unknown, task: FileTask): WalrxError {
  if (error instanceof WalrxError) return error
  const errno = errnoOf(error)
  const message = error instanceof Error ? error.message : String(error)
  // An error without an errno is not the file system's but a defect.
  if (errno === undefined)
    return new WalrxError('WALRX_INTERNAL', `${describeTask(task)}: ${message}`, { cause: error })
  const meaning = Object.hasOwn(MEANINGS, errno) ? MEANINGS[errno] : undefined
  return new WalrxError(meaning?.code ?? 'WALRX_STORAGE_UNAVAILABLE', `${describeTask(task)} failed: ${message}`, {
    cause: error,
    ...(meaning && { hint: meaning.hint }),
  })
}

/** The error for a root that is missing or not a directory. */
export function missingRoot(root: string, problem: string, cause?: unknown): WalrxError {
  return new WalrxError('WALRX_STORAGE_MISSING', `the archive directory ${root} ${problem}`, {
    cause,
    hint: 'create the directory, or mount its file system: walrx creates only the folders inside it',
  })
}

/** `put of folder/x to file:///archive`. */
export function describeTask(task: FileTask): string {
  return `${task.operation} of ${task.key === '' ? 'everything' : task.key} at ${task.location}`
}
