/**
 * Names of unfinished files beside the objects of a file storage. A name is hidden from readers by its pattern, so that
 * what a crash leaves behind is never taken for an object (docs/walg-format.md, 1.6).
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

/** The path that stands for the right to create `target`, where the file system has no hard links. Hidden as well. */
export function lockPath(target: string): string {
  return `${target}.tmp.00000000T000000Z-0000000000000000`
}

/** True for a name, a path or a key that readers don't see. */
export function isTempName(name: string): boolean {
  return WALG_PATTERN.test(name) || WALRUS_PATTERN.test(name)
}

/** True for a name that walrx or WAL-G gave, which walrx may therefore remove once nobody can be writing it. */
export function isRemovableTempName(name: string): boolean {
  return WALG_PATTERN.test(name)
}
