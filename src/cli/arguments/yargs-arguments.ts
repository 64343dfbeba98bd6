/** The command line and its help by yargs, generated from the option table. */
import yargs, { type Argv } from 'yargs'
import { optionsOf } from '../../config/load.ts'
import { optionGroups } from '../../config/options/option-types.ts'
import type { OptionKey } from '../../config/options/options.ts'
import { exitStatuses } from '../../primitives/errors.ts'
import type { Command } from '../command.ts'
import type { Registry } from '../command-loaders.ts'
import { flagsOf, type RawArguments, usageLine } from './arguments.ts'
import { flagWithValue, optionHelp } from './option-help.ts'
import { spellOut } from './spell-out.ts'

/** Wider lines are hard to read. */
const helpColumnsMax = 110

/** Takes `args`, what follows the command's name, apart. */
export function parseWithYargs(command: Command, args: readonly string[]): RawArguments {
  const words = spellOut(command, args)
  const end = words.includes('--') ? words.indexOf('--') : words.length
  const keys = new Map(flagsOf(command.name).map(({ flag, key }) => [flag, key]))
  const parser = plainYargs()
    .boolean('help')
    .string([...keys.keys()])
  const parsed = parser.parseSync([...words.slice(0, end).map(quoteValue), ...words.slice(end)])
  const { $0: _, _: rest, '--': last = [], help, ...given } = parsed
  const flags = new Map<OptionKey, string[]>()
  const unknown: string[] = []
  const positionals: string[] = []
  for (const [name, values] of Object.entries(given)) {
    const key = keys.get(name)
    if (key !== undefined) flags.set(key, [values].flat().map(String))
    // yargs takes --known.x for known.
    else unknown.push(`--${name}`)
  }
  for (const word of rest.map(String)) {
    if (/^-./s.test(word)) unknown.push(flagAsTyped(word))
    else positionals.push(word)
  }
  const typed = words.map(flagAsTyped)
  unknown.sort((a, b) => typed.indexOf(a) - typed.indexOf(b))
  positionals.push(...(last as unknown[]).map(String))
  return { flags, positionals, unknown, help: help !== undefined }
}

/** `--foo` of `--foo=1`. */
function flagAsTyped(word: string): string {
  return word.replace(/^(--[^=]+)=.*$/s, '$1')
}

/** yargs takes quotes off the value of `--flag=value`, also those that belong to it: it gets a pair to take. */
function quoteValue(word: string): string {
  return word.replace(/^(--[^=]+)=(.*)$/s, '$1="$2"')
}

/** The text of `walrx COMMAND --help`. */
export async function commandHelp(command: Command, summary: string, columns: number): Promise<string> {
  const parser = helpParser(command)
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
      'boolean-negation': false,
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

/** yargs prints what a value is called like a part of the option's name. */
function helpParser(command: Command): Argv {
  const parser = plainYargs()
  const flags = flagsOf(command.name)
  for (const group of optionGroups) {
    for (const { spec } of flags.filter((each) => each.spec.group === group)) {
      parser.option(flagWithValue(spec), {
        ...(spec.alias !== undefined && { alias: spec.alias }),
        type: spec.type.kind === 'boolean' ? 'boolean' : 'string',
        group: `${group}:`,
        describe: optionHelp(spec),
      })
    }
  }
  return parser.option('help', { alias: 'h', type: 'boolean', group: 'General:', describe: 'show this' })
}
