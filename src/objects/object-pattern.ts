/**
 * Patterns of keys as WAL-G's `--glob` has them (Go's path.Match): `*` and `?` stand for characters of one name, `[a-z]` and
 * `[^a-z]` for one of a set, a backslash takes the next character as it is. A slash is never matched by any of them.
 */
import { WalrxError } from '../primitives/errors.ts'

/** A pattern that can be searched for. */
export interface ObjectPattern {
  /** What every key that matches begins with. */
  readonly prefix: string
  /** Number of names between slashes: a match has as many. */
  readonly depth: number
  /** True for a name, or a folder without a slash at its end, that matches as a whole. */
  readonly matches: (name: string) => boolean
}

/** Reads a pattern. Throws WALRX_USAGE for a set without its end, and for a backslash at the end. */
export function parsePattern(text: string): ObjectPattern {
  let [source, prefix, isFixed] = ['', '', true]
  for (let at = 0; at < text.length; at++) {
    const char = text.charAt(at)
    const set = char === '[' ? /^\[\^?(?:\\.|[^\]\\])+\]/.exec(text.slice(at))?.[0] : undefined
    if ((char === '[' && set === undefined) || (char === '\\' && at === text.length - 1)) {
      throw new WalrxError('WALRX_USAGE', `"${text}" is not a pattern`, {
        hint: 'write a set as [a-z], and a backslash before a character that stands for itself',
      })
    }
    if (set !== undefined) {
      source += `(?!/)${set.replaceAll('[', (found, index) => (index === 0 ? found : '\\['))}`
      at += set.length - 1
    } else if (char === '*') source += '[^/]*'
    else if (char === '?') source += '[^/]'
    else {
      const plain = char === '\\' ? text.charAt(++at) : char
      source += plain.replace(/[\\^$.*+?()[\]{}|/]/g, '\\$&')
      if (isFixed) prefix += plain
      continue
    }
    isFixed = false
  }
  const pattern = new RegExp(`^${source}$`, 'su')
  return { prefix, depth: text.split('/').length, matches: (name) => pattern.test(name) }
}
