/**
 * Opens files that have to be regular ones. To open a FIFO waits for its other end, in a thread that no signal ends: the
 * process would not even exit. To open a device may do something to it.
 */
import { constants, type Stats } from 'node:fs'
import { type FileHandle, open, stat } from 'node:fs/promises'
import { WalrxError } from './errors.ts'

/**
 * Opens a regular file to read it, or what a symbolic link to one leads to. It never waits.
 * @throws WALRX_SYSTEM for anything else, with its kind; the error of the system call
 */
export async function openRegular(path: string): Promise<FileHandle> {
  // Before it is opened, for a device or a socket; and of what was opened, which may be another file by then.
  refuseOther(path, await stat(path))
  const file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOCTTY)
  try {
    refuseOther(path, await file.stat())
    return file
  } catch (error) {
    await file.close()
    throw error
  }
}

/** Reads a small regular file whole. Throws as {@link openRegular} does. */
export async function readRegular(path: string): Promise<Buffer> {
  await using file = await openRegular(path)
  return await file.readFile()
}

/** What a file is that is no regular one: `a FIFO`. */
export function kindOfFile(stats: Stats): string {
  if (stats.isDirectory()) return 'a directory'
  if (stats.isFIFO()) return 'a FIFO (named pipe)'
  if (stats.isSocket()) return 'a socket'
  if (stats.isCharacterDevice() || stats.isBlockDevice()) return 'a device'
  return 'no regular file'
}

function refuseOther(path: string, stats: Stats): void {
  if (stats.isFile()) return
  throw new WalrxError('WALRX_SYSTEM', `${path} is ${kindOfFile(stats)}, and has to be a regular file`, {
    hint: 'name the file itself, or a symbolic link to it',
    transient: false,
  })
}
