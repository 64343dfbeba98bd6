/**
 * The rules for keys, and their order. Both storages refuse the same keys, so that an archive can move from one to the
 * other.
 */
import { WalrxError } from '../primitives/errors.ts'

/** Longest key, in bytes of UTF-8: the limit of S3. */
const KEY_BYTES_MAX = 1024

/**
 * Accepts a key that both storages can hold: well-formed text of 1 to 1,024 bytes of UTF-8, its components between `/`
 * neither empty nor `.` nor `..`, without a NUL.
 * @throws WALRX_INTERNAL otherwise: walrx makes its keys itself, from names that it has parsed
 */
export function checkKey(key: string): void {
  const wrong = keyProblem(key)
  if (wrong !== undefined)
    throw new WalrxError('WALRX_INTERNAL', `${JSON.stringify(key)} is not an object key: ${wrong}`)
}

/**
 * Accepts a prefix of keys: a key of {@link checkKey}, or the beginning of one, or an empty text.
 * @throws WALRX_INTERNAL otherwise
 */
export function checkPrefix(prefix: string): void {
  if (prefix === '') return
  // With one more character, a prefix fails exactly where no key could begin with it; `a/.` may become `a/.b`.
  const wrong = keyProblem(`${prefix}x`)
  if (wrong !== undefined) {
    throw new WalrxError('WALRX_INTERNAL', `${JSON.stringify(prefix)} is not a prefix of keys: ${wrong}`)
  }
}

/** Why a text cannot be a key, for what an operator types; undefined for one that can. */
export function keyProblem(key: string): string | undefined {
  if (key === '') return 'it is empty'
  if (key.includes('\0')) return 'it contains a NUL'
  if (!key.isWellFormed()) return 'it is not well-formed Unicode'
  if (key.split('/').some((component) => component === '' || component === '.' || component === '..'))
    return 'a component is empty, . or ..'
  if (Buffer.byteLength(key) > KEY_BYTES_MAX) return `it is longer than ${KEY_BYTES_MAX} bytes`
  return undefined
}

/** Order of two keys by the bytes of their UTF-8, as S3 lists them: below, above or equal 0. */
export function compareKeys(a: string, b: string): number {
  const length = Math.min(a.length, b.length)
  for (let index = 0; index < length; index++) {
    const left = a.charCodeAt(index)
    const right = b.charCodeAt(index)
    if (left !== right) return rank(left) - rank(right)
  }
  return a.length - b.length
}

/** Sorts keys in place by {@link compareKeys}. Without surrogates that is the order of UTF-16, which is much faster. */
export function sortKeys(keys: string[]): string[] {
  return keys.some((key) => /[\ud800-\udfff]/.test(key)) ? keys.sort(compareKeys) : keys.sort()
}

/** UTF-16 puts surrogates below U+E000…U+FFFF; UTF-8 puts what they encode above. The rest is in the same order. */
function rank(unit: number): number {
  return unit >= 0xd800 && unit <= 0xdfff ? unit + 0x10000 : unit
}
