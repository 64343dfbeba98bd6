/** What has to be known of a restored data directory to say how its server is started. */
import { readFile, stat } from 'node:fs/promises'
import { join } from 'node:path'
import type { Settings } from '../../config/load.ts'
import { flagArguments, ownProgram } from './own-program.ts'
import { findPgCtl } from './pg-ctl.ts'

/** Facts of a restored data directory. */
export interface RestoredDirectory {
  readonly dataDirectory: string
  readonly pgCtl: string
  /** True where its files are root's. */
  readonly isRoot: boolean
  /** The words of `walrx restore-command` with the archive of this run. */
  readonly restoreCommandCall: readonly string[]
}

/** Reads the facts. */
export async function restoredDirectory(settings: Settings, dataDirectory: string): Promise<RestoredDirectory> {
  const version = await readFile(join(dataDirectory, 'PG_VERSION'), 'latin1').catch(() => '')
  const { main, node } = ownProgram()
  return {
    dataDirectory,
    pgCtl: findPgCtl(version.trim()),
    isRoot: (await stat(dataDirectory)).uid === 0,
    restoreCommandCall: [node, main, 'restore-command', ...flagArguments(settings, 'restore-command')],
  }
}
