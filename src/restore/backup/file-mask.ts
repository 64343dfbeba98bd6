/** `--mask`: selects files of a backup by a shell pattern, with WAL-G's rules (filepath.Match of Go). */
import picomatch from 'picomatch'

/**
 * A test for paths relative to the data directory, without a leading slash. `*` and `?` do not match a slash, `[...]`
 * is a class; braces, `**` and extended patterns have no meaning.
 */
export function fileMask(pattern: string): (path: string) => boolean {
  const options = { dot: true, nobrace: true, noextglob: true, noglobstar: true, nonegate: true, strictSlashes: true }
  return picomatch(pattern.replace(/^\/+/, ''), options)
}
