/**
 * What the files of a restored data directory name outside of it. A server whose postgresql.conf sets data_directory runs
 * in that directory, whatever `-D` says: after a restore beside the original it would be the original.
 */
import { access } from 'node:fs/promises'
import { isAbsolute, relative } from 'node:path'
import type { Configuration } from './configuration.ts'

/** A path outside of the restored directory, or an included one that is not there. */
export interface PathElsewhere {
  /** Setting, or `include` and the like. */
  readonly name: string
  readonly path: string
  /** The file that names it. */
  readonly file: string
  readonly exists: boolean
}

/** Settings that decide where a server runs, and whether it starts. */
const pathSettings = ['data_directory', 'hba_file', 'ident_file']

/** Finds them. `data_directory` counts wherever it leads, but for the restored directory itself. */
export async function pathsElsewhere(
  dataDirectory: string,
  { missing, settings }: Configuration,
): Promise<readonly PathElsewhere[]> {
  const paths: PathElsewhere[] = missing.map(({ file, name, value }) => ({ name, path: value, file, exists: false }))
  for (const name of pathSettings) {
    const setting = settings.findLast((each) => each.name === name)
    if (!setting) continue
    const path = Buffer.from(setting.value, 'latin1').toString()
    const inside = relative(dataDirectory, path)
    const isOwn = name === 'data_directory' ? inside === '' : !/^\.\.(\/|$)/.test(inside)
    if (path === '' || !isAbsolute(path) || isOwn) continue
    const exists = await access(path).then(
      () => true,
      () => false,
    )
    paths.push({ name, path, file: setting.file, exists })
  }
  return paths
}
