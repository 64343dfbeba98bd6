/** Where the programs of a PostgreSQL version are. */
import { existsSync } from 'node:fs'
import { join } from 'node:path'

/** The directories of packages: Debian keeps pg_ctl out of PATH. */
const packageDirectories = ['/usr/lib/postgresql/$/bin', '/usr/pgsql-$/bin', '/usr/lib/postgresql$/bin']

/** The pg_ctl for this major version: in the place where a package of it puts it, else by its name, for PATH. */
export function findPgCtl(major: string): string {
  const paths = packageDirectories.map((directory) => join(directory.replace('$', major), 'pg_ctl'))
  return paths.find((path) => existsSync(path)) ?? 'pg_ctl'
}
