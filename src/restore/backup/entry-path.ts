/** Paths of a backup's files: writers differ in how they begin a name (docs/walg-format.md, 2.4). */

/** A tar entry's name as a path within the data directory: '' for the directory itself. Undefined for what leads out. */
export function entryPath(name: string): string | undefined {
  const words = name.split('/').filter((word) => word !== '' && word !== '.')
  return words.includes('..') || name.includes('\0') ? undefined : words.join('/')
}

/** The file without which no server starts: it comes last. */
export const controlFile = 'global/pg_control'

/**
 * Files that are restored although no table of files has them (docs/walg-format.md, 5.6), and never from a backup that
 * another one builds on.
 */
export const utilityFiles: ReadonlySet<string> = new Set([controlFile, 'backup_label', 'tablespace_map'])
