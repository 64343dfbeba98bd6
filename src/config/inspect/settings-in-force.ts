/** Which settings are in force, where each comes from, and what else is set: nothing here fails on a bad value. */
import { redactText } from '../../observe/redact.ts'
import { keywords } from '../../postgres/connect/conninfo-keywords.ts'
import { splitConninfo } from '../../postgres/connect/conninfo-text.ts'
import { isIn } from '../commands.ts'
import {
  type Environment,
  type Found,
  findOption,
  isPassedOn,
  type OptionSource,
  optionLabel,
  problemOf,
  readSources,
  secretTexts,
  type SettingSources,
} from '../load.ts'
import { type CommandName, type OptionSpec, valueSeparator } from '../options/option-types.ts'
import { parseOptionText } from '../options/option-values.ts'
import { type OptionKey, optionTable } from '../options/options.ts'
import { optionNames, unknownNames } from '../setting-names.ts'
import { walgSettingNamed } from './walg-fates.ts'

/** An option. */
export interface SettingInForce {
  /** Its first variable, or its flag where it has none. */
  readonly label: string
  /** With the dashes; undefined for none. */
  readonly flag: string | undefined
  /** As it was written, or the default; undefined for none, and for a secret. */
  readonly value: string | undefined
  /** What happens without a value, where that is no fixed default. */
  readonly defaultText: string | undefined
  readonly isSecret: boolean
  readonly source: OptionSource
  /** The name that has set it: `--slotname`, `WALE_SLOTNAME`; undefined for a default. */
  readonly setBy: string | undefined
  /** Why the value cannot be used; undefined for a good one. */
  readonly problem: string | undefined
}

/**
 * What becomes of a setting that is no option, or not the one in force.
 * - `overridden`: another name or source of the same option takes precedence.
 * - `passed on`: to the connection, or to the AWS SDK.
 * - `harmless`: walrx would refuse other values of it.
 * - `unknown`: nothing knows it.
 * - the others: see `WalgSetting`.
 */
export type OtherTreatment = 'overridden' | 'passed on' | 'harmless' | 'unknown' | 'refused' | 'warned' | 'ignored'

/** A setting of the environment or the config file that no option has taken. */
export interface OtherSetting {
  readonly name: string
  readonly source: 'environment' | 'config file'
  readonly treatment: OtherTreatment
  readonly reason: string
  readonly hint: string | undefined
}

/** What {@link inspectSettings} found. */
export interface InspectedSettings {
  /** The config file that was read; undefined for none. */
  readonly configFile: string | undefined
  readonly options: readonly SettingInForce[]
  readonly others: readonly OtherSetting[]
}

/** Where settings are looked for. */
export interface InspectInput {
  /** Whose settings are asked for; undefined for those of all commands. */
  readonly command: CommandName | undefined
  /** Flags as typed, by option. */
  readonly flags: ReadonlyMap<OptionKey, string>
  readonly environment: Environment
  /** Home directory, for `~/.walg.*`. */
  readonly home: string | undefined
}

/**
 * Reads all sources and judges what they have.
 * @throws WalrxError WALRX_USAGE for a config file that cannot be read
 */
export async function inspectSettings({ command, ...input }: InspectInput): Promise<InspectedSettings> {
  const sources = await readSources({ command: command ?? 'config', ...input })
  const secrets = secretTexts(sources.environment, sources.file)
  const entries = (Object.entries(optionTable) as [OptionKey, OptionSpec][]).filter(([, { commands }]) => {
    return command === undefined || isIn(command, commands)
  })
  const options = entries.map(([key, spec]) => {
    const at = findOption(spec, input.flags.get(key), sources.environment, sources.file)
    return { spec, at, shown: inForce(spec, at, command, secrets) }
  })
  const overridden = options.flatMap(({ at, spec }) => (at ? overriddenBy(at, spec, sources) : []))
  return {
    configFile: sources.configFile,
    options: options.map(({ shown }) => shown),
    others: [...overridden, ...otherSettings(command, sources)],
  }
}

function inForce(
  spec: OptionSpec,
  at: Found | undefined,
  command: CommandName | undefined,
  secrets: readonly string[],
): SettingInForce {
  const isSecret = spec.secret === true
  const text = at?.text.replaceAll(valueSeparator, ' ') ?? spec.default
  return {
    label: optionLabel(spec),
    flag: spec.flag === undefined ? undefined : `--${spec.flag}`,
    value: isSecret || text === undefined ? undefined : shownText(spec, text.trim(), secrets),
    defaultText: spec.defaultText,
    isSecret,
    source: at?.source ?? 'default',
    setBy: at?.name,
    problem: at && (problemOf(spec, at) ?? refusalOf(spec, at, command)),
  }
}

/** A connection string that cannot be read may have a password in any place of it. */
function shownText({ flag }: OptionSpec, text: string, secrets: readonly string[]): string {
  if (flag === 'dbname' && !isReadable(text)) return '… (no connection string that can be read)'
  return redactText(text, secrets)
}

function isReadable(conninfo: string): boolean {
  try {
    return [...splitConninfo(conninfo).keys()].every((keyword) => Object.hasOwn(keywords, keyword))
  } catch {
    return false
  }
}

/** Why the command refuses a value that others understand. */
function refusalOf(spec: OptionSpec, { text }: Found, command: CommandName | undefined): string | undefined {
  const { unsupported } = spec
  if (!unsupported || command === undefined || !isIn(command, unsupported.commands)) return undefined
  const parsed = parseOptionText(spec.type, text)
  return 'value' in parsed && unsupported.values.includes(String(parsed.value)) ? unsupported.reason : undefined
}

/** Other names, and the other source, of an option that is set. */
function overriddenBy(at: Found, spec: OptionSpec, sources: SettingSources): OtherSetting[] {
  return optionNames(spec.env).flatMap((name) =>
    sourcesOf(name, sources)
      .filter((source) => source !== at.source || name !== at.name)
      .map((source) => ({
        name,
        source,
        treatment: 'overridden',
        reason: `${at.name} takes precedence${at.name === name ? `, from the ${at.source}` : ''}`,
        hint: undefined,
      })),
  )
}

type OutsideSource = OtherSetting['source']

function sourcesOf(name: string, { environment, file }: SettingSources): OutsideSource[] {
  return [
    ...(environment.has(name) ? (['environment'] as const) : []),
    ...(file.has(name) ? (['config file'] as const) : []),
  ]
}

/** What is set under names that are no options. */
function otherSettings(command: CommandName | undefined, sources: SettingSources): OtherSetting[] {
  const { environment, file } = sources
  const ours = new Set(Object.values<OptionSpec>(optionTable).flatMap(({ env }) => optionNames(env)))
  const names = [...new Set([...environment.keys(), ...file.keys()])].filter((name) => !ours.has(name)).sort()
  const unknown = new Map(unknownNames(names).map(({ name, nearest }) => [name, nearest]))
  return names.flatMap((name) =>
    sourcesOf(name, sources).flatMap((source) => {
      const text = (source === 'environment' ? environment : file).get(name) ?? ''
      const found = walgFate(name, text, command) ?? passedOn(name, source)
      if (found) return [{ name, source, ...found }]
      if (!unknown.has(name) && source === 'environment') return []
      return [{ name, source, ...unknownFate(unknown.get(name)) }]
    }),
  )
}

type Judgement = Pick<OtherSetting, 'treatment' | 'reason' | 'hint'>

function walgFate(name: string, text: string, command: CommandName | undefined): Judgement | undefined {
  const row = walgSettingNamed(name)
  if (!row) return undefined
  const { commands, harmless, hint, reason, treatment } = row
  if (harmless?.test(text.trim())) {
    return { treatment: 'harmless', reason: 'this value asks for nothing that walrx lacks', hint: undefined }
  }
  if (commands && command !== undefined && !isIn(command, commands)) {
    return { treatment: 'ignored', reason: `it does not concern ${command}`, hint: undefined }
  }
  const whom = commands && command === undefined ? ` (${commands.join(', ')})` : ''
  return { treatment, reason: reason + whom, hint }
}

function passedOn(name: string, source: OutsideSource): Judgement | undefined {
  if (isPassedOn(name)) {
    return { treatment: 'passed on', reason: 'the connection to the server has it, as libpq would', hint: undefined }
  }
  if (!name.startsWith('AWS_')) return undefined
  if (source === 'environment') return { treatment: 'passed on', reason: 'the AWS SDK reads it', hint: undefined }
  return {
    treatment: 'warned',
    reason: 'the AWS SDK does not read the config file of walrx',
    hint: `set ${name} in the environment instead`,
  }
}

function unknownFate(nearest: string | undefined): Judgement {
  const hint = nearest === undefined ? 'remove it: docs/reference.md lists all settings' : `did you mean ${nearest}?`
  return { treatment: 'unknown', reason: 'nothing knows this name', hint }
}
