/** The command line and its help by yargs, generated from the option table. */
import yargs, { type Argv } from 'yargs'
import { optionsOf } from '../../config/load.ts'
import { type OptionGroup, optionGroups } from '../../config/options/option-types.ts'
import type { OptionKey } from '../../config/options/options.ts'
import { exitStatuses } from '../../primitives/errors.ts'
import type { Command, Example } from '../command.ts'
import type { Registry } from '../command-loaders.ts'
import { flagsOf, type RawArguments, shownArguments, usageLine } from './arguments.ts'
import { flagWithValue, optionHelp } from './option-help.ts'
import { spellOut } from './spell-out.ts'

/** Wider lines are hard to read. */
const helpColumnsMax = 110

/** Takes `args`, what follows the command's name, apart. */
export function parseWithYargs(command: Command, args: readonly string[]): RawArguments {
  const words = spellOut(command, args)
  const end = words.includes('--') ? words.indexOf('--') : words.length
  const keys = new Map(flagsOf(command).map(({ flag, key }) => [flag, key]))
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
  const width = Math.min(columns, helpColumnsMax)
  const text = `${usageLine(command)}\n\n${summary.charAt(0).toUpperCase()}${summary.slice(1)}.`
  const parser = helpParser(command).wrap(width)
  const shown = examplesText(command.examples) + argumentsText(command)
  const noFlag = optionsOf(command.name).filter(([, spec]) => spec.flag === undefined)
  const lines = noFlag.map(([, spec]) => wrapped(`${spec.env[0] ?? ''}: ${spec.help}`, width, 2, 6))
  if (lines.length > 0) parser.epilogue(`By environment or config file only:\n${lines.join('\n')}`)
  return `${text}\n${shown}\n${await parser.getHelp()}\n`
}

/** Examples on lines of their own, never wrapped: they are pasted. */
function examplesText(examples: readonly Example[]): string {
  if (examples.length === 0) return ''
  return `\nExamples:\n${examples.map(({ call, means }) => `  # ${means}\n  ${call}\n`).join('')}`
}

function argumentsText(command: Command): string {
  const lines = shownArguments(command).map(({ help, shown }) => `  ${shown}: ${help}\n`)
  return lines.length === 0 ? '' : `\nArguments:\n${lines.join('')}`
}

/** Words in lines of `width` at most; the first line begins after `first` blanks, all others after `further`. */
function wrapped(text: string, width: number, first: number, further: number): string {
  const lines: string[] = []
  let line = ' '.repeat(first)
  for (const word of text.split(' ')) {
    if (line.trim() !== '' && line.length + word.length > width) {
      lines.push(line.trimEnd())
      line = ' '.repeat(further)
    }
    line += `${word} `
  }
  return [...lines, line.trimEnd()].join('\n')
}

/** The text of `walrx --help`. */
export async function rootHelp(registry: Registry, columns: number): Promise<string> {
  const width = Math.min(columns, helpColumnsMax)
  const what = "Streams PostgreSQL's WAL into S3 or a directory in WAL-G's format, and serves it back."
  const head = `walrx COMMAND [options]\n\n${wrapped(what, width, 0, 0)}\n${examplesText(rootExamples)}`
  const parser = plainYargs()
    .option('help', { alias: 'h', type: 'boolean', describe: 'show this, or with a command its options' })
    .option('version', { alias: 'V', type: 'boolean', describe: 'show the version' })
    .wrap(width)
  for (const [name, entry] of Object.entries(registry)) parser.command(name, entry.summary)
  const statuses = Object.entries(exitStatuses).map(([status, meaning]) =>
    wrapped(`${status.padStart(3, '\u00a0')}\u00a0 ${meaning}`, width, 2, 7).replaceAll('\u00a0', ' '),
  )
  const hint =
    "walrx COMMAND --help shows the options of a command. Each can also be set in the environment or a config file, by WAL-G's own names."
  const foot = `${wrapped(hint, width, 0, 0)}\n\nExit status:\n${statuses.join('\n')}`
  // yargs begins with a usage line of its own.
  const listed = (await parser.getHelp()).replace(/^walrx \[command\]\n+/, '')
  return `${head}\n${listed}\n\n${foot}\n`
}

/** The examples of `walrx --help`. */
export const rootExamples: readonly Example[] = [
  {
    call: 'WALG_FILE_PREFIX=/archive walrx wal-receive -d postgresql://walrx@db1',
    means: 'archive the WAL of a server into a directory',
  },
  {
    call: 'WALG_S3_PREFIX=s3://backups/db1 walrx backup-push -d "host=db1 user=walrx"',
    means: 'take a backup into a bucket, while wal-receive runs',
  },
  {
    call: 'WALG_S3_PREFIX=s3://backups/db1 walrx backup-fetch /srv/pgdata LATEST --recover',
    means: 'restore it, with all WAL of the archive',
  },
]

/** Groups that many commands share. */
const sharedGroups: readonly OptionGroup[] = ['General', 'PostgreSQL', 'Storage', 'Compression', 'Encryption', 'S3']

/** The options of the command itself come first, those that many commands share last. */
const helpOrder: readonly OptionGroup[] = [
  ...optionGroups.filter((group) => !sharedGroups.includes(group)),
  ...sharedGroups,
]

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
  const flags = flagsOf(command)
  for (const group of helpOrder) {
    if (group === 'General')
      parser.option('help', { alias: 'h', type: 'boolean', group: 'General:', describe: 'show this' })
    for (const { spec } of flags.filter((each) => each.spec.group === group)) {
      parser.option(flagWithValue(spec), {
        ...(spec.alias !== undefined && { alias: spec.alias }),
        type: spec.type.kind === 'boolean' ? 'boolean' : 'string',
        group: `${group}:`,
        describe: optionHelp(spec),
      })
    }
  }
  return parser
}
