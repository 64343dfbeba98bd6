/** docs/walg-commands.md: each command, flag and setting of WAL-G, from the tables. `npm run docs` writes it. */
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { foreignOption } from '../../src/cli/arguments/foreign-words.ts'
import { type WalgFlagFate, type WalgCommandFate, walgCommandFates } from '../../src/cli/arguments/walg-commands.ts'
import { type WalgFate, walgFates } from '../../src/config/inspect/walg-fates.ts'
import { walgSettingNames } from '../../src/config/inspect/walg-setting-names.ts'
import { repository } from '../lint/source-files.ts'
import { code, commandsText, plain, table } from './reference.ts'

const file = join(repository, 'docs', 'walg-commands.md')

/** What docs/walg-commands.md says. */
export function readWalgCommands(): string {
  return readFileSync(file, 'utf8')
}

/** What docs/walg-commands.md has to say, as Markdown. */
export function renderWalgCommands(): string {
  const fates = walgFates()
  const groups = Object.keys(walgSettingNames).flatMap((group) => {
    const rows = fates.filter((fate) => fate.group === group).map(settingRow)
    return [`### ${group}`, table(['Setting', 'Effect', 'Commands', 'Remark'], rows)]
  })
  const parts = [
    "# WAL-G's commands, flags and settings",
    '<!-- `npm run docs` writes this file from the tables in src/. -->',
    'Each command, flag and setting that WAL-G 3.0.9 has for PostgreSQL with S3, a directory or Google Cloud Storage, and ' +
      'what walrx does with it: [commands](#commands), [settings](#settings). The program gives the same answers: type a ' +
      'command or flag of WAL-G, or `walrx config --walg`. [walg.md](walg.md) says what is different in those that both have.',
    '## Commands',
    `*the same*: walrx takes it as it is. Every command also has \`--config FILE\`, which is the same, and \`--help\`. ` +
      `\`--version\` has no command beside it. \`--turbo\`: ${foreignOption('--turbo', 'wal-show', []) ?? ''}. WAL-G takes ` +
      'every setting as a flag too, as in `--walg-slotname NAME`. walrx does not: it answers with the name of its own ' +
      'flag, or with the variable.',
    table(
      ['WAL-G', 'Flag', 'walrx'],
      walgCommandFates().flatMap((each) => commandRows(each)),
    ),
    '## Settings',
    '- *honoured*: an option of walrx. The remark begins with its flag, if it has one.',
    '- *passed on*: the connection to the server has it, as libpq would.',
    '- *stops the start*: it would change what is stored, or where.',
    '- *warning*, *none*: it changes nothing. What has no effect is logged at log level debug.',
    'A name that nothing knows raises a warning, with the nearest name that is known. `walrx config` shows all of that for ' +
      'what you have set. WAL-G has settings for other databases and storages; walrx says nothing of the former, and the ' +
      'prefix of a storage that it does not have stops the start.',
    ...groups,
  ]
  return `${parts.join('\n\n').replaceAll('\n\n- *', '\n- *').replace('\n- *honoured*', '\n\n- *honoured*')}\n`
}

function commandRows({ answer, command, flags, name }: WalgCommandFate): string[][] {
  const head = [code(name), '', command ? 'the same' : `none: ${sentence(answer ?? '')}`]
  const given = flags.filter((each) => each.answer !== undefined)
  return [head, ...given.map((each) => ['', flagText(each), flagAnswer(each)])]
}

function flagText({ flag, letter }: WalgFlagFate): string {
  return [...(letter === undefined ? [] : [`-${letter}`]), `--${flag}`].map(code).join(', ')
}

function flagAnswer({ answer = '', extent, isLetterSame, letter }: WalgFlagFate): string {
  if (answer !== 'same') return sentence(answer)
  if (extent !== undefined) return `the same ${plain(extent)}`
  return letter === undefined || isLetterSame ? 'the same' : `the same, without ${code(`-${letter}`)}`
}

/** `did you mean --json?` is `--json`. */
function sentence(answer: string): string {
  const meant = /^did you mean (.*)\?$/.exec(answer)?.[1]
  return meant === undefined ? plain(answer) : code(meant)
}

function settingRow({ commands, hasHarmlessValues, hint, name, option, text, treatment }: WalgFate): string[] {
  const effects = {
    honoured: 'honoured',
    'passed on': 'passed on',
    refused: '**stops the start**',
    warned: 'warning',
    ignored: 'none',
  }
  const except = treatment === 'refused' && hasHarmlessValues ? ', but for a value that asks for nothing' : ''
  const flag = option?.flag === undefined ? '' : `${code(`--${option.flag}`)}: `
  const remark = flag + plain(hint === undefined ? text : `${text}; ${hint}`)
  return [code(name), effects[treatment] + except, commandsText(commands), remark]
}

if (process.argv[1] === fileURLToPath(import.meta.url)) writeFileSync(file, renderWalgCommands())
