/**
 * Names of unfinished files among the objects of a file storage. Readers ignore names of this pattern, so they never
 * take a file that a crash has left for an object (docs/walg-format.md, 1.6).
 */
import { randomBytes } from 'node:crypto'

/** `<name>.tmp.<YYYYMMDDTHHMMSSZ>-<16 hex>` is WAL-G's pattern (3.0.9 and later), `<name>.tmp.<pid>` WAL-RUS's. */
const WALG_PATTERN = /\.tmp\.\d{8}T\d{6}Z-[0-9a-fA-F]{16}$/
const WALRUS_PATTERN = /\.tmp\.\d+$/

/** The path to write to before it is renamed to `target`: WAL-G's pattern, which new WAL-G hides as well. */
export function tempPath(target: string, nowMs: number): string {
  const stamp = new Date(nowMs).toISOString().replace(/[-:]|\.\d+/g, '')
  return `${target}.tmp.${stamp}-${randomBytes(8).toString('hex')}`
}

/** The lock file for the creation of `target`, where the file system has no hard links. Hidden as well. */
export function lockPath(target: string): string {
  return `${target}.tmp.00000000T000000Z-0000000000000000`
}

/** True for a name, a path or a key that readers ignore. */
export function isTempName(name: string): boolean {
  return WALG_PATTERN.test(name) || WALRUS_PATTERN.test(name)
}

/** True for a name of walrx's or WAL-G's pattern: walrx may remove such a file once no process can be writing it. */
export function isRemovableTempName(name: string): boolean {
  return WALG_PATTERN.test(name)
}
