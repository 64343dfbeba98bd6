/** `walrx restore-command`: prints the line for postgresql.conf that recovers through walrx. */
import { openStorage } from '../../config/open-storage.ts'
import type { Settings } from '../../config/load.ts'
import { restoreCommand } from '../../restore/wal/restore-command.ts'
import type { Command } from '../command.ts'
import { flagArguments, ownProgram } from '../settings/calls/own-program.ts'
import { neededSettings } from '../settings/calls/server-environment.ts'

/** See the file's header. */
export const restoreCommandCommand: Command<'restore-command'> = {
  name: 'restore-command',
  positionals: [],
  examples: [
    {
      call: 'walrx restore-command --config /etc/walg.yaml >> postgresql.auto.conf',
      means: 'recover with the settings of that file',
    },
  ],
  async run({ options, settings, stdout }) {
    // A wrong setting ends the command now, instead of the recovery later.
    await (await openStorage(options)).close()
    const { main, node } = ownProgram()
    const command = restoreCommand([node, main], flagArguments(settings, 'wal-fetch'))
    stdout.write(`${environmentNote(settings)}restore_command = '${configText(command)}'\n`)
    return 0
  },
}

/** A comment that names the settings which the server's own environment must have. */
function environmentNote(settings: Settings<'restore-command'>): string {
  const { configFile, environment } = neededSettings(settings)
  const lines: string[] = []
  if (environment.length > 0)
    lines.push(`# wal-fetch needs these in the server's environment: ${environment.map(({ name }) => name).join(', ')}`)
  if (configFile.length > 0) {
    lines.push(
      `# wal-fetch reads these from the config file; the server's user must be able to read it: ${configFile.join(', ')}`,
    )
  }
  return lines.map((line) => `${line}\n`).join('')
}

/** A text as it stands between quotes in postgresql.conf (guc-file.l, DeescapeQuotedString). */
function configText(text: string): string {
  return text.replaceAll('\\', '\\\\').replaceAll("'", "''")
}
