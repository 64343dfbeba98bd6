/** Errors of the operating system in words: what failed, on which file or address, and what to do next. */

/** A failed system call, as Node throws it. */
export interface SystemError extends Error {
  /** Name of the errno, `ENOSPC`. */
  readonly code: string
  readonly syscall: string
  readonly path?: string
  /** The second path, of a rename or a link. */
  readonly dest?: string
  readonly address?: string
  readonly port?: number
}

/** True for the error of a system call; false for those that Node and its libraries make up themselves. */
export function isSystemError(error: unknown): error is SystemError {
  if (!(error instanceof Error)) return false
  const { code, syscall } = error as Partial<SystemError>
  return typeof syscall === 'string' && typeof code === 'string' && /^E[A-Z0-9_]+$/.test(code) && !/^ERR_/.test(code)
}

/** True where the other side of a connection, or the way there, is the cause. */
export function isNetworkError({ code }: SystemError): boolean {
  return networkCodes.has(code)
}

const networkCodes: ReadonlySet<string> = new Set([
  ...['ECONNREFUSED', 'ECONNRESET', 'ECONNABORTED', 'EPIPE', 'ETIMEDOUT', 'EHOSTUNREACH', 'EHOSTDOWN', 'ENETUNREACH'],
  ...['ENETDOWN', 'ENETRESET', 'ENOTFOUND', 'EAI_AGAIN', 'EAI_NODATA', 'EPROTO'],
])

/** `open /archive/x: permission denied (EACCES)`. */
export function systemErrorText(error: SystemError): string {
  const { address, code, dest, path, port, syscall } = error
  const where = address === undefined ? path : port === undefined ? address : `${address}:${port}`
  const object = where === undefined ? syscall : `${syscall} ${where}${dest === undefined ? '' : ` to ${dest}`}`
  // `EACCES: permission denied, open '/archive/x'`
  const meaning = /^E\w+: (.+?), \w+/.exec(error.message)?.[1]
  return meaning === undefined ? `${object}: ${code}` : `${object}: ${meaning} (${code})`
}

/** The next step for an errno; undefined where there is nothing to say that the message does not. */
export function systemErrorHint({ code, path }: SystemError): string | undefined {
  if (code === 'ENOENT') return path === undefined ? 'create what is missing' : 'create it, or correct the path'
  return Object.hasOwn(hints, code) ? hints[code] : undefined
}

const hints: Readonly<Record<string, string>> = {
  EACCES: 'change its owner or mode, or run walrx as a user who has access',
  EPERM: 'change its owner, mode or attributes, or run walrx as a user who has access',
  EROFS: 'mount the file system for writing, or choose another place',
  ENOSPC: 'free disk space there, and run the command again',
  EDQUOT: 'raise the quota of this user, or free disk space, and run the command again',
  EFBIG: 'raise the limit of file sizes (ulimit -f), or choose another file system',
  ENOTDIR: 'a file is in the place of a directory: correct the path, or move the file away',
  EISDIR: 'a directory is in the place of a file: correct the path, or move the directory away',
  ENOTEMPTY: 'empty the directory, or choose another one',
  EEXIST: 'choose another name, or move away what is there',
  ELOOP: 'the symbolic links in the path form a circle: correct them',
  ENAMETOOLONG: 'choose a shorter path',
  EBUSY: 'something else uses it: stop that first',
  ETXTBSY: 'a program runs from this file: stop it first',
  EMFILE: 'raise the limit of open files of this process: ulimit -n, or LimitNOFILE= in a systemd unit',
  ENFILE: 'raise the limit of open files of this machine: sysctl fs.file-max',
  ENOMEM: 'give this machine or container more memory',
  EAGAIN: 'raise the limit of processes: ulimit -u, or TasksMax= in a systemd unit',
  EIO: 'the disk or the file system failed: see the log of the kernel',
  ESTALE: 'mount the network file system again',
}
