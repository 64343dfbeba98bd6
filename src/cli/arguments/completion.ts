/**
 * Completion in bash, zsh and fish. A script in the shell asks `walrx --get-yargs-completions SHELL WORD…` at each tab, by
 * the name that yargs has for that. The answers do not come from yargs, which takes a tenth of a second to load, offers
 * options where a file belongs, and takes the shell from SHELL instead of from the one who asks.
 */
import type { OptionSpec } from '../../config/options/option-types.ts'
import type { Positional } from '../command.ts'
import type { Registry } from '../command-loaders.ts'
import { type FlagSpec, flagsOf } from './arguments.ts'
import { commandFirst } from './command-first.ts'

interface Answer {
  readonly word: string
  readonly means: string
}

/**
 * The lines that answer a script; none where a file belongs, and where nothing is known.
 * @param words the shell, and what is typed after `walrx` up to the cursor: the last one may be empty
 */
export async function completionLines(registry: Registry, words: readonly string[]): Promise<string[]> {
  const [shell, ...typed] = words
  const current = typed.at(-1) ?? ''
  const before = typed.slice(0, -1)
  const answers = await answersTo(registry, before, current)
  return answers.map(({ means, word }) => {
    if (shell === 'zsh') return `${word.replaceAll(':', '\\:')}:${means}`
    return shell === 'fish' ? `${word}\t${means}` : word
  })
}

async function answersTo(registry: Registry, before: readonly string[], current: string): Promise<Answer[]> {
  const isCommand = (word: string) => Object.hasOwn(registry, word)
  const [name = '', ...args] = commandFirst(before, isCommand)
  const entry = Object.entries(registry).find(([each]) => each === name)?.[1]
  const startsRight = ({ word }: Answer) => word.startsWith(current)
  if (!entry) return name === '' || name.startsWith('-') ? rootAnswers(registry, current).filter(startsRight) : []
  const loaded = await entry.load()
  const describes = loaded.findDescribed?.(args)
  const command = describes === undefined ? loaded : { ...loaded, describes }
  const flags = flagsOf(command)
  const valued = valuedFlag(flags, args, current)
  if (valued) return valuesOf(valued.flag.spec, valued.prefix).filter(({ word }) => word.startsWith(valued.piece))
  if (current.startsWith('-')) return flagAnswers(flags, args).filter(startsRight)
  const at = positionalsIn(flags, args)
  const positional = [...command.positionals, ...(command.optionals ?? [])][at] ?? command.rest
  if (positional) return choicesOf(positional, registry).filter(startsRight)
  return current === '' ? flagAnswers(flags, args) : []
}

function rootAnswers(registry: Registry, current: string): Answer[] {
  if (current.startsWith('-')) {
    return [
      { word: '--help', means: 'show the commands' },
      { word: '--version', means: 'show the version' },
    ]
  }
  return Object.entries(registry).map(([word, { summary }]) => ({ word, means: summary }))
}

/** The flag that the cursor's word is a value of: after a blank, or after `=`, which bash makes a word of its own. */
function valuedFlag(
  flags: readonly FlagSpec[],
  args: readonly string[],
  current: string,
): { flag: FlagSpec; prefix: string; piece: string } | undefined {
  const find = (word: string | undefined) =>
    flags.find(({ flag, spec }) => spec.type.kind !== 'boolean' && (word === `--${flag}` || word === `-${spec.alias}`))
  const [, typed = '', piece = ''] = /^(--[^=]+)=(.*)$/s.exec(current) ?? []
  const joined = find(typed)
  if (joined) return { flag: joined, prefix: `${typed}=`, piece: `${typed}=${piece}` }
  const [last, beforeLast] = [args.at(-1), args.at(-2)]
  const split = last === '=' ? find(beforeLast) : current === '=' ? find(last) : undefined
  if (split) return { flag: split, prefix: '', piece: current === '=' ? '' : current }
  const spaced = find(last)
  return spaced && { flag: spaced, prefix: '', piece: current }
}

function valuesOf({ help, type }: OptionSpec, prefix: string): Answer[] {
  return type.kind === 'choice' ? type.values.map((value) => ({ word: prefix + value, means: help })) : []
}

/** Those that are not there yet. A switch that is on is offered as what turns it off. */
function flagAnswers(flags: readonly FlagSpec[], args: readonly string[]): Answer[] {
  const isThere = (flag: string) => args.some((word) => word === `--${flag}` || word.startsWith(`--${flag}=`))
  const offered = flags.filter(({ flag, spec }) => spec.isRepeatable || !(isThere(flag) || isThere(`no-${flag}`)))
  return [
    ...offered.map(({ flag, spec }) => {
      const isOn = spec.type.kind === 'boolean' && spec.default === 'true'
      return { word: isOn ? `--no-${flag}` : `--${flag}`, means: spec.help }
    }),
    { word: '--help', means: 'show the options' },
  ]
}

/** How many arguments by position are there already: no flags, and no values of flags. */
function positionalsIn(flags: readonly FlagSpec[], args: readonly string[]): number {
  let count = 0
  for (const [index, word] of args.entries()) {
    const isValue = word !== '=' && valuedFlag(flags, args.slice(0, index), word) !== undefined
    if (!word.startsWith('-') && word !== '=' && !isValue) count++
  }
  return count
}

/** What stands for a name without asking the archive. */
function choicesOf({ choices, help, name }: Positional, registry: Registry): Answer[] {
  if (choices === 'commands') return rootAnswers(registry, '')
  if (choices) return choices.map((word) => ({ word, means: help }))
  return name === 'name' && help.includes('LATEST') ? [{ word: 'LATEST', means: help }] : []
}
