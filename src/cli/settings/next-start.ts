/** What has to be known of a restored data directory to say how its server is started. */
import { existsSync } from 'node:fs'
import { readFile, readlink, stat } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import type { Settings } from '../../config/load.ts'
import { flagArguments, ownProgram } from './calls/own-program.ts'
import { findPgCtl } from './calls/pg-ctl.ts'

/** Facts of a restored data directory. */
export interface RestoredDirectory {
  readonly dataDirectory: string
  readonly pgCtl: string
  /** True where its files are root's. */
  readonly isRoot: boolean
  /** Directories outside of it: where pg_wal leads to, and those of tablespaces that were made. */
  readonly outside: readonly string[]
  /** The words of `walrx restore-command` with the archive of this run. */
  readonly restoreCommandCall: readonly string[]
}

/**
 * Reads the facts.
 * @param tablespaces directories of tablespaces
 */
export async function restoredDirectory(
  settings: Settings,
  dataDirectory: string,
  tablespaces: readonly string[],
): Promise<RestoredDirectory> {
  const version = await readFile(join(dataDirectory, 'PG_VERSION'), 'latin1').catch(() => '')
  const { main, node } = ownProgram()
  return {
    dataDirectory,
    pgCtl: findPgCtl(version.trim()),
    outside: await outsideOf(dataDirectory, tablespaces),
    isRoot: (await stat(dataDirectory)).uid === 0,
    restoreCommandCall: [node, main, 'restore-command', ...flagArguments(settings, 'restore-command')],
  }
}

async function outsideOf(dataDirectory: string, tablespaces: readonly string[]): Promise<string[]> {
  const pgWal = await readlink(join(dataDirectory, 'pg_wal')).catch(() => undefined)
  const linked = pgWal === undefined ? [] : [resolve(dataDirectory, pgWal)]
  return [...linked, ...tablespaces].filter((path) => existsSync(path) && !path.startsWith(`${dataDirectory}/`))
}
