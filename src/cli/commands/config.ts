/** `walrx config [COMMAND]`: which settings are in force, and where each comes from. */
import { commandRow, commandTable } from '../../config/commands.ts'
import {
  type InspectedSettings,
  inspectSettings,
  type OtherSetting,
  type SettingInForce,
} from '../../config/inspect/settings-in-force.ts'
import { type WalgFate, walgFates } from '../../config/inspect/walg-fates.ts'
import type { CommandName } from '../../config/options/option-types.ts'
import type { OptionKey } from '../../config/options/options.ts'
import { redactText } from '../../observe/redact.ts'
import { WalrxError } from '../../primitives/errors.ts'
import { formatJson, type JsonValue } from '../../primitives/json/json.ts'
import { nearest } from '../../primitives/nearest.ts'
import type { Command } from '../command.ts'
import { startProblem } from '../settings/start-problem.ts'
import { alignColumns } from '../terminal/align-columns.ts'

/** See the file's header. */
export const configCommand: Command<'config', never, 'command'> = {
  name: 'config',
  positionals: [],
  optionals: [
    {
      name: 'command',
      help: 'whose settings; its flags may follow. Without it: those of all commands',
      choices: 'commands',
    },
  ],
  examples: [
    { call: 'walrx config', means: 'what is set, where, and what has no effect' },
    {
      call: 'walrx config wal-receive --all --slotname db1',
      means: 'all that this call would run with; exit status 2 if it would not start',
    },
    { call: 'walrx config --walg | grep RETENTION', means: 'what walrx does with a setting of WAL-G' },
  ],
  findDescribed: (args) =>
    args.find((word) => commandRow(word) !== undefined && word !== 'config') as CommandName | undefined,
  async run({ flags, home, options, positionals, settings, stdout }) {
    if (options.walgSettings) {
      stdout.write(options.json ? `${formatJson(walgFates().map(fateToJson))}\n` : fatesToText(walgFates()))
      return 0
    }
    const command = commandNamed(positionals.command)
    const input = { command, flags: othersFlags(flags), environment: settings.environment, home }
    const inspected = await inspectSettings(input)
    const problem = badSetting(inspected, command) ?? (await startProblem(input))
    const shown = { inspected, command, problem: problem && redactText(problem.message, settings.secrets) }
    stdout.write(options.json ? `${formatJson(toJson(shown))}\n` : toText(inspected, options.allSettings))
    // What could be shown has been: the exit status says that the command would not start.
    if (problem) throw problem
    return 0
  },
}

function commandNamed(word: string | undefined): CommandName | undefined {
  if (word === undefined) return undefined
  if (commandRow(word)) return word as CommandName
  const suggestion = nearest(word, Object.keys(commandTable))
  throw new WalrxError('WALRX_USAGE', `there is no command ${word}`, {
    hint: suggestion === undefined ? 'see walrx --help' : `did you mean ${suggestion}?`,
  })
}

/** The flags of this command itself are no settings of the other. */
const own: ReadonlySet<OptionKey> = new Set(['json', 'allSettings', 'walgSettings'])

function othersFlags(flags: ReadonlyMap<OptionKey, string>): Map<OptionKey, string> {
  return new Map([...flags].filter(([key]) => !own.has(key)))
}

/** The error of the first value that is wrong by itself, or of a setting that stops the command. */
function badSetting({ options, others }: InspectedSettings, command: CommandName | undefined): WalrxError | undefined {
  for (const { label, problem, setBy } of options) {
    if (problem !== undefined) return new WalrxError('WALRX_USAGE', `${setBy ?? label}: ${problem}`)
  }
  const refused = others.find(({ treatment }) => treatment === 'refused')
  if (!refused) return undefined
  const whom = command === undefined ? 'stops commands' : `stops ${command}`
  return new WalrxError(
    'WALRX_OPTION_UNSUPPORTED',
    `${refused.name} is set (${refused.source}) and ${whom}: ${refused.reason}`,
    refused.hint === undefined ? {} : { hint: refused.hint },
  )
}

function toText({ configFile, options, others }: InspectedSettings, all: boolean): string {
  const shown = options.filter(({ source }) => all || source !== 'default')
  const parts = [
    `config file: ${configFile ?? 'none'}\n`,
    shown.length === 0
      ? 'no option is set: --all shows the defaults\n'
      : alignColumns([['option', 'value', 'from'], ...shown.map(optionCells)], columnGap),
  ]
  const rows = others.map(({ hint, name, reason, source, treatment }) => {
    return [name, source, treatment, hint === undefined ? reason : `${reason}; ${hint}`]
  })
  if (rows.length > 0) parts.push(alignColumns([['other setting', 'from', 'effect', 'reason'], ...rows], columnGap))
  return parts.join('\n')
}

const columnGap = '  '

function optionCells({ defaultText, isSecret, label, problem, setBy, source, value }: SettingInForce): string[] {
  const unset = isSecret && source !== 'default' ? '[hidden]' : (defaultText ?? '-')
  const from = setBy === undefined || setBy === label ? source : `${source}, as ${setBy}`
  return [label, value ?? unset, problem === undefined ? from : `${from}: WRONG, it ${problem}`]
}

/** What the JSON has. */
interface Shown {
  readonly inspected: InspectedSettings
  readonly command: CommandName | undefined
  /** What keeps the command from starting. */
  readonly problem: string | undefined
}

function toJson({ command, inspected, problem: startProblem }: Shown): JsonValue {
  const { configFile, options, others } = inspected
  return {
    command: command ?? null,
    config_file: configFile ?? null,
    problem: startProblem ?? null,
    options: options.map(({ defaultText, flag, isSecret, label, problem, setBy, source, value }) => ({
      name: label,
      flag: flag ?? null,
      value: value ?? null,
      without_value: defaultText ?? null,
      is_secret: isSecret,
      source,
      set_by: setBy ?? null,
      problem: problem ?? null,
    })),
    other_settings: others.map(otherToJson),
  }
}

function otherToJson({ hint, name, reason, source, treatment }: OtherSetting): JsonValue {
  return { name, source, effect: treatment, reason, hint: hint ?? null }
}

function fateToJson({ group, hasHarmlessValues, hint, name, option, text, treatment }: WalgFate): JsonValue {
  return {
    name,
    group,
    effect: treatment,
    flag: option?.flag === undefined ? null : `--${option.flag}`,
    reason: text,
    hint: hint ?? null,
    has_accepted_values: hasHarmlessValues,
  }
}

function fatesToText(fates: readonly WalgFate[]): string {
  const rows = fates.map(({ hasHarmlessValues, hint, name, option, text, treatment }) => {
    const flag = option?.flag === undefined ? '' : `--${option.flag}: `
    const parts = [text, hint, hasHarmlessValues ? 'a value that asks for nothing is accepted' : undefined]
    return [name, treatment, flag + parts.filter((part) => part !== undefined).join('; ')]
  })
  return alignColumns([['setting', 'effect', 'what it is, or why'], ...rows], columnGap)
}
