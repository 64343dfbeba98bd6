/** A restore_command of walrx's own sources. */
import { fileURLToPath } from 'node:url'
import { restoreCommand } from '../../../src/restore/wal/restore-command.ts'

const main = fileURLToPath(new URL('../../../src/main.ts', import.meta.url))

/** The command for an archive in a directory, as `walrx restore-command` prints it. */
export function walrxRestoring(archive: string, flags: readonly string[] = []): string {
  return restoreCommand([process.execPath, main], [`--file-prefix=${archive}`, ...flags])
}
