/** What a restore_command inherits from the server that runs it, instead of from the shell that ran a command of walrx. */
import { resolve } from 'node:path'
import { optionsOf, type Settings } from '../../../config/load.ts'
import type { OptionKey } from '../../../config/options/options.ts'
import type { CommandName, OptionSpec } from '../../../config/options/option-types.ts'
import { knownNames, optionNames } from '../../../config/setting-names.ts'
import { redactText } from '../../../observe/redact.ts'
import { withWholePaths } from './own-program.ts'

/** A variable of the environment. */
export interface EnvironmentVariable {
  readonly name: string
  /** Paths are absolute. Undefined where it must not be printed. */
  readonly value: string | undefined
}

/** Settings that wal-fetch needs. */
export interface NeededSettings {
  /** Variables that the server's own environment must have. */
  readonly environment: readonly EnvironmentVariable[]
  /** Names of settings from a config file that the server's user must be able to read. */
  readonly configFile: readonly string[]
}

/** Variables of the AWS SDK and of Node that are no options of walrx. */
const foreignVariable = /^(AWS_\w+|(https?|no|all)_proxy|NODE_EXTRA_CA_CERTS|SSL_CERT_(FILE|DIR))$/i

/** Says where the settings of wal-fetch come from, for what is not in the flags of a restore_command. */
export function neededSettings<C extends CommandName>(settings: Settings<C>): NeededSettings {
  const options = optionsOf('wal-fetch').filter(([, { group }]) => group !== 'General')
  const environment = options.flatMap(([key, spec]) => {
    const name = variableOf(settings, key, spec)
    if (name === undefined) return []
    const { value } = variable(settings, name, spec.secret === true)
    return [{ name, value: value === undefined ? undefined : withWholePaths(key, value) }]
  })
  const isS3 = options.some(([key]) => key === 's3Prefix' && settings.source(key) !== 'default')
  return {
    environment: [...environment, ...(isS3 ? foreignVariables(settings) : [])],
    configFile: options.flatMap(([key]) =>
      settings.source(key) === 'config file' ? [nameOf(settings.describe(key))] : [],
    ),
  }
}

/** The variable that an option of wal-fetch has its value from, also one that the present command does not take. */
function variableOf(settings: Settings, key: OptionKey, spec: OptionSpec): string | undefined {
  if (settings.source(key) === 'environment') return nameOf(settings.describe(key))
  if (optionsOf(settings.command).some(([own]) => own === key)) return undefined
  return optionNames(spec.env).find((name) => (settings.environment[name] ?? '') !== '')
}

function foreignVariables(settings: Settings): EnvironmentVariable[] {
  const known = knownNames()
  return Object.entries(settings.environment)
    .filter(([name, value]) => foreignVariable.test(name) && !known.has(name) && (value ?? '') !== '')
    .map(([name]) => variable(settings, name, /TOKEN|SECRET|KEY|PASS/.test(name) && !name.endsWith('_FILE')))
}

function variable({ environment }: Settings, name: string, isSecret: boolean): EnvironmentVariable {
  const text = environment[name] ?? ''
  if (isSecret || redactText(text) !== text) return { name, value: undefined }
  return { name, value: /_FILE$|_CERTS$/.test(name) ? resolve(text) : text }
}

/** `WALG_FILE_PREFIX` of `WALG_FILE_PREFIX=/archive (from environment)`. */
function nameOf(description: string): string {
  return description.replace(/[=\s].*$/s, '')
}
