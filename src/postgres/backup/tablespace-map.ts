/**
 * `tablespace_map`: from it a recovery creates the links in pg_tblspc (xlog.c and xlogbackup.c: do_pg_backup_start). It
 * replaces existing links, and so may link a restored cluster to the original's directories.
 */

/** A tablespace outside the data directory. */
export interface MappedTablespace {
  readonly oid: number
  /** Absolute. */
  readonly location: string
}

/** The file: a line of oid, space and path for each, with line feed, carriage return and backslash escaped. */
export function formatTablespaceMap(tablespaces: readonly MappedTablespace[]): Buffer {
  const lines = tablespaces.map(({ location, oid }) => `${oid} ${location.replace(/[\n\r\\]/g, '\\$&')}\n`)
  return Buffer.from(lines.join(''), 'utf8')
}
