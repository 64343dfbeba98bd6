/** Options that are typed before the command, as WAL-G and pgBackRest allow it. */
import { foreignCommand } from './foreign-words.ts'

/**
 * What was typed with the command as its first word, where one follows options: `--config FILE wal-show`. A value that
 * is called as a command is taken for one. Unchanged where nothing is a command, and where help or the version is
 * asked for.
 * @param isCommand true for the commands of walrx
 */
export function commandFirst(typed: readonly string[], isCommand: (word: string) => boolean): readonly string[] {
  const [first = '', second] = typed
  const isName = (word: string) => isCommand(word) || foreignCommand(word) !== undefined
  if (!first.startsWith('-') || /^(--help|--version|-V)$/.test(first)) return typed
  if (first === '-h' && (second === undefined || isName(second))) return typed
  const at = [isCommand, isName].map((each) => typed.findIndex(each)).find((index) => index > 0)
  const name = at === undefined ? undefined : typed[at]
  return at === undefined || name === undefined ? typed : [name, ...typed.slice(0, at), ...typed.slice(at + 1)]
}
