/** Every option of every command, in every form, through both parsers. */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { type FlagSpec, flagsOf } from '../../../src/cli/arguments/arguments.ts'
import { commands } from '../../../src/cli/command-loaders.ts'
import type { Command } from '../../../src/cli/command.ts'
import { type OptionType, valueSeparator } from '../../../src/config/options/option-types.ts'
import { formatBytes, formatDurationMs, parseOptionText } from '../../../src/config/options/option-values.ts'
import { both, type Outcome } from './both-parsers.ts'

/** Words that a flag may be given by, and what must come of them: its value, or the beginning of the refusal. */
type Form = readonly [words: readonly string[], expected: { readonly value: string } | { readonly refusal: string }]

for (const [name, entry] of Object.entries(commands)) {
  describe(name, async () => {
    const command = await entry.load()
    for (const [at, each] of flagsOf(command).entries()) {
      test(`--${each.flag}`, () => {
        const forms = each.spec.type.kind === 'boolean' ? switchForms(each, command) : valueForms(each, command)
        for (const [index, form] of forms.entries()) tryForm(command, each, form, at + index)
        if (each.spec.type.kind !== 'boolean') tryWithoutValue(command, each)
      })
    }
  })
}

/**
 * Before the arguments, after them, and with arguments that would be flags if they did not follow `--`: one of these,
 * by `turn`, so that all options together try each form in all of them.
 */
function tryForm(command: Command, { flag, key }: FlagSpec, [words, expected]: Form, turn: number): void {
  const names = command.positionals.map(({ name }) => name)
  const flagLike = names.map(() => `--${flag}`)
  const lines = [
    { args: [...words, '--', ...flagLike], given: flagLike },
    { args: [...words, ...names], given: names },
    { args: [...names, ...words], given: names },
  ]
  const { args = [], given = [] } = lines[turn % lines.length] ?? {}
  const outcome = both(command, args)
  if ('refusal' in expected) assertRefused(outcome, expected.refusal, args)
  else {
    const positionals = Object.fromEntries(names.map((each, index) => [each, given[index]]))
    assert.deepEqual(outcome, { flags: { [key]: expected.value }, positionals }, JSON.stringify(args))
  }
}

/** At the end of the line, before `--`, and before another flag. */
function tryWithoutValue(command: Command, { flag, spec }: FlagSpec): void {
  const names = command.positionals.map(({ name }) => name)
  for (const word of [`--${flag}`, ...(spec.alias === undefined ? [] : [`-${spec.alias}`])]) {
    for (const args of [
      [...names, word],
      [word, '--', ...names],
      [word, word, 'x', ...names],
    ]) {
      const refusal =
        args.includes('x') && !spec.isRepeatable ? `--${flag} is given 2 times` : `--${flag} needs a value`
      assertRefused(both(command, args), refusal, args)
    }
  }
}

function assertRefused(outcome: Outcome, refusal: string, args: readonly string[]): void {
  assert.ok(Array.isArray(outcome), JSON.stringify([args, outcome]))
  assert.ok(String(outcome[0]).startsWith(refusal), JSON.stringify([args, outcome, refusal]))
}

function valueForms({ flag, spec }: FlagSpec, command: Command): Form[] {
  const value = goodValue(spec.type)
  assert.ok('value' in parseOptionText(spec.type, value), `${value} is not good for --${flag}`)
  const taken = { value }
  const missing = { refusal: `--${flag} needs a value` }
  const twice = spec.isRepeatable
    ? { value: `${value}${valueSeparator}${value}` }
    : { refusal: `--${flag} is given 2 times` }
  const forms: Form[] = [
    [[`--${flag}`, value], taken],
    [[`--${flag}=${value}`], taken],
    [[`--${flag}=-1`], { value: '-1' }],
    [[`--${flag}="a=b"`], { value: '"a=b"' }],
    [[`--${flag}`, 'true'], { value: 'true' }],
    [[`--${flag}=`], missing],
    [[`--${flag}`, ''], missing],
    [[`--${flag}`, value, `--${flag}=${value}`], twice],
    ...unknownForms(command, flag, value, spec.alias),
    [[`--no-${flag}`], { refusal: `${command.name} has no option --no-${flag}` }],
    [[`--${flag}`, '-1'], isNumber(spec) ? { value: '-1' } : { refusal: `${command.name} has no option -1` }],
    [[`--${flag}`, '--foo'], { refusal: `${command.name} has no option --foo` }],
  ]
  if (spec.alias === undefined) return forms
  const letter = `-${spec.alias}`
  return [
    ...forms,
    [[letter, value], taken],
    [[`${letter}${value}`], taken],
    [[`${letter}-1`], { value: '-1' }],
    [[`${letter}=`], { value: '=' }],
    [[letter, ''], missing],
    [[letter, value, `--${flag}=${value}`], twice],
    [[letter, '-x'], { refusal: `${command.name} has no option -x` }],
  ]
}

/** A negative number is refused with the name of the option, and is no flag. */
function isNumber({ type }: FlagSpec['spec']): boolean {
  return ['integer', 'number', 'bytes', 'duration'].includes(type.kind)
}

function switchForms({ flag, spec }: FlagSpec, command: Command): Form[] {
  const [on, off] = [{ value: 'true' }, { value: 'false' }]
  const forms: Form[] = [
    [[`--${flag}`], on],
    [[`--${flag}=true`], on],
    [[`--${flag}`, 'true'], on],
    [[`--${flag}`, `--${flag}`], on],
    [[`--no-${flag}`, `--${flag}`], on],
    [[`--no-${flag}`], off],
    [[`--${flag}=false`], off],
    [[`--${flag}`, 'false'], off],
    [[`--${flag}`, `--no-${flag}`], off],
    // Loading the settings judges it.
    [[`--${flag}=maybe`], { value: 'maybe' }],
    [[`--${flag}=`], { refusal: `--${flag} needs a value` }],
    ...unknownForms(command, flag, 'true', spec.alias),
    [[`--no-${flag}=true`], { refusal: `${command.name} has no option --no-${flag}` }],
    [[`--no-no-${flag}`], { refusal: `${command.name} has no option --no-no-${flag}` }],
  ]
  if (spec.alias === undefined) return forms
  const letter = `-${spec.alias}`
  return [
    ...forms,
    [[letter], on],
    [[letter, 'true'], on],
    [[`${letter}${spec.alias}`], on],
    [[letter, 'false'], off],
    [[`${letter}x`], { refusal: `${command.name} has no option -x` }],
    [[`-x${spec.alias}`], { refusal: `${command.name} has no option -x` }],
    [[`${letter}=true`], { refusal: `${command.name} has no option -=` }],
  ]
}

/** Flags that are nearly the one that there is. */
function unknownForms(command: Command, flag: string, value: string, letter: string | undefined): Form[] {
  const nearly = [
    `--${flag}x`,
    `--${flag}.x`,
    `--${flag.toUpperCase()}`,
    ...(letter === undefined ? [] : [`--${letter}`]),
  ]
  return nearly.flatMap((each): Form[] => {
    const refused = { refusal: `${command.name} has no option ${each}` }
    return [
      [[`${each}=${value}`], refused],
      [[each, value], refused],
    ]
  })
}

/** A value that the type allows. */
function goodValue(type: OptionType): string {
  switch (type.kind) {
    case 'string':
    case 'secret':
      return 'a.b c'
    case 'integer':
    case 'number':
      return String(type.min)
    case 'bytes':
      return formatBytes(type.min)
    case 'duration':
      return formatDurationMs(type.minMs)
    case 'boolean':
      return 'true'
    case 'choice':
      return type.values[0] ?? ''
    case 'lsn':
      return '16/B374D848'
    default:
      return type satisfies never
  }
}
