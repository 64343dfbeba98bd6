/** Directories that every cluster has (subdirs in src/bin/initdb/initdb.c). Most of them are empty in a backup. */
const ofAll = [
  ...['', 'base', 'global', 'pg_commit_ts', 'pg_dynshmem', 'pg_logical', 'pg_logical/mappings', 'pg_logical/snapshots'],
  ...['pg_multixact', 'pg_multixact/members', 'pg_multixact/offsets', 'pg_notify', 'pg_replslot', 'pg_serial'],
  ...['pg_snapshots', 'pg_stat', 'pg_stat_tmp', 'pg_subtrans', 'pg_tblspc', 'pg_twophase'],
  ...['pg_wal', 'pg_wal/archive_status', 'pg_xact'],
]

/** The first major version with WAL summaries. */
const majorWithSummaries = 17

/** Their paths, '' for the data directory itself, parents before what is in them. @param major 0 where it is not known */
export function serverDirectories(major: number): readonly string[] {
  return major >= majorWithSummaries ? [...ofAll, 'pg_wal/summaries'] : ofAll
}
