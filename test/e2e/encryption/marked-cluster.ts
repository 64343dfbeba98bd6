/** A cluster that is full of words that nobody may read in its archive, and the life that it has with walrx. */
import assert from 'node:assert/strict'
import { parseLsn } from '../../../src/postgres/lsn.ts'
import { generateWal } from '../../harness/made/wal-load.ts'
import { untilReplayed } from '../../harness/postgres/postgres-copies.ts'
import type { TestPostgres } from '../../harness/postgres/postgres.ts'
import { until } from '../../harness/time/until.ts'
import type { WalrxProcess } from '../../harness/walrx/walrx-process.ts'

/** Words that occur nowhere else. */
export const marks = {
  table: 'marked_table_q7zj',
  index: 'marked_index_q7zj',
  role: 'marked_role_q7zj',
  application: 'marked_application_q7zj',
  password: 'marked_password_q7zj',
  label: 'marked_label_q7zj',
  restorePoint: 'marked_point_q7zj',
  row: 'marked_row_q7zj',
} as const

/** Those that no encrypted object holds either: PostgreSQL does not send them. */
export const neverStored: readonly string[] = [marks.application, marks.password]

/** What is in parts, labels, histories, manifests and walrx.json, whatever the cluster. */
export const formats = {
  tar: 'ustar',
  configuration: '# PostgreSQL User Name Maps',
  label: 'START WAL LOCATION: ',
  history: '\tno recovery target specified',
  manifest: 'PostgreSQL-Backup-Manifest-Version',
  catalog: 'pg_largeobject_metadata_oid_index',
} as const

/** Every word. */
export const words: readonly string[] = [...Object.values(marks), ...Object.values(formats)]

/** The conninfo of the marked role. */
export function markedConninfo(...servers: readonly TestPostgres[]): string {
  const hosts = `host=${servers.map(() => '127.0.0.1').join()} port=${servers.map(({ port }) => port).join()}`
  const { application, password, role } = marks
  return `${hosts} user=${role} dbname=postgres password=${password} application_name=${application}`
}

export async function createMarked(server: TestPostgres): Promise<void> {
  const { index, role, table } = marks
  await server.sql(`create role ${role} superuser login replication`)
  await server.sql(`create table ${table} (id int, text text)`)
  await server.sql(`create index ${index} on ${table} (text)`)
}

/** Adds marked rows, and waits until the archive has them, maybe only in a chunk. Returns the number of rows. */
export async function insertMarked(server: TestPostgres, receiver: WalrxProcess): Promise<number> {
  const { restorePoint, row, table } = marks
  await server.sql(`insert into ${table} select i, '${row} ' || i from generate_series(1, 200) i`)
  await server.sql(`select pg_create_restore_point('${restorePoint}')`)
  const [at] = await server.sql<{ lsn: string; count: number }>(
    `select pg_current_wal_flush_lsn()::text as lsn, (select count(*)::int from ${table}) as count`,
  )
  const end = parseLsn(at?.lsn ?? '')
  await receiver.logged(({ msg, upTo }) => msg === 'stored' && parseLsn(String(upTo)) >= end)
  return at?.count ?? -1
}

/** Makes the server remove WAL that no receiver has got: there must be no slot. */
export async function loseWal(server: TestPostgres, standby: TestPostgres): Promise<void> {
  const [before] = await server.sql<{ file: string }>('select pg_walfile_name(pg_current_wal_insert_lsn()) as file')
  await generateWal(server, { segments: 8 })
  await untilReplayed(standby, server)
  await until('the removal of WAL', async () => {
    // WAL that is not summarised yet is kept.
    await server.sql('checkpoint')
    const query = `select exists (select from pg_ls_waldir() where name <= '${before?.file}') as there`
    return (await server.sql<{ there: boolean }>(query))[0]?.there === false
  })
}

/** Rows that a restored server has. */
export async function markedRows(server: TestPostgres): Promise<number> {
  const query = `select count(*)::int as count from ${marks.table} where text like '${marks.row}%'`
  const [found] = await server.sql<{ count: number }>(query)
  assert.ok(found)
  return found.count
}
