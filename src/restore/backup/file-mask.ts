/** `--mask`: selects files of a backup by a shell pattern, with WAL-G's rules (filepath.Match of Go). */
import picomatch from 'picomatch'
import { WalrxError } from '../../primitives/errors.ts'

/**
 * A test for paths relative to the data directory, without a leading slash. `*` and `?` do not match a slash, `[...]`
 * is a class; braces, `**` and extended patterns have no meaning.
 * @throws WALRX_USAGE for a pattern that cannot be read, or is too long
 */
export function fileMask(pattern: string): (path: string) => boolean {
  const options = { dot: true, nobrace: true, noextglob: true, noglobstar: true, nonegate: true, strictSlashes: true }
  try {
    return picomatch(pattern.replace(/^\/+/, ''), options)
  } catch (error) {
    throw new WalrxError('WALRX_USAGE', `--mask cannot be used: ${(error as Error).message}`, {
      hint: "write a path relative to the data directory, for instance 'base/5/*'",
      cause: error,
    })
  }
}
