/** The README's reference of options, settings and exit statuses, from the tables. `npm run docs` writes it. */
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { format, resolveConfig } from 'prettier'
import { commandTable, isIn } from '../../src/config/commands.ts'
import { type OptionSpec, optionGroups } from '../../src/config/options/option-types.ts'
import { optionTable } from '../../src/config/options/options.ts'
import { walgSettings } from '../../src/config/walg-settings.ts'
import { exitStatuses } from '../../src/primitives/errors.ts'
import { repository } from './source-files.ts'

/** Comments in the README between which the reference stands. */
export const referenceMarkers = ['<!-- reference: written by npm run docs -->', '<!-- end of reference -->'] as const

const readme = join(repository, 'README.md')

/** The reference as Markdown, formatted as Prettier will have it. */
export async function renderReference(): Promise<string> {
  const specs = Object.values<OptionSpec>(optionTable)
  const options = optionGroups.map((group) => {
    const rows = specs.filter((spec) => spec.group === group).map((spec) => optionRow(spec))
    return `#### ${group}\n\n${table(['Variable', 'Flag', 'Default', 'Commands', 'Meaning'], rows)}`
  })
  const settings = walgSettings.map(({ names, treatment, reason, harmless }) => {
    const what = { refused: '**stops the start**', warned: 'warning', ignored: 'no effect' }[treatment]
    const except = treatment === 'refused' && harmless ? ', but for a value that asks for nothing' : ''
    return `- ${what}${except}: ${names.map(code).join(', ')}: ${reason}`
  })
  const statuses = Object.entries(exitStatuses).map(([status, meaning]) => [status, meaning])
  const text = [
    '### Options',
    'A flag goes before the environment, that before the config file, that before the default. An empty variable counts ' +
      'as unset. `WALG_X` may also be called `WALE_X`; `AWS_X` and `S3_X` may have either prefix too. Secrets have no ' +
      'flag, because every user of a machine sees the arguments of its processes. Every other `PG*` variable that libpq ' +
      'knows is passed on to the connection.',
    ...options,
    "### WAL-G's other settings",
    'What would change what is stored, or where, stops the start. A name that nothing knows raises a warning.',
    settings.join('\n'),
    '### Exit status',
    table(['Status', 'Meaning'], statuses),
  ].join('\n\n')
  return (await format(text, { ...(await resolveConfig(readme)), parser: 'markdown' })).trim()
}

/** What stands between the markers of the README. */
export function readReference(): string {
  const text = readFileSync(readme, 'utf8')
  const [start, end] = bounds(text)
  return text.slice(start, end).trim()
}

async function writeReference(): Promise<void> {
  const text = readFileSync(readme, 'utf8')
  const [start, end] = bounds(text)
  writeFileSync(readme, `${text.slice(0, start)}\n\n${await renderReference()}\n\n${text.slice(end)}`)
}

/** Where the reference begins and ends. */
function bounds(text: string): [number, number] {
  const [first, last] = referenceMarkers.map((marker) => text.indexOf(marker))
  if (first === undefined || last === undefined || first < 0 || last < first) {
    throw new Error('README.md lacks the comments between which the reference stands')
  }
  return [first + referenceMarkers[0].length, last]
}

function optionRow(spec: OptionSpec): string[] {
  const flag = [spec.alias && `-${spec.alias}`, spec.flag && `--${spec.flag}`].filter((each) => each !== undefined)
  const choices = spec.type.kind === 'choice' ? `: ${spec.type.values.map(code).join(', ')}` : ''
  const fallback = spec.default === undefined ? (spec.defaultText ?? '') : code(spec.default)
  const all = Object.keys(commandTable)
  const those = all.filter((command) => isIn(command, spec.commands))
  const commands = those.length === all.length ? 'all' : those.join(', ')
  const secret = spec.secret ? ' (secret)' : ''
  return [spec.env.map(code).join(', '), flag.map(code).join(', '), fallback, commands, spec.help + choices + secret]
}

function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]) => `| ${cells.map((cell) => cell.replaceAll('|', '\\|')).join(' | ')} |`
  return [line(head), line(head.map(() => '---')), ...rows.map(line)].join('\n')
}

function code(text: string): string {
  return `\`${text}\``
}

if (process.argv[1] === fileURLToPath(import.meta.url)) await writeReference()
