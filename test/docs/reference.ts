/** docs/reference.md: commands, options, settings and exit statuses, from the tables. `npm run docs` writes it. */
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { shownArguments, usageLine } from '../../src/cli/arguments/arguments.ts'
import { flagWithValue } from '../../src/cli/arguments/option-help.ts'
import { commands } from '../../src/cli/command-loaders.ts'
import type { Command } from '../../src/cli/command.ts'
import { commandGroups, commandTable, isIn } from '../../src/config/commands.ts'
import { type CommandSet, type OptionSpec, optionGroups } from '../../src/config/options/option-types.ts'
import { optionTable } from '../../src/config/options/options.ts'
import { exitStatuses } from '../../src/primitives/errors.ts'
import { repository } from '../lint/source-files.ts'

const file = join(repository, 'docs', 'reference.md')

/** What docs/reference.md says. */
export function readReference(): string {
  return readFileSync(file, 'utf8')
}

/** What docs/reference.md has to say, as Markdown. Tables have no padding, so that one change changes one line. */
export async function renderReference(): Promise<string> {
  const specs = Object.values<OptionSpec>(optionTable)
  const options = optionGroups.map((group) => {
    const rows = specs.filter((spec) => spec.group === group).map(optionRow)
    return `### ${group}\n\n${table(['Variable', 'Flag', 'Default', 'Commands', 'Meaning'], rows)}`
  })
  const statuses = Object.entries(exitStatuses).map(([status, meaning]) => [status, meaning])
  const parts = [
    '# Reference',
    '<!-- `npm run docs` writes this file from the tables in src/. -->',
    '[Commands](#commands), [options](#options), [other settings of WAL-G](#wal-gs-other-settings), [exit status](#exit-status)',
    '## Commands',
    ...(await renderCommands()),
    '## Options',
    'A flag goes before the environment, that before the config file, that before the default. An empty variable counts ' +
      'as unset. `WALG_X` may also be called `WALE_X`; `AWS_X` and `S3_X` may have either prefix too. Secrets have no ' +
      'flag, because every user of a machine sees the arguments of its processes. Every other `PG*` variable that libpq ' +
      'knows is passed on to the connection.',
    'Sizes are written like `64MB`, in powers of 1024; durations like `15s` or `1h30m`. `--no-` before the name of a ' +
      'switch turns it off.',
    'The column *Commands* has names of commands, and these groups of them:',
    renderGroups(),
    ...options,
    "## WAL-G's other settings",
    'What would change what is stored, or where, stops the start. A name that nothing knows raises a warning. ' +
      '[walg-commands.md](walg-commands.md#settings) has each setting of WAL-G and WAL-RUS, and what walrx does with it. ' +
      '`walrx config` shows what is in force, where each value comes from, and what has no effect.',
    '## Exit status',
    table(['Status', 'Meaning'], statuses),
  ]
  return `${parts.join('\n\n')}\n`
}

async function renderCommands(): Promise<string[]> {
  const sections = Object.entries(commands).map(async ([name, { summary, load }]) => {
    const command = await load()
    const text = `${summary.charAt(0).toUpperCase()}${summary.slice(1)}.`
    return [`### ${name}`, text, '```\n' + usageLine(command) + '\n```', ...renderArguments(command)]
  })
  return (await Promise.all(sections)).flat()
}

function renderArguments(command: Command): string[] {
  const { examples } = command
  const words = shownArguments(command).map(({ help, shown }) => `- ${code(shown)}: ${plain(help)}`)
  const calls = examples.map(({ call, means }) => `# ${means}\n${call}`)
  return [words.join('\n'), calls.length > 0 ? '```sh\n' + calls.join('\n') + '\n```' : ''].filter(
    (part) => part !== '',
  )
}

/** The legend of the groups that the tables name. */
function renderGroups(): string {
  const named = commandGroups.filter((group) => group !== 'all' && membersOf(group).length > namedBelow)
  return named.map((group) => `- *${group}*: ${membersOf(group).join(', ')}`).join('\n')
}

/** Groups of so few commands are written out. */
const namedBelow = 2

function membersOf(group: string): string[] {
  return Object.keys(commandTable).filter((command) => isIn(command, [group]))
}

/** The commands of a set in one cell. */
export function commandsText(set: CommandSet): string {
  const words = set.flatMap((word) => {
    const members = membersOf(word)
    return members.length > namedBelow ? [word] : members
  })
  return words.join(', ')
}

function optionRow(spec: OptionSpec): string[] {
  const flags = [
    ...(spec.alias === undefined ? [] : [`-${spec.alias}`]),
    ...(spec.flag === undefined ? [] : [`--${flagWithValue(spec)}`]),
  ]
  const choices = spec.type.kind === 'choice' ? `: ${spec.type.values.map(code).join(', ')}` : ''
  const fallback = spec.default === undefined ? plain(spec.defaultText ?? '') : code(spec.default)
  const secret = spec.secret ? ' (secret)' : ''
  const meaning = plain(spec.help) + choices + secret
  return [spec.env.map(code).join(', '), flags.map(code).join(', '), fallback, commandsText(spec.commands), meaning]
}

/** A table of Markdown. */
export function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]) => `| ${cells.map((cell) => cell.replaceAll('|', '\\|')).join(' | ')} |`
  return [line(head), line(head.map(() => '---')), ...rows.map(line)].join('\n')
}

/** Text that has nothing that Markdown would take for its own. */
export function plain(text: string): string {
  return text.replaceAll(/[*<]/g, '\\$&')
}

/** Text as code. */
export function code(text: string): string {
  return `\`${text}\``
}

if (process.argv[1] === fileURLToPath(import.meta.url)) writeFileSync(file, await renderReference())
