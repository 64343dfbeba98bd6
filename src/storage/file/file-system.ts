/** The system calls that a file storage makes, so that a test can record them and make each of them fail. */
import { stat, type Stats } from 'node:fs'
import * as promises from 'node:fs/promises'
import type { ObjectInfo } from '../storage.ts'

/** The functions of `node:fs/promises` in use. */
export type FileSystem = Pick<
  typeof import('node:fs/promises'),
  'link' | 'lstat' | 'mkdir' | 'open' | 'opendir' | 'readlink' | 'rename' | 'rmdir' | 'stat' | 'unlink'
>

/**
 * That of the machine. Its `stat` is made of the one with a callback: that of `node:fs/promises` has memory outside of the
 * heap for each call, and a listing of a million files makes a million.
 */
export const nodeFileSystem: FileSystem = {
  ...promises,
  stat: ((path: string) =>
    new Promise<Stats>((resolve, reject) => {
      stat(path, (error, stats) => {
        if (error) reject(error)
        else resolve(stats)
      })
    })) as FileSystem['stat'],
}

/** The errno name of an error (`ENOENT`), or undefined when it has none. */
export function errnoOf(error: unknown): string | undefined {
  const code = error instanceof Error ? (error as NodeJS.ErrnoException).code : undefined
  return typeof code === 'string' ? code : undefined
}

/** True for the errors that mean that nothing exists at the path. */
export function isAbsence(error: unknown): boolean {
  const errno = errnoOf(error)
  return errno === 'ENOENT' || errno === 'ENOTDIR' || errno === 'ENAMETOOLONG'
}

/** The stats of `path` itself, without following a link; undefined when nothing exists there. */
export async function lstatOrNothing(fs: FileSystem, path: string): Promise<Stats | undefined> {
  try {
    return await fs.lstat(path)
  } catch (error) {
    if (!isAbsence(error)) throw error
    return undefined
  }
}

/** The object that a file is. */
export function objectInfo(key: string, stats: Stats): ObjectInfo {
  return { key, size: stats.size, lastModifiedMs: Math.floor(stats.mtimeMs) }
}
