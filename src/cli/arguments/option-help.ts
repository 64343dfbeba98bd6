/** How options are described: in `--help`, and in docs/reference.md. */
import type { OptionSpec } from '../../config/options/option-types.ts'

/** A flag with what its value is called, without the dashes: `max-rate RATE`; a switch is its name alone. */
export function flagWithValue({ flag = '', valueName }: Pick<OptionSpec, 'flag' | 'valueName'>): string {
  return valueName === undefined ? flag : `${flag} ${valueName}`
}

/** One line for `--help`: what it means, its values, its variable and its default. */
export function optionHelp(spec: OptionSpec): string {
  const choices = spec.type.kind === 'choice' ? spec.type.values.join(' | ') : undefined
  const facts = [choices, spec.env[0], defaultText(spec)].filter((fact) => fact !== undefined)
  return `${spec.help}${facts.length > 0 ? ` [${facts.join('; ')}]` : ''}`
}

/** `default 16`, or what happens without a value; undefined where there is nothing to say. */
export function defaultText(spec: OptionSpec): string | undefined {
  const text = spec.default ?? spec.defaultText
  return text === undefined || spec.type.kind === 'boolean' ? undefined : `default ${text}`
}
