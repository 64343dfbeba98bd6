/** A made archive as a directory, for programs. */
import { mkdirSync, readdirSync, statSync, utimesSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import type { MemoryStorage } from '../harness/store/memory-storage.ts'

/** Writes all objects, with their times. */
export function writeDirectory({ objects }: MemoryStorage, root: string): void {
  for (const [key, { bytes, lastModifiedMs }] of objects) {
    const path = join(root, key)
    mkdirSync(dirname(path), { recursive: true })
    writeFileSync(path, bytes)
    utimesSync(path, lastModifiedMs / 1000, lastModifiedMs / 1000)
  }
}

/** Keys of all objects, in order. */
export function keysIn(root: string): string[] {
  const names = readdirSync(root, { recursive: true, encoding: 'utf8' })
  return names.filter((name) => statSync(join(root, name)).isFile()).sort()
}
