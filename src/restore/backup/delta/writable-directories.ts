/** Whether a restore over a data directory may change what it has to change: seen before it begins, not in its middle. */
import { constants } from 'node:fs'
import fs from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { mapInParallel } from '../../../catalog/map-in-parallel.ts'
import { WalrxError } from '../../../primitives/errors.ts'

/** What is going to be changed. */
export interface ChangedPlaces {
  readonly destination: string
  /** What is made or removed, by paths relative to the data directory: the directory that it lies in is written. */
  readonly changed: Iterable<string>
  /** What gets a mode, and has to be ours: directories and files, which may not be there yet. */
  readonly moded: Iterable<string>
  /** Full paths of directories that are made, or are empty, outside. */
  readonly outside: Iterable<string>
  /** True for a path that is a directory now, or leads to one, and stays one until it is written. */
  readonly isDirectory: (path: string) => boolean
}

/**
 * Refuses what this user may not change.
 * @throws WALRX_RESTORE_FAILED with the owner and the mode of the first directory or file
 */
export async function refuseUnwritable(places: ChangedPlaces): Promise<void> {
  const { changed, destination, isDirectory, moded, outside } = places
  const written = new Set([''])
  for (const path of changed) {
    let above = parentOf(path)
    while (above !== '' && !isDirectory(above)) above = parentOf(above)
    written.add(above)
  }
  const full = [...written].sort().map((path) => join(destination, path))
  for (const directory of outside) full.push(await existing(directory))
  await mapInParallel(full, refuseClosed)
  const user = process.geteuid?.()
  // Only the owner changes a mode, and root.
  if (user === undefined || user === 0) return
  await mapInParallel([...moded], async (path) => {
    const stat = await fs.stat(join(destination, path)).catch(() => undefined)
    if (stat && stat.uid !== user) throw await refused(join(destination, path), 'only its owner may change its mode')
  })
}

function parentOf(path: string): string {
  const parent = dirname(path)
  return parent === '.' ? '' : parent
}

/** The directory itself, or the nearest above it that is there. */
async function existing(directory: string): Promise<string> {
  for (let at = directory; ; at = dirname(at)) {
    const isThere = await fs.stat(at).then(
      () => true,
      (error: NodeJS.ErrnoException) => error.code !== 'ENOENT',
    )
    if (isThere || at === dirname(at)) return at
  }
}

async function refuseClosed(directory: string): Promise<void> {
  try {
    await fs.access(directory, constants.W_OK | constants.X_OK)
  } catch (error) {
    throw await refused(directory, (error as Error).message)
  }
}

async function refused(path: string, why: string): Promise<WalrxError> {
  const stat = await fs.stat(path).catch(() => undefined)
  const user = process.geteuid?.()
  const owner = stat
    ? `: it belongs to user ${stat.uid}, with mode ${(stat.mode & 0o7777).toString(8)}, and this is user ${user}`
    : ''
  return new WalrxError('WALRX_RESTORE_FAILED', `${path} cannot be changed${owner} (${why})`, {
    hint: 'nothing has been changed: restore as the owner of the data directory, or as root, where the file system is writable',
  })
}
