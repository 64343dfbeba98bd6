/** Values that stand elsewhere: `${NAME}` in the environment, and `NAME-file` in a file. */
import type { Mistakes, Place } from './mistakes.ts'
import type { SecretFiles } from './secret-files.ts'

/** The text of a key, with what it refers to in its place. */
export interface Setting {
  readonly text: string
  readonly place: Place
  /** What of it came from the environment or a file: it is a secret, whatever the setting is called. */
  readonly hidden: readonly string[]
}

/** What references are resolved by. */
export interface ReferenceSource {
  readonly environment: Readonly<Record<string, string | undefined>>
  readonly mistakes: Mistakes
  /** Gets every value that came from the environment or a file: no mistake may show one. */
  readonly found: Set<string>
  readonly files: SecretFiles
}

/** `$${` stands for `${`. */
const form = /\$\$\{|\$\{([^}]*)\}/g

/** Puts variables of the process's environment in the place of `${NAME}`. No text has a zero byte: no variable can. */
export function expanded(text: string, place: Place, { environment, found, mistakes }: ReferenceSource): Setting {
  const hidden: string[] = []
  const result = text.replace(form, (match, name: string | undefined) => {
    if (match === '$${') return '${'
    if (name === undefined || !/^[A-Za-z_]\w*$/.test(name)) {
      mistakes.add(place, '${…} has to hold the name of an environment variable; write $${ for the characters ${')
      return ''
    }
    const value = environment[name]
    if (value === undefined || value === '') {
      mistakes.add(place, `the environment variable ${name} is not set, or empty`)
      return ''
    }
    // Node has put it in the place of each byte that is not UTF-8.
    if (value.includes('\ufffd')) mistakes.add(place, `the environment variable ${name} holds bytes that are not UTF-8`)
    found.add(value)
    hidden.push(value)
    return value
  })
  if (result.includes('\0')) mistakes.add(place, 'the value holds a zero byte')
  return { text: result.replaceAll('\0', ''), place, hidden }
}

/** The content of a file, without the line break at its end; undefined where it cannot be read, or is not read yet. */
export function fromFile(path: Setting, { files, found, mistakes }: ReferenceSource): Setting | undefined {
  const value = files.value(path.text)
  if (value?.problem !== undefined) mistakes.add(path.place, value.problem)
  if (value?.text === undefined) return undefined
  found.add(value.text)
  return { text: value.text, place: path.place, hidden: [value.text] }
}
