/**
 * Reads options: flag, then environment, then config file, then default. An empty variable counts as unset. Together
 * with `main.ts` this room is the only reader of the process's environment, and even here it comes as an argument.
 */
import { redactText } from '../observe/redact.ts'
import { WalrxError } from '../primitives/errors.ts'
import { commandRow, isIn } from './commands.ts'
import { findConfigFile, readConfigFile } from './config-file.ts'
import { keyNotices } from './keys/key-notices.ts'
import { secretForms } from './keys/secret-forms.ts'
import { type ParsedOption, parseOptionText } from './options/option-values.ts'
import type { CommandName, OptionSpec } from './options/option-types.ts'
import { type OptionKey, optionTable, type OptionValues } from './options/options.ts'
import { knownNames, optionNames, spellings, unknownNames } from './setting-names.ts'
import { type WalgSetting, walgSettings } from './walg-settings.ts'

/** Variables by name. */
export type Environment = Readonly<Record<string, string | undefined>>

/** Where a value came from. */
export type OptionSource = 'flag' | 'environment' | 'config file' | 'default'

/** Something about the settings that the log should say. */
export interface SettingNotice {
  readonly level: 'warn' | 'debug'
  readonly message: string
  readonly name: string
  readonly hint?: string
}

/** The loaded settings of one command. */
export interface Settings<C extends CommandName = CommandName> {
  readonly command: C
  /** The values, frozen. */
  readonly values: OptionValues<C>
  /** Where the value came from; `default` also where there is none. */
  source(key: OptionKey): OptionSource
  /** The value with its name and origin, for messages: `WALG_SLOTNAME=foo (from environment)`. Secrets without value. */
  describe(key: OptionKey): string
  /** PG* settings of environment and config file, with the flags laid over them: what libpq would see. */
  readonly pgEnvironment: Readonly<Record<string, string>>
  /** Those of them that flags have set. */
  readonly pgFlags: Readonly<Record<string, string>>
  /** The variables that they were loaded from: what a child process is to inherit. */
  readonly environment: Environment
  /** Path of the config file that was read; undefined for none. */
  readonly configFile?: string | undefined
  /** Texts that must never be printed. */
  readonly secrets: readonly string[]
  readonly notices: readonly SettingNotice[]
}

/** What {@link loadSettings} reads from. */
export interface LoadInput<C extends CommandName> {
  readonly command: C
  /** Flags as typed, by option. */
  readonly flags: ReadonlyMap<OptionKey, string>
  readonly environment: Environment
  /** Home directory, for `~/.walg.*`. */
  readonly home?: string | undefined
}

/** One value as it was found. */
export interface Found {
  /** As it was typed: `--slotname`, `WALE_SLOTNAME`. */
  readonly name: string
  readonly text: string
  readonly source: OptionSource
}

/** What is set outside of the command line; nothing that is empty. */
export interface SettingSources {
  readonly environment: ReadonlyMap<string, string>
  /** What the config file has; empty without one. */
  readonly file: ReadonlyMap<string, string>
  readonly configFile: string | undefined
}

/**
 * Loads a command's settings.
 * @throws WalrxError WALRX_USAGE for a bad value or config file; WALRX_OPTION_UNSUPPORTED for a setting of WAL-G's that
 * would change what is stored
 */
export async function loadSettings<C extends CommandName>(input: LoadInput<C>): Promise<Settings<C>> {
  const { configFile, environment, file } = await readSources(input)
  const { settings: judgement } = commandRow(input.command) ?? {}
  const lookUp = (name: string): Found | undefined => {
    const fromEnvironment = environment.get(name)
    if (fromEnvironment !== undefined) return { name, text: fromEnvironment, source: 'environment' }
    const fromFile = file.get(name)
    return fromFile === undefined ? undefined : { name, text: fromFile, source: 'config file' }
  }
  const notices =
    judgement === undefined
      ? [
          ...judgeWalgSettings(input.command, lookUp),
          ...unknownNotices(environment, file),
          ...sdkNotices(environment, file),
        ]
      : []

  const values: Record<string, unknown> = {}
  const found = new Map<OptionKey, Found>()
  for (const [key, spec] of optionsOf(input.command)) {
    const given = findOption(spec, input.flags.get(key), environment, file)
    const at = judgement === 'shown' && given && problemOf(spec, given) ? undefined : given
    if (at) found.set(key, at)
    const text = at?.text ?? spec.default
    if (text !== undefined) values[key] = parseFor(input.command, spec, text, at)
  }
  const settings: Omit<Settings<C>, keyof HiddenSettings> = {
    command: input.command,
    values: Object.freeze(values) as OptionValues<C>,
    source: (key) => found.get(key)?.source ?? 'default',
    describe: (key) => describe(optionTable[key], found.get(key), values[key]),
    pgFlags: Object.freeze(pgFlags(found)),
    configFile,
    notices: [...notices, ...(await keyNotices(input.command, values))],
  }
  return withHidden(settings, {
    pgEnvironment: Object.freeze({ ...pgEnvironment(environment, file), ...pgFlags(found) }),
    environment: input.environment,
    secrets: secretTexts(environment, file),
  })
}

type HiddenSettings = Pick<Settings, 'environment' | 'pgEnvironment' | 'secrets'>

/** What holds passwords and keys is no part of what an inspection, or JSON, shows. */
function withHidden<T extends object>(settings: T, hidden: HiddenSettings): T & HiddenSettings {
  const entries = Object.entries(hidden).map(([name, value]) => [name, { value: value as unknown, enumerable: false }])
  return Object.defineProperties(settings, Object.fromEntries(entries) as PropertyDescriptorMap) as T & HiddenSettings
}

/** The options that a command takes, in the order of the table. */
export function optionsOf(command: CommandName): [OptionKey, OptionSpec][] {
  const entries = Object.entries(optionTable) as [OptionKey, OptionSpec][]
  return entries.filter(([, spec]) => isIn(command, spec.commands))
}

/** How an option is called in messages and in the documentation: its first variable, or its flag. */
export function optionLabel(spec: OptionSpec): string {
  return spec.env[0] ?? `--${spec.flag ?? ''}`
}

/**
 * Reads the environment and the config file.
 * @throws WalrxError WALRX_USAGE for a config file that cannot be read
 */
export async function readSources(
  input: Pick<LoadInput<CommandName>, 'command' | 'flags' | 'environment' | 'home'>,
): Promise<SettingSources> {
  const kind = commandRow(input.command)?.settings
  const isWanted = kind !== 'none'
  const environment = isWanted ? nonEmpty(input.environment) : new Map<string, string>()
  const configFile = isWanted && kind !== 'own file' ? configPath(input, environment) : undefined
  return { environment, configFile, file: configFile === undefined ? new Map() : await readConfigFile(configFile) }
}

function nonEmpty(environment: Environment): Map<string, string> {
  const entries = Object.entries(environment)
  return new Map(entries.filter((entry): entry is [string, string] => entry[1] !== undefined && entry[1] !== ''))
}

function configPath(
  input: Pick<LoadInput<CommandName>, 'flags' | 'home'>,
  environment: ReadonlyMap<string, string>,
): string | undefined {
  const named = findOption(optionTable.configPath, input.flags.get('configPath'), environment, new Map())
  return named?.text ?? (input.home === undefined ? undefined : findConfigFile(input.home))
}

/** Where an option's value comes from; undefined where it has its default. */
export function findOption(
  spec: OptionSpec,
  flag: string | undefined,
  environment: ReadonlyMap<string, string>,
  file: ReadonlyMap<string, string>,
): Found | undefined {
  if (flag !== undefined) return { name: `--${spec.flag ?? ''}`, text: flag, source: 'flag' }
  for (const [settings, source] of [
    [environment, 'environment'],
    [file, 'config file'],
  ] as const) {
    for (const name of optionNames(spec.env)) {
      const text = settings.get(name)
      if (text !== undefined) return { name, text, source }
    }
  }
  return undefined
}

/** What is wrong with a value, whatever the command ("must be …"); undefined for a good one. */
export function problemOf(spec: OptionSpec, at: Pick<Found, 'source' | 'text'>): string | undefined {
  const parsed = parseText(spec, at.text, at)
  return 'problem' in parsed ? parsed.problem : undefined
}

function parseText(spec: OptionSpec, text: string, at: Pick<Found, 'source'> | undefined): ParsedOption {
  // A JSON file can have one; no path and no name can. Between the values of a flag it is ours.
  const hasZero = text.includes('\0') && !(spec.isRepeatable && at?.source === 'flag')
  return hasZero ? { problem: 'must not contain a zero byte' } : parseOptionText(spec.type, text)
}

function parseFor(command: CommandName, spec: OptionSpec, text: string, at: Found | undefined): unknown {
  const parsed = parseText(spec, text, at)
  const { unsupported } = spec
  const refusal = unsupported && isIn(command, unsupported.commands) ? unsupported : undefined
  if ('value' in parsed) {
    if (!refusal?.values.includes(String(parsed.value))) return parsed.value
    throw new WalrxError('WALRX_OPTION_UNSUPPORTED', `${describe(spec, at, parsed.value)}: ${refusal.reason}`)
  }
  throw new WalrxError('WALRX_USAGE', `${describe(spec, at, undefined)}: ${parsed.problem}`, {
    ...(refusal && { hint: refusal.reason }),
  })
}

function describe(spec: OptionSpec, at: Found | undefined, value: unknown): string {
  if (!at) return `${optionLabel(spec)}${spec.default === undefined ? ' (not set)' : `=${spec.default} (default)`}`
  const text = spec.secret ? '' : `=${redactText(at.text || String(value))}`
  return at.source === 'flag' ? `${at.name}${text}` : `${at.name}${text} (from ${at.source})`
}

function judgeWalgSettings(command: CommandName, lookUp: (name: string) => Found | undefined): SettingNotice[] {
  const notices: SettingNotice[] = []
  for (const row of walgSettings) {
    if (row.commands && !isIn(command, row.commands)) continue
    for (const at of row.names.flatMap(spellings).map(lookUp)) {
      if (!at || row.harmless?.test(at.text.trim())) continue
      notices.push(judge(row, at))
    }
  }
  return notices
}

/** The notice that a setting deserves. Throws for one that is refused; its value may be a secret and is not printed. */
function judge(row: WalgSetting, at: Found): SettingNotice {
  const hint = row.hint === undefined ? {} : { hint: row.hint }
  if (row.treatment === 'refused') {
    throw new WalrxError('WALRX_OPTION_UNSUPPORTED', `${at.name} is set (${at.source}), but ${row.reason}`, hint)
  }
  const level = row.treatment === 'warned' ? 'warn' : 'debug'
  return { level, name: at.name, message: `setting without effect: ${row.reason}`, ...hint }
}

function unknownNotices(...maps: ReadonlyMap<string, string>[]): SettingNotice[] {
  const names = new Set(maps.flatMap((map) => [...map.keys()]))
  return unknownNames(names).map(({ name, nearest }) => ({
    level: 'warn',
    name,
    message: 'unknown setting, without effect',
    hint: nearest === undefined ? 'remove it: docs/reference.md lists all settings' : `did you mean ${nearest}?`,
  }))
}

/** AWS_* settings of the file that are no options: the AWS SDK looks for them in the process's environment alone. */
function sdkNotices(environment: ReadonlyMap<string, string>, file: ReadonlyMap<string, string>): SettingNotice[] {
  const names = [...file.keys()].filter((name) => name.startsWith('AWS_') && !environment.has(name))
  const known = names.length === 0 ? undefined : knownNames()
  return names
    .filter((name) => !known?.has(name))
    .map((name) => ({
      level: 'warn',
      name,
      message: 'setting without effect: the AWS SDK does not read the config file of walrx',
      hint: `set ${name} in the environment instead`,
    }))
}

/** True for the name of a variable that the connection to the server has, as libpq would. */
export function isPassedOn(name: string): boolean {
  return /^PG[A-Z]/.test(name)
}

function pgEnvironment(
  environment: ReadonlyMap<string, string>,
  file: ReadonlyMap<string, string>,
): Record<string, string> {
  const result: Record<string, string> = {}
  for (const settings of [file, environment]) {
    for (const [name, text] of settings) if (isPassedOn(name)) result[name] = text
  }
  return result
}

function pgFlags(found: ReadonlyMap<OptionKey, Found>): Record<string, string> {
  const result: Record<string, string> = {}
  for (const [key, at] of found) {
    const name = optionTable[key].env[0]
    if (at.source === 'flag' && name?.startsWith('PG')) result[name] = at.text
  }
  return result
}

/** The values of every secret option, whether this command takes it or not, in all their forms. */
export function secretTexts(...maps: ReadonlyMap<string, string>[]): string[] {
  const texts = Object.values<OptionSpec>(optionTable).flatMap((spec) =>
    optionNames(spec.env).flatMap((name) => maps.flatMap((map) => secretForms(spec, map.get(name) ?? ''))),
  )
  return [...new Set(texts)].filter((text) => text !== '')
}
