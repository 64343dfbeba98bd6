/** The command line and its help by yargs, generated from the option table. */
import yargs, { type Argv } from 'yargs'
import { optionsOf } from '../../config/load.ts'
import { optionGroups } from '../../config/options/option-types.ts'
import type { OptionKey } from '../../config/options/options.ts'
import { exitStatuses } from '../../primitives/errors.ts'
import type { Command } from '../command.ts'
import type { Registry } from '../command-list.ts'
import { type FlagSpec, flagsOf, type RawArguments, usageLine } from './arguments.ts'
import { flagWithValue, optionHelp } from './option-help.ts'

/** Wider lines are hard to read. */
const helpColumnsMax = 110

/** Takes `args`, what follows the command's name, apart. */
export function parseWithYargs(command: Command, args: readonly string[]): RawArguments {
  const parsed = commandParser(command).parseSync(splitShortFlags(command, args)) as Record<string, unknown>
  const flags = new Map<OptionKey, string[]>()
  const unknown: string[] = []
  for (const { key, flag, spec } of flagsOf(command.name)) {
    const given = [parsed[flag] ?? []].flat()
    if (given.includes(false) && spec.type.kind !== 'boolean') unknown.push(`--no-${flag}`)
    else if (given.length > 0) flags.set(key, given.map(String))
  }
  const positionals: string[] = []
  for (const word of (parsed['_'] as unknown[]).map(String)) {
    if (/^-./.test(word)) unknown.push(word.startsWith('--') ? word.replace(/=.*$/s, '') : word.slice(0, 2))
    else positionals.push(word)
  }
  unknown.sort((a, b) => args.findIndex((arg) => arg.startsWith(a)) - args.findIndex((arg) => arg.startsWith(b)))
  const behindDashes = (parsed['--'] ?? []) as unknown[]
  return {
    flags,
    positionals: [...positionals, ...behindDashes.map(String)],
    unknown,
    help: parsed['help'] !== undefined,
  }
}

/** `-Sname` as `-S name`: yargs would take it for a group of one-letter switches. */
function splitShortFlags(command: Command, args: readonly string[]): string[] {
  const aliases = flagsOf(command.name).map(({ spec }) => spec.alias)
  const dashes = args.indexOf('--')
  return args.flatMap((arg, index) => {
    const isShort = /^-[A-Za-z]./s.test(arg) && aliases.includes(arg[1]) && (dashes < 0 || index < dashes)
    return isShort ? [arg.slice(0, 2), arg.slice(2)] : [arg]
  })
}

/** The text of `walrx COMMAND --help`. */
export async function commandHelp(command: Command, summary: string, columns: number): Promise<string> {
  const parser = commandParser(command, ({ spec }) => flagWithValue(spec))
    .usage(`${usageLine(command)}\n\n${summary.charAt(0).toUpperCase()}${summary.slice(1)}.`)
    .wrap(Math.min(columns, helpColumnsMax))
  for (const { call, means } of command.examples) parser.example(call, means)
  const noFlag = optionsOf(command.name).filter(([, spec]) => spec.flag === undefined)
  const lines = noFlag.map(([, spec]) => `  ${spec.env[0] ?? ''}: ${spec.help}`)
  if (lines.length > 0) parser.epilogue(`By environment or config file only:\n${lines.join('\n')}`)
  return `${await parser.getHelp()}\n`
}

/** The text of `walrx --help`. */
export async function rootHelp(registry: Registry, columns: number): Promise<string> {
  const parser = plainYargs()
    .usage(
      "walrx COMMAND [options]\n\nStreams PostgreSQL's WAL into S3 or a directory in WAL-G's format, and serves it back.",
    )
    .option('help', { alias: 'h', type: 'boolean', describe: 'show this, or with a command its options' })
    .option('version', { alias: 'V', type: 'boolean', describe: 'show the version' })
    .wrap(Math.min(columns, helpColumnsMax))
  for (const [name, entry] of Object.entries(registry)) parser.command(name, entry.summary)
  parser.example(
    'WALG_FILE_PREFIX=/archive walrx wal-receive -d postgresql://replicator@db1',
    'archive into a directory',
  )
  parser.example('WALG_S3_PREFIX=s3://bucket/db1 walrx wal-receive -d service', 'archive into a bucket')
  parser.example("restore_command = 'walrx wal-fetch %f %p'", 'recover, in postgresql.conf')
  const statuses = Object.entries(exitStatuses).map(([status, meaning]) => `  ${status.padStart(3)}  ${meaning}`)
  parser.epilogue(
    `Every option can also be set in the environment or a config file, by WAL-G's own names.\n\nExit status:\n${statuses.join('\n')}`,
  )
  return `${await parser.getHelp()}\n`
}

function plainYargs(): Argv {
  const parser = yargs([])
    .scriptName('walrx')
    .locale('en')
    .help(false)
    .version(false)
    .exitProcess(false)
    .parserConfiguration({
      'camel-case-expansion': false,
      'dot-notation': false,
      'parse-numbers': false,
      'parse-positional-numbers': false,
      'populate--': true,
      'strip-aliased': true,
      'unknown-options-as-args': true,
    })
  // Not in the type definitions yet.
  return (parser as Argv & { usageConfiguration(options: object): Argv }).usageConfiguration({ 'hide-types': true })
}

/** @param nameOf how an option is called; for help with its value, which yargs then prints like a part of the name */
function commandParser(command: Command, nameOf: (flag: FlagSpec) => string = ({ flag }) => flag): Argv {
  const parser = plainYargs()
  const flags = flagsOf(command.name)
  for (const group of optionGroups) {
    for (const each of flags.filter(({ spec }) => spec.group === group)) {
      const { spec } = each
      parser.option(nameOf(each), {
        ...(spec.alias !== undefined && { alias: spec.alias }),
        type: spec.type.kind === 'boolean' ? 'boolean' : 'string',
        group: `${group}:`,
        describe: optionHelp(spec),
      })
    }
  }
  return parser.option('help', { alias: 'h', type: 'boolean', group: 'General:', describe: 'show this' })
}
