/** What walrx does with each setting of WAL-G and WAL-RUS. */
import { isPassedOn, optionLabel } from '../load.ts'
import type { CommandSet, OptionSpec } from '../options/option-types.ts'
import { optionNamed, spellings } from '../setting-names.ts'
import { type WalgSetting, walgSettings } from '../walg-settings.ts'
import { walgSettingNames } from './walg-setting-names.ts'

/**
 * What becomes of a setting.
 * - `honoured`: it is an option of walrx.
 * - `passed on`: the connection to the server has it, as libpq would.
 * - `refused`, `warned`, `ignored`: see {@link WalgSetting}.
 */
export type WalgTreatment = 'honoured' | 'passed on' | WalgSetting['treatment']

/** One setting of WAL-G or WAL-RUS. */
export interface WalgFate {
  readonly name: string
  /** Heading that it is under. */
  readonly group: string
  readonly treatment: WalgTreatment
  /** The option, where it is honoured. */
  readonly option?: OptionSpec
  /** Why it is not honoured, or what the option means. */
  readonly text: string
  readonly hint?: string
  /** True where values that ask for nothing are accepted. */
  readonly hasHarmlessValues: boolean
  readonly commands: CommandSet
}

/** Every setting, in the order of the groups and by name within. */
export function walgFates(): WalgFate[] {
  return Object.entries(walgSettingNames).flatMap(([group, names]) => names.map((name) => fateOf(name, group)))
}

function fateOf(name: string, group: string): WalgFate {
  const base = { name, group, hasHarmlessValues: false }
  const option = optionNamed(name)
  if (option) {
    const label = optionLabel(option)
    const alias = label === name ? '' : `as ${label}: `
    return { ...base, treatment: 'honoured', option, text: `${alias}${option.help}`, commands: option.commands }
  }
  const row = walgSettingNamed(name)
  if (row) {
    const { commands = ['all'], harmless, hint, reason, treatment } = row
    const hasHarmlessValues = harmless !== undefined
    return { ...base, treatment, text: reason, ...(hint !== undefined && { hint }), hasHarmlessValues, commands }
  }
  if (!isPassedOn(name)) throw new Error(`nothing is known of ${name}`)
  const text = 'the connection has it, as libpq would'
  return { ...base, treatment: 'passed on', text, commands: ['all that talk to a server'] }
}

/** The row of a setting that walrx has no option for, under any of its names. */
export function walgSettingNamed(name: string): WalgSetting | undefined {
  return walgSettings.find(({ names }) => names.flatMap(spellings).includes(name))
}
