/** Paths of a backup's files: tools begin a name in different ways (docs/walg-format.md, 2.4). */

/** A tar entry's name as a path in the data directory: '' for the directory itself. Undefined for a path outside it. */
export function entryPath(name: string): string | undefined {
  const words = name.split('/').filter((word) => word !== '' && word !== '.')
  return words.includes('..') || name.includes('\0') ? undefined : words.join('/')
}

/** No server starts without this file: it is restored last. */
export const controlFile = 'global/pg_control'

/**
 * Files that are restored although no files_metadata.json lists them (docs/walg-format.md, 5.6), but never from a backup that
 * a delta builds on.
 */
export const utilityFiles: ReadonlySet<string> = new Set([controlFile, 'backup_label', 'tablespace_map'])
