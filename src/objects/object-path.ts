/**
 * Paths as an operator types them. Slashes at the beginning, doubled slashes and `.` mean nothing, as in a shell: no key of
 * an archive has them. A slash at the end says that a folder is meant.
 */
import { WalrxError } from '../primitives/errors.ts'
import { keyProblem } from '../storage/keys.ts'

/** A path that was typed. */
export interface ObjectPath {
  /** Without a slash at either end; empty for the root. */
  readonly key: string
  /** True where only a folder can be meant. */
  readonly isFolder: boolean
}

/** Reads a path. Throws WALRX_USAGE for what leads out of the storage, and for what no key can be. */
export function parseObjectPath(text: string): ObjectPath {
  const components = text.split('/')
  const key = components.filter((each) => each !== '' && each !== '.').join('/')
  const problem = key === '' ? undefined : pathProblem(key)
  if (problem !== undefined)
    throw new WalrxError('WALRX_USAGE', `"${text}" cannot be a path in the storage: ${problem}`, {
      hint: 'paths begin at the prefix of the archive, as walrx st ls -r prints them',
    })
  const last = components.at(-1)
  return { key, isFolder: last === '' || last === '.' }
}

function pathProblem(key: string): string | undefined {
  if (key.split('/').includes('..')) return 'it has a .., and a storage has nothing above its prefix'
  // What a shell passes that is not UTF-8 arrives with this character, and would be stored under another name.
  if (key.includes('\ufffd')) return 'it is not UTF-8'
  return keyProblem(key)
}

/** The key of a path that must be that of an object. Throws WALRX_USAGE. */
export function objectKeyOf(text: string): string {
  const { isFolder, key } = parseObjectPath(text)
  if (!isFolder && key !== '') return key
  const what = key === '' ? 'names no object' : 'is the path of a folder, and not of an object'
  throw new WalrxError('WALRX_USAGE', `"${text}" ${what}`, {
    hint: 'write the whole path of an object, as walrx st ls -r prints it',
  })
}
