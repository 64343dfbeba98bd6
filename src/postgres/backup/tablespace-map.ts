/**
 * `tablespace_map`, from which a recovery makes the links of pg_tblspc (xlog.c and xlogbackup.c: do_pg_backup_start). It
 * replaces the links that are there, by which it may tie a clone to the original's folders.
 */

/** A tablespace outside of the data directory. */
export interface MappedTablespace {
  readonly oid: number
  /** Absolute. */
  readonly location: string
}

/** The file: a line of oid, space and path for each, in which line feed, carriage return and backslash are escaped. */
export function formatTablespaceMap(tablespaces: readonly MappedTablespace[]): Buffer {
  const lines = tablespaces.map(({ location, oid }) => `${oid} ${location.replace(/[\n\r\\]/g, '\\$&')}\n`)
  return Buffer.from(lines.join(''), 'utf8')
}
