/** Values that stand elsewhere: `${NAME}` in the environment, and `NAME-file` in a file. */
import { readFileSync, statSync } from 'node:fs'
import { isAbsolute } from 'node:path'
import type { Mistakes, Place } from './mistakes.ts'

/** The text of a key, with what it refers to in its place. */
export interface Setting {
  readonly text: string
  readonly place: Place
}

/** What references are resolved by. */
export interface ReferenceSource {
  readonly environment: Readonly<Record<string, string | undefined>>
  readonly mistakes: Mistakes
  /** Gets every value that came from the environment or a file: no mistake may show one. */
  readonly found: Set<string>
}

/** Larger files are no secrets. */
const fileBytesMax = 64 * 1024

/** `$${` stands for `${`. */
const form = /\$\$\{|\$\{([^}]*)\}/g

/** Puts variables of the process's environment in the place of `${NAME}`. */
export function expanded(text: string, place: Place, { environment, found, mistakes }: ReferenceSource): Setting {
  const result = text.replace(form, (match, name: string | undefined) => {
    if (match === '$${') return '${'
    if (name === undefined || !/^[A-Za-z_]\w*$/.test(name)) {
      mistakes.add(place, '${…} has to hold the name of an environment variable; write $${ for the characters ${')
      return ''
    }
    const value = environment[name]
    if (value !== undefined && value !== '') {
      found.add(value)
      return value
    }
    mistakes.add(place, `the environment variable ${name} is not set, or empty`)
    return ''
  })
  return { text: result, place }
}

/** The content of a file, without the line break at its end; undefined where it cannot be read. */
export function fromFile(path: Setting, { found, mistakes }: ReferenceSource): Setting | undefined {
  const fail = (text: string) => void mistakes.add(path.place, text)
  if (!isAbsolute(path.text)) return fail('the path of the file has to be absolute') as undefined
  try {
    const stats = statSync(path.text)
    if (!stats.isFile()) return fail('the path does not lead to a regular file') as undefined
    if (stats.size > fileBytesMax) return fail(`the file is larger than ${fileBytesMax} bytes`) as undefined
    const text = readFileSync(path.text, 'utf8').replace(/\r?\n$/, '')
    if (text === '') return fail('the file is empty') as undefined
    found.add(text)
    return { text, place: path.place }
  } catch (error) {
    const { code = 'it is not readable' } = error as NodeJS.ErrnoException
    const why = { ENOENT: 'it does not exist', EACCES: 'this user may not read it' }[code] ?? code
    return fail(`the file cannot be read: ${why}`) as undefined
  }
}
