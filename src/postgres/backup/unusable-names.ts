/**
 * File names that no backup can hold: those that are not UTF-8. WAL-G's documents are JSON, in which they would become
 * other names. The server sends such a file somewhere in the middle of a backup, so they are looked for before.
 */
import { isUtf8 } from 'node:buffer'
import { WalrxError } from '../../primitives/errors.ts'
import type { SqlConnection } from '../connect/sql-connection.ts'

/** The error for such a name. @param path relative to the data directory, as bytes */
export function unusableName(path: Buffer): WalrxError {
  const what = 'the data directory has a file with a name that is not UTF-8'
  return new WalrxError('WALRX_BACKUP_INCOMPLETE', `${what}: ${escaped(path)}`, {
    hint: `rename it, or move it out of the data directory, then take the backup again: WAL-G's format cannot hold the name`,
  })
}

/** As bash writes it, so that it can be pasted: `$'conf.d/\xe9.conf'`. */
function escaped(path: Buffer): string {
  const bytes = [...path].map((byte) => {
    const isPlain = byte > 0x20 && byte < 0x7f && byte !== 0x27 && byte !== 0x5c
    return isPlain ? String.fromCharCode(byte) : `\\x${byte.toString(16).padStart(2, '0')}`
  })
  return `$'${bytes.join('')}'`
}

/** Folders in which only the server makes files, and many: theirs are refused when they come. */
const unread = ['base', 'global', 'pg_tblspc', 'pg_wal']

/** Paths as hex, whatever the encoding of the database is: none of these functions looks at the bytes. */
const namesQuery = `with recursive entry(path, is_directory) as (
    select top.name, file.isdir
    from pg_ls_dir('.', true, false) as top(name), lateral pg_stat_file(top.name, true) as file
    where top.name not in (${unread.map((name) => `'${name}'`).join(', ')})
  union all
    select entry.path || '/' || below.name, file.isdir
    from entry, lateral pg_ls_dir(entry.path, true, false) as below(name),
      lateral pg_stat_file(entry.path || '/' || below.name, true) as file
    where entry.is_directory
  )
  select encode(decode(replace(path, chr(92), chr(92) || chr(92)), 'escape'), 'hex') from entry`

/**
 * Looks for them.
 * @throws WALRX_BACKUP_INCOMPLETE for the first; what the server says where the role may not list files
 */
export async function refuseUnusableNames(sql: Pick<SqlConnection, 'stream'>, signal: AbortSignal): Promise<void> {
  for await (const [hex = ''] of sql.stream(namesQuery, signal)) {
    const path = Buffer.from(hex, 'hex')
    if (!isUtf8(path)) throw unusableName(path)
  }
}
