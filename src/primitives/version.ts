/** The version of this package. */
import { readFileSync } from 'node:fs'

/** The version in package.json, `0.1.0`. Reads the file at every call. */
export function packageVersion(): string {
  const text = readFileSync(new URL('../../package.json', import.meta.url), 'utf8')
  return (JSON.parse(text) as { version: string }).version
}
