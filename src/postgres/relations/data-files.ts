/**
 * Lists the files of a data directory that a base backup contains, with their sizes, by SQL (pg_ls_dir and
 * pg_stat_file: for superusers, and roles with EXECUTE on both). The rules for the files that the server leaves out are
 * those of sendDir in src/backend/backup/basebackup.c.
 */
import { WalrxError } from '../../primitives/errors.ts'
import type { TextRow } from '../connect/sql-connection.ts'

/** A file, or a directory. */
export interface DataFile {
  /** Relative to the data directory, without a leading slash. */
  readonly path: string
  readonly kind: 'file' | 'directory'
  /** Bytes; 0 for a directory. */
  readonly size: number
}

/** The functions on which a role needs EXECUTE for {@link dataFilesQuery}. */
export const dataFilesFunctions = 'pg_ls_dir(text, boolean, boolean), pg_stat_file(text, boolean)'

/** Directories that are sent empty, at any place. */
const emptyDirectories = [
  'pg_stat_tmp',
  'pg_replslot',
  'pg_dynshmem',
  'pg_notify',
  'pg_serial',
  'pg_snapshots',
  'pg_subtrans',
]

/** Files that are left out, at any place. */
const leftOut = [
  'postgresql.auto.conf.tmp',
  'current_logfiles.tmp',
  'backup_label',
  'tablespace_map',
  'backup_manifest',
  'postmaster.pid',
  'postmaster.opts',
  '.DS_Store',
]

/** Beginnings of names that are left out: temporary files, and the relation caches. */
const leftOutPrefixes = ['pgsql_tmp', 'pg_internal.init']

/**
 * The query for {@link parseDataFile}. It has no backslashes: a role may have standard_conforming_strings off.
 * @param serverVersion server_version_num: only this version's directory in a tablespace is sent
 */
export function dataFilesQuery(serverVersion: number): string {
  const list = (names: readonly string[]) => names.map((name) => `'${name}'`).join(', ')
  const kept = (name: string) => {
    const prefixes = leftOutPrefixes.map((prefix) => `and not starts_with(${name}, '${prefix}')`)
    return `${name} not in (${list(leftOut)}) ${prefixes.join(' ')}`
  }
  const version = Math.floor(serverVersion / 10_000)
  return `with recursive entry(path, name, size, is_directory) as (
    select top.name, top.name, file.size, file.isdir
    from pg_ls_dir('.', true, false) as top(name), lateral pg_stat_file(top.name, true) as file
    where ${kept('top.name')} and file.isdir is not null
  union all
    select entry.path || '/' || below.name, below.name, file.size, file.isdir
    from entry, lateral pg_ls_dir(entry.path, true, false) as below(name),
      lateral pg_stat_file(entry.path || '/' || below.name, true) as file
    where entry.is_directory and entry.path <> 'pg_wal' and entry.name not in (${list(emptyDirectories)})
      and ${kept('below.name')} and file.isdir is not null
      -- In a tablespace only the folder of this version; one that lies in the data directory comes by its link.
      and case when entry.path ~ '^pg_tblspc/[0-9]+$' then below.name ~ '^PG_${version}_' and file.isdir
        else not (file.isdir and below.name ~ '^PG_[0-9]+_[0-9]+$') end
  )
  select entry.path, entry.is_directory, entry.size
  from entry left join entry as init
    on init.path = substring(entry.path from '^((?:base|pg_tblspc)/.*/[0-9]+)(?:_fsm|_vm)?(?:[.][0-9]+)?$') || '_init'
  where init.path is null and entry.path <> 'global/pg_control'
    and not (entry.path ~ '^(?:base|pg_tblspc)/' and entry.name ~ '^t[0-9]+_[0-9]+')`
}

/** A row of {@link dataFilesQuery}. */
export function parseDataFile([path, isDirectory, size]: TextRow): DataFile {
  if (path === undefined) throw new WalrxError('WALRX_PROTOCOL', 'the server listed a file without a name')
  return { path, kind: isDirectory === 't' ? 'directory' : 'file', size: isDirectory === 't' ? 0 : Number(size) }
}
