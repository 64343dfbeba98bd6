/** What a restore_command inherits from the server that runs it, instead of from the shell that ran a command of walrx. */
import { optionsOf, type Settings } from '../../config/load.ts'
import type { OptionKey } from '../../config/options/options.ts'
import type { CommandName } from '../../config/options/option-types.ts'

/** Names of settings that wal-fetch needs. */
export interface NeededSettings {
  /** Variables that the server's own environment must have. */
  readonly environment: readonly string[]
  /** Settings from a config file that the server's user must be able to read. */
  readonly configFile: readonly string[]
}

/** Says where the settings of wal-fetch come from, for what is not in the flags of a restore_command. */
export function neededSettings<C extends CommandName>(settings: Settings<C>): NeededSettings {
  const keys = optionsOf('wal-fetch').flatMap(([key, spec]) => (spec.group === 'General' ? [] : [key]))
  const names = (source: ReturnType<Settings['source']>) =>
    keys.filter((key: OptionKey) => settings.source(key) === source).map((key) => nameOf(settings, key))
  return { environment: names('environment'), configFile: names('config file') }
}

/** `WALG_FILE_PREFIX` of `WALG_FILE_PREFIX=/archive (from environment)`. */
function nameOf(settings: Pick<Settings, 'describe'>, key: OptionKey): string {
  return settings.describe(key).replace(/[=\s].*$/s, '')
}
