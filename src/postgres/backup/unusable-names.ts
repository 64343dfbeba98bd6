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

/** Folders that hold the server's own files, and many: only their names are read, not what each is. */
const many = ['base', 'global', 'pg_tblspc', 'pg_wal']

/**
 * The most entries that are looked at elsewhere, those nearest to the top first. The server's functions follow links: one
 * may lead to a whole disk, and two that lead back to the data directory never end.
 */
const entriesMax = 20_000

/** Names that are not plain ASCII, as hex, whatever the encoding of the database is: no function looks at the characters. */
const unusualPaths = `select encode(bytes, 'hex') from paths,
  lateral decode(replace(path, chr(92), chr(92) || chr(92)), 'escape') as name(bytes)
  where strpos(encode(bytes, 'escape'), chr(92)) > 0`

const ownQuery = `with recursive entry(path, is_directory) as (
    select top.name, file.isdir
    from pg_ls_dir('.', true, false) as top(name), lateral pg_stat_file(top.name, true) as file
    where top.name not in (${many.map((name) => `'${name}'`).join(', ')})
  union all
    select entry.path || '/' || below.name, file.isdir
    from entry, lateral pg_ls_dir(entry.path, true, false) as below(name),
      lateral pg_stat_file(entry.path || '/' || below.name, true) as file
    where entry.is_directory
  ), paths as (select path from entry limit ${entriesMax})
  ${unusualPaths}`

const relationsQuery = `with tablespace(path) as (
    select 'base' union all
    select 'pg_tblspc/' || link.name || '/' || version.name
    from pg_ls_dir('pg_tblspc', true, false) as link(name),
      lateral pg_ls_dir('pg_tblspc/' || link.name, true, false) as version(name)
    where version.name ~ '^PG_[0-9_]+$'
  ), database(path) as (
    select 'global' union all
    select tablespace.path || '/' || below.name
    from tablespace, lateral pg_ls_dir(tablespace.path, true, false) as below(name),
      lateral pg_stat_file(tablespace.path || '/' || below.name, true) as file
    where file.isdir
  ), paths as (
    select database.path || '/' || file.name as path
    from database, lateral pg_ls_dir(database.path, true, false) as file(name)
  )
  ${unusualPaths}`

/**
 * Looks for them.
 * @returns paths relative to the data directory, also of files that links lead to: the server does not send those
 * @throws what the server says where the role may not list files
 */
export async function findUnusableNames(
  sql: Pick<SqlConnection, 'stream'>,
  signal: AbortSignal,
): Promise<readonly Buffer[]> {
  const found: Buffer[] = []
  for (const query of [relationsQuery, ownQuery]) {
    for await (const [hex = ''] of sql.stream(query, signal)) {
      const path = Buffer.from(hex, 'hex')
      if (!isUtf8(path)) found.push(path)
    }
  }
  return found
}

/**
 * Refuses the first that the server would send.
 * @param leftOut paths that it has said it leaves out
 * @throws WALRX_BACKUP_INCOMPLETE
 */
export function refuseUnusableNames(paths: readonly Buffer[], leftOut: readonly string[]): void {
  const skipped = leftOut.map((path) => Buffer.from(path))
  const isSkipped = (path: Buffer) =>
    skipped.some((link) => path.subarray(0, link.length).equals(link) && [undefined, 0x2f].includes(path[link.length]))
  const [first] = paths.filter((path) => !isSkipped(path))
  if (first) throw unusableName(first)
}
