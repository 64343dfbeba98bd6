/** Files that hold values, read before the configuration that names them is put together. */
import { isUtf8 } from 'node:buffer'
import { readFile, stat } from 'node:fs/promises'
import { isAbsolute } from 'node:path'
import { answered, NoAnswerError, noAnswerText } from './answered.ts'

/** The value in a file without the line break at its end, or why there is none. */
export type FileValue =
  { readonly text: string; readonly problem?: undefined } | { readonly text?: undefined; readonly problem: string }

/** Reads one file. Never throws. */
export type ReadFileValue = (path: string) => Promise<FileValue>

/** Larger files are no secrets. */
const fileBytesMax = 64 * 1024

/** The value in a file; see {@link FileValue}. */
export const readFileValue: ReadFileValue = async (path) => {
  if (!isAbsolute(path)) return { problem: 'the path of the file has to be absolute' }
  if (path.includes('\0')) return { problem: 'the path of the file has a zero byte' }
  try {
    return await answered(() => read(path))
  } catch (error) {
    if (error instanceof NoAnswerError) return { problem: `the file cannot be read: its file system ${noAnswerText}` }
    const { code = 'it is not readable' } = error as NodeJS.ErrnoException
    const why = { ENOENT: 'it does not exist', EACCES: 'this user may not read it' }[code] ?? code
    return { problem: `the file cannot be read: ${why}` }
  }
}

async function read(path: string): Promise<FileValue> {
  const stats = await stat(path)
  if (!stats.isFile()) return { problem: 'the path does not lead to a regular file' }
  if (stats.size > fileBytesMax) return { problem: `the file is larger than ${fileBytesMax} bytes` }
  const bytes = await readFile(path)
  if (!isUtf8(bytes)) return { problem: 'the file holds bytes that are not UTF-8' }
  const text = bytes.toString('utf8').replace(/\r?\n$/, '')
  if (text === '') return { problem: 'the file is empty' }
  return text.includes('\0') ? { problem: 'the file holds a zero byte' } : { text }
}

/** The files of one configuration: which they are is known when it is read, and then they are read one after the other. */
export class SecretFiles {
  readonly #values = new Map<string, FileValue | undefined>()

  /** The value; undefined for a file that is not read yet, and will be by {@link read}. */
  value(path: string): FileValue | undefined {
    if (!this.#values.has(path)) this.#values.set(path, undefined)
    return this.#values.get(path)
  }

  /** Reads all that were asked for. */
  async read(readOne: ReadFileValue = readFileValue): Promise<void> {
    for (const path of this.#values.keys()) this.#values.set(path, await readOne(path))
  }
}
