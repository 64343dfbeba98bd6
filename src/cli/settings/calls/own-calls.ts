/**
 * Calls of walrx in what is printed, completed: a call that a hint names with its arguments has to work when it is
 * pasted, and needs the archive and the server that this run was given by flags. The environment is there anyway.
 */
import { commandTable } from '../../../config/commands.ts'
import { optionsOf, type Settings } from '../../../config/load.ts'
import type { CommandName, OptionGroup } from '../../../config/options/option-types.ts'
import { redactText } from '../../../observe/redact.ts'
import { shellWord } from '../../../primitives/shell-word.ts'
import { flagArguments } from './own-program.ts'

/** Groups of the options that name the archive and the server, and how objects are written and read. */
const carried: ReadonlySet<OptionGroup> = new Set<OptionGroup>([
  ...(['Storage', 'S3', 'PostgreSQL', 'Compression', 'Encryption'] as const),
])

/** A command with arguments: options, verbs of st, and names of backups, segments, timelines, history files and objects. */
const call =
  /(see )?\bwalrx ([a-z]+(?:-[a-z]+)*)((?: (?:--?[a-z][\w-]*|(?<=\bst )(?:ls|stat|get|cat|rm)\b|base_\w+|[0-9A-F]{24}|[0-9A-F]{8}\.history|\d+|(?:wal|basebackups|walrx)_005\/(?:[\w./-]*[\w/])?))+)/g

/**
 * `text` with the flags of this run after each call with arguments. Commands without arguments are words of a sentence,
 * and stay; so does what follows "see". A flag whose value holds a secret is named without it.
 */
export function completeCalls(text: string, settings: Settings): string {
  return text.replace(call, (found, see: string | undefined, name: string, _words: string, at: number) => {
    // What is written in capitals is for the reader to fill in: flags would stand before it.
    const isForm = /^ [A-Z[]/.test(text.slice(at + found.length))
    if (see !== undefined || isForm || !Object.hasOwn(commandTable, name)) return found
    return [found, ...flagsFor(name as CommandName, settings)].join(' ')
  })
}

function flagsFor(command: CommandName, settings: Settings): string[] {
  const isCarried = (flag: string) =>
    optionsOf(command).some(([key, spec]) => {
      if (flag !== spec.flag) return false
      return key === 'configPath' ? settings.source(key) === 'flag' : carried.has(spec.group)
    })
  const words = flagArguments(settings, command).filter((word) => isCarried(/^--([^=]+)/.exec(word)?.[1] ?? ''))
  return words.map((word) => {
    const [name = ''] = word.split('=', 1)
    return redactText(word, settings.secrets) === word ? shellWord(word) : `${name}=…`
  })
}
