/**
 * Rewrites every form in which a flag may be typed into one, so that the two parsers cannot read them differently. It
 * takes the next word as the value only if that is not a flag: in `--config --log-level debug` a value is missing. A negative
 * number is a value for an option that takes a number.
 */
import type { Command } from '../command.ts'
import { flagsOf, type FlagSpec } from './arguments.ts'

/**
 * Every flag of the command as `--flag=value`: one-letter flags, also several switches in one word, values in the next
 * word, `--no-switch`. A value that is missing is empty; `-h` is `--help`,
 * but for a `-h HOST`, which is left as `-h`. Of one-letter flags that the command doesn't
 * have the first is left, as `-x`. All other words, and all from `--` on, stay as they are.
 */
export function spellOut(command: Command, args: readonly string[]): string[] {
  const flags = flagsOf(command)
  const end = args.includes('--') ? args.indexOf('--') : args.length
  const words: string[] = []
  for (let index = 0; index < end; index++) {
    const { spelt, tookNext } = spellWord(args[index] ?? '', args[index + 1], command, flags)
    words.push(...spelt)
    if (tookNext) index++
  }
  return [...words, ...args.slice(end)]
}

/** A word in the one form, and whether the next one is part of it. */
interface Spelling {
  readonly spelt: readonly string[]
  readonly tookNext?: boolean
}

function spellWord(word: string, next: string | undefined, command: Command, flags: readonly FlagSpec[]): Spelling {
  const whole = goFlag(word, next, command, flags)
  if (whole) return whole
  if (/^-[^-]/.test(word)) return spellLetters(word.slice(1), next, flags)
  const flag = flags.find((each) => word === `--${each.flag}`)
  if (flag) return withNext(flag, next)
  const negated = flags.find((each) => isSwitch(each) && word === `--no-${each.flag}`)
  return { spelt: [negated ? `--${negated.flag}=false` : word] }
}

/** WAL-G's client of its daemon has flags of Go: `-timeout 60s`. The call of that client has to work here. */
function goFlag(
  word: string,
  next: string | undefined,
  { name }: Command,
  flags: readonly FlagSpec[],
): Spelling | undefined {
  const [, flag = '', value] = /^-([a-z][a-z-]+)(=.*)?$/.exec(word) ?? []
  const found = name === 'daemon-client' ? flags.find((each) => each.flag === flag) : undefined
  if (!found) return undefined
  return value === undefined ? withNext(found, next) : { spelt: [`--${flag}${value}`] }
}

/** `pf` of `-pf`, `Smine` of `-Smine`. What follows a letter that is no flag is dropped. */
function spellLetters(letters: string, next: string | undefined, flags: readonly FlagSpec[]): Spelling {
  const [letter = ''] = letters
  const rest = letters.slice(letter.length)
  const flag = flags.find(({ spec }) => spec.alias === letter)
  if (!flag && letter === 'h' && isHost(rest, next, flags)) return { spelt: ['-h'], tookNext: rest === '' }
  if (!flag && letter !== 'h') return { spelt: [`-${letter}`] }
  if (flag && rest === '') return withNext(flag, next)
  if (flag && (!isSwitch(flag) || rest.startsWith('-'))) return { spelt: [`--${flag.flag}=${rest}`] }
  const spelt = flag ? `--${flag.flag}=true` : '--help'
  if (rest === '') return { spelt: [spelt] }
  const others = spellLetters(rest, next, flags)
  return { ...others, spelt: [spelt, ...others.spelt] }
}

/** In psql and its kin `-h` has a host as its value. For a command without a server it is `--help`, whatever follows. */
function isHost(rest: string, next: string | undefined, flags: readonly FlagSpec[]): boolean {
  if (!flags.some(({ flag }) => flag === 'pghost')) return false
  return rest === '' ? next !== undefined && !next.startsWith('-') : /^[\w/][\w./-]+$/.test(rest)
}

function withNext(flag: FlagSpec, next: string | undefined): Spelling {
  if (isSwitch(flag)) {
    const isValue = next === 'true' || next === 'false'
    return { spelt: [`--${flag.flag}=${isValue ? next : 'true'}`], tookNext: isValue }
  }
  const isValue = next !== undefined && (!next.startsWith('-') || isNegative(flag, next))
  return { spelt: [`--${flag.flag}=${isValue ? next : ''}`], tookNext: isValue }
}

/** No flag begins with a digit: `--keep-days -1` is a value that is too small, which is to be said of that option. */
function isNegative({ spec }: FlagSpec, next: string): boolean {
  return ['integer', 'number', 'bytes', 'duration'].includes(spec.type.kind) && /^-\.?\d/.test(next)
}

function isSwitch({ spec }: FlagSpec): boolean {
  return spec.type.kind === 'boolean'
}
