/** Names of relations: those of the connection's database, and the ones that all databases share. */
import type { TextRow } from '../connect/sql-connection.ts'
import type { Fork, RelationLocator } from './block-changes.ts'

/** The name of a relation. */
export interface RelationName {
  readonly database: string
  readonly schema: string
  readonly relation: string
  /** relkind: `r` table, `i` index, `t` TOAST table, `m` materialized view, `S` sequence. */
  readonly kind: string
  /** For a TOAST table, its main table. */
  readonly toastOf: { readonly schema: string; readonly relation: string } | undefined
}

/** The key of a locator in a map. */
export function locatorKey({ database, relation, tablespace }: RelationLocator): string {
  return `${tablespace}/${database}/${relation}`
}

/** The query for {@link parseRelationName}: a row for each relation with a file; any role may run it. */
export const relationNamesQuery = `select case when c.reltablespace = 0 then d.dattablespace else c.reltablespace end,
    case when c.relisshared then 0 else d.oid end, pg_relation_filenode(c.oid), d.datname, n.nspname, c.relname, c.relkind,
    toasted_schema.nspname, toasted.relname
  from pg_class c join pg_namespace n on n.oid = c.relnamespace join pg_database d on d.datname = current_database()
    left join pg_class toasted on c.relkind = 't' and toasted.reltoastrelid = c.oid
    left join pg_namespace toasted_schema on toasted_schema.oid = toasted.relnamespace
  where pg_relation_filenode(c.oid) is not null`

/** A row of {@link relationNamesQuery}. */
export function parseRelationName(row: TextRow): [locator: RelationLocator, name: RelationName] {
  const [tablespace, databaseOid, filenode, database, schema, relation, kind, toastedSchema, toasted] = row
  const locator = { tablespace: Number(tablespace), database: Number(databaseOid), relation: Number(filenode) }
  const name = {
    database: database ?? '',
    schema: schema ?? '',
    relation: relation ?? '',
    kind: kind ?? '',
    toastOf: toasted === undefined ? undefined : { schema: toastedSchema ?? '', relation: toasted },
  }
  return [locator, name]
}

/** The query for oid and name of every database; any role may run it. */
export const databaseNamesQuery = 'select oid, datname from pg_database'

/** The query for this server's directory in its tablespaces (TABLESPACE_VERSION_DIRECTORY); any role may run it. */
export const tablespaceFolderQuery = `select 'PG_' || current_setting('server_version_num')::int / 10000 || '_' || catalog_version_no
  from pg_control_system()`

/** Oids of the tablespaces that every cluster has (pg_tablespace.dat). */
const defaultTablespace = 1663
const globalTablespace = 1664

/**
 * The path of a fork's first file (GetRelationPath in src/common/relpath.c).
 * @param folder the server's directory in a tablespace, from {@link tablespaceFolderQuery}
 */
export function relationPath({ database, relation, tablespace }: RelationLocator, fork: Fork, folder: string): string {
  const file = fork === 'main' ? `${relation}` : `${relation}_${fork}`
  if (tablespace === globalTablespace) return `global/${file}`
  if (tablespace === defaultTablespace) return `base/${database}/${file}`
  return `pg_tblspc/${tablespace}/${folder}/${database}/${file}`
}

/** A file that belongs to a relation. */
export interface RelationFile extends RelationLocator {
  readonly fork: Fork
  readonly segment: number
}

/** The relation of a file, from its path in the data directory; undefined for other files. */
export function parseRelationPath(path: string): RelationFile | undefined {
  const match =
    /^(?:(global)|base\/(\d+)|pg_tblspc\/(\d+)\/PG_[^/]+\/(\d+))\/(\d+)(?:_(fsm|vm|init))?(?:\.(\d+))?$/.exec(path)
  if (!match) return undefined
  const [, shared, own, tablespace, other, relation, fork, segment] = match
  return {
    tablespace:
      shared !== undefined ? globalTablespace : tablespace === undefined ? defaultTablespace : Number(tablespace),
    database: Number(shared !== undefined ? 0 : (own ?? other)),
    relation: Number(relation),
    fork: (fork as Fork | undefined) ?? 'main',
    segment: Number(segment ?? 0),
  }
}
