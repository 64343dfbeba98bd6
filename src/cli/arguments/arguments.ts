/**
 * What a command line says, checked. Two parsers feed it: yargs, and for the commands that a recovering server starts
 * by the hundred `node:util`, which needs no loading. Both only take the line apart. Every check is here, so that both
 * accept the same, and refuse the same with the same message.
 */
import { type CommandName, type OptionSpec, valueSeparator } from '../../config/options/option-types.ts'
import { optionsOf } from '../../config/load.ts'
import { type OptionKey, optionTable } from '../../config/options/options.ts'
import { WalrxError } from '../../primitives/errors.ts'
import { nearest } from '../../primitives/nearest.ts'
import { shellWord } from '../../primitives/shell-word.ts'
import type { Command, Positional } from '../command.ts'
import { foreignArgument, foreignOption, settingAsFlag } from './foreign-words.ts'

/** A command line taken apart. */
export interface RawArguments {
  /** Values of each flag in the order given; empty where the value is missing, `true` or `false` for switches. */
  readonly flags: ReadonlyMap<OptionKey, readonly string[]>
  readonly positionals: readonly string[]
  /** Flags that the command doesn't have, as typed: `--foo`, `-x`. */
  readonly unknown: readonly string[]
  readonly help: boolean
}

/** A command line without mistakes. */
export interface CheckedArguments {
  readonly flags: ReadonlyMap<OptionKey, string>
  /** By their names: those that must be there, and those of the optional ones that are. */
  readonly positionals: Readonly<Record<string, string>>
  /** What follows these. */
  readonly rest: readonly string[]
}

/** An option of a command that has a flag. */
export interface FlagSpec {
  readonly key: OptionKey
  readonly flag: string
  readonly spec: OptionSpec
}

/** The flags of a command, and of the one that it describes, in the order of the table. */
export function flagsOf({ describes, name }: Pick<Command, 'describes' | 'name'>): FlagSpec[] {
  const others = new Set((describes === undefined ? [] : optionsOf(describes)).map(([key]) => key))
  const own = new Set(optionsOf(name).map(([key]) => key))
  return (Object.entries(optionTable) as [OptionKey, OptionSpec][]).flatMap(([key, spec]) =>
    spec.flag === undefined || !(own.has(key) || others.has(key)) ? [] : [{ key, flag: spec.flag, spec }],
  )
}

/** Checks a command line. Throws WALRX_USAGE. */
export function checkArguments(command: Command, raw: RawArguments): CheckedArguments {
  const [unknown] = raw.unknown
  if (unknown !== undefined) throw unknownOption(command, unknown)
  const flags = new Map<OptionKey, string>()
  for (const { key, flag, spec } of flagsOf(command)) {
    const given = raw.flags.get(key) ?? []
    const value = given.at(-1)
    if (value === undefined) continue
    if (given.length > 1 && spec.type.kind !== 'boolean' && !spec.isRepeatable) {
      throw usage(command, `--${flag} is given ${given.length} times`)
    }
    if (value === '' || (spec.isRepeatable && given.includes(''))) throw usage(command, `--${flag} needs a value`)
    flags.set(key, spec.isRepeatable ? given.join(valueSeparator) : value)
  }
  return { flags, ...checkPositionals(command, raw.positionals) }
}

function checkPositionals(command: Command, given: readonly string[]): Omit<CheckedArguments, 'flags'> {
  const missing = command.positionals[given.length]
  if (missing) throw usage(command, `${missing.name.toUpperCase()} is missing`)
  const named = [...command.positionals, ...(command.optionals ?? [])]
  const rest = given.slice(named.length)
  const [extra] = rest
  if (extra !== undefined && command.rest === undefined) {
    const message = `${command.name} takes no argument "${extra}"`
    const flags = flagsOf(command).map(({ flag }) => flag)
    throw usage(command, message, foreignArgument(extra, command.name, flags))
  }
  refuseOddBackup(command, given)
  const typed = named.slice(0, given.length)
  return { positionals: Object.fromEntries(typed.map(({ name }, index) => [name, given[index] ?? ''])), rest }
}

/** Before the archive is asked: the arguments of backup-fetch in the wrong order, and LATEST in small letters. */
function refuseOddBackup(command: Command, given: readonly string[]): void {
  const at = command.positionals.findIndex(({ name }) => name === 'name')
  if (!command.name.startsWith('backup-') || at < 0) return
  const [name = '', first = ''] = [given[at], given[0]]
  const isBackup = (text: string) => /^(latest$|base_[0-9a-f]{24})/i.test(text)
  if (at > 0 && isBackup(first) && !isBackup(name)) {
    throw new WalrxError('WALRX_USAGE', `${command.name} takes the directory first, then the backup`, {
      hint: `write ${shellWord(name)} ${shellWord(first)} instead of ${shellWord(first)} ${shellWord(name)}`,
    })
  }
  if (name !== 'LATEST' && name.toLowerCase() === 'latest') {
    throw new WalrxError('WALRX_USAGE', `no backup is called ${name}`, { hint: 'did you mean LATEST?' })
  }
}

function unknownOption(command: Command, unknown: string): WalrxError {
  const flags = flagsOf(command).map(({ flag }) => flag)
  const message = `${command.name} has no option ${unknown}`
  const variable = flaglessVariable(command.name, unknown)
  if (variable !== undefined) {
    return usage(command, message, `set ${variable}: every user of a machine sees the arguments of its processes`)
  }
  if (/^-\d/.test(unknown)) {
    return usage(command, message, `no argument is a negative number: see walrx ${command.name} --help`)
  }
  const foreign = foreignOption(unknown, command.name, flags) ?? settingAsFlag(unknown)
  if (foreign !== undefined) return usage(command, message, foreign)
  const suggestion = nearest(
    unknown,
    flags.map((flag) => `--${flag}`),
  )
  return usage(command, message, suggestion === undefined ? undefined : `did you mean ${suggestion}?`)
}

/** The variable of a secret, which has no flag, where the flag would be called like this. */
function flaglessVariable(command: CommandName, unknown: string): string | undefined {
  const name = unknown.replace(/^--/, '').replaceAll('-', '_').toUpperCase()
  const secrets = optionsOf(command).filter(([, { flag, secret }]) => secret && flag === undefined)
  const variables = secrets.flatMap(([, { env }]) => env)
  return variables.find((each) => each === name || each.replace(/^(WALG|WALRX)_/, '') === name)
}

function usage(command: Command, message: string, hint = `see walrx ${command.name} --help`): WalrxError {
  return new WalrxError('WALRX_USAGE', message, { hint })
}

/** The arguments by position as help and reference show them: `NAME`, `[NAME]` for an optional one, `[NAME...]`. */
export function shownArguments({ optionals = [], positionals, rest }: Command): { shown: string; help: string }[] {
  const upper = ({ help, name }: Positional, before: string, after: string) => ({
    shown: `${before}${name.toUpperCase()}${after}`,
    help,
  })
  return [
    ...positionals.map((each) => upper(each, '', '')),
    ...optionals.map((each) => upper(each, '[', ']')),
    ...(rest ? [upper(rest, '[', '...]')] : []),
  ]
}

/** The call of a command: `walrx wal-fetch NAME DEST [options]`. */
export function usageLine(command: Command): string {
  return ['walrx', command.name, ...shownArguments(command).map(({ shown }) => shown), '[options]'].join(' ')
}
