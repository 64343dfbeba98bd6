/** PostgreSQL's own client programs, which the embedded packages lack. */
import { execFile } from 'node:child_process'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'
import type { PgMajor } from './postgres.ts'

/**
 * The path of a program of that very major version: from the directory that `PG_BIN_17` (and so on), `PG19_BIN` or `PG_BIN` names, or
 * where Debian has it. Undefined where there is none.
 */
export async function clientTool(name: string, major: PgMajor): Promise<string | undefined> {
  const { [`PG_BIN_${major}`]: own = process.env[`PG${major}_BIN`], PG_BIN: common } = process.env
  for (const directory of [own, common, `/usr/lib/postgresql/${major}/bin`]) {
    const path = join(directory ?? '', name)
    if (directory === undefined || !existsSync(path)) continue
    const { stdout } = await promisify(execFile)(path, ['--version'])
    if (new RegExp(`\\) ${major}\\D`).test(stdout)) return path
  }
  return undefined
}
