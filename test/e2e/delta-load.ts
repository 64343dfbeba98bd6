/** Everything that changes relation files in ways of its own: what a chain of deltas has to follow. */
import type { TestPostgres } from '../harness/postgres.ts'

/** Tables, before the first backup. @param tablespace name of one to move relations to */
export async function makeRelations(server: TestPostgres, tablespace: string): Promise<void> {
  const rows = (table: string, count: number) =>
    server.sql(
      `create table ${table} as select g as id, repeat(md5(g::text), 20) as text from generate_series(1, ${count}) g`,
    )
  for (const [table, count] of [
    ['untouched', 2000],
    ['updated', 5000],
    ['truncated', 3000],
    ['emptied', 3000],
    ['dropped', 2000],
    ['recreated', 2000],
    ['rewritten', 3000],
    ['moved', 3000],
    ['back_and_forth', 2000],
    ['filled', 3000],
  ] as const) {
    await rows(table, count)
  }
  await server.sql('create index on updated (text)')
  await server.sql('alter table updated set (autovacuum_enabled = off)')
  await server.sql('create unlogged table unlogged as select g as id from generate_series(1, 2000) g')
  await server.sql(`create table elsewhere tablespace ${tablespace} as select * from untouched`)
  await server.sql('vacuum')
  await server.sql('checkpoint')
}

/** Changes before the delta of this number, from 1 on. */
export async function change(server: TestPostgres, step: number, tablespace: string): Promise<void> {
  await server.sql(`update updated set text = text || '${step}' where id between ${step * 100} and ${step * 100 + 20}`)
  await server.sql(`insert into filled select g, repeat('${step}', 600) from generate_series(1, 500) g`)
  await server.sql(`create table made_in_${step} as select g as id from generate_series(1, 1000) g`)
  await server.sql(`insert into unlogged values (${step})`)
  await server.sql(`update elsewhere set text = '${step}' where id < 5`)
  // The end of the file goes, and comes again.
  await server.sql(`delete from truncated where id > ${3000 - 400 * step}`)
  await server.sql('vacuum truncated')
  for (const statement of steps(tablespace)[step] ?? []) await server.sql(statement)
}

function steps(tablespace: string): Readonly<Record<number, readonly string[]>> {
  return {
    1: [
      'drop table dropped',
      'drop table recreated',
      `create table recreated as select g as id from generate_series(1, 100) g`,
      'create database by_file strategy file_copy',
      `alter table moved set tablespace ${tablespace}`,
      `alter table back_and_forth set tablespace ${tablespace}`,
      `insert into truncated select g, 'again' from generate_series(1, 5000) g`,
    ],
    2: [
      'truncate emptied',
      'vacuum full rewritten',
      'alter table back_and_forth set tablespace pg_default',
      'create database by_log strategy wal_log',
      'drop table made_in_1',
    ],
    3: [
      `insert into emptied select g, 'x' from generate_series(1, 200) g`,
      'drop database by_file',
      'delete from filled where id > 100',
      'vacuum filled',
      'alter table unlogged set logged',
      'reindex table updated',
    ],
    4: ['cluster updated using updated_text_idx', 'truncate recreated', 'alter table moved set tablespace pg_default'],
    5: ['create index on rewritten (id)', `insert into truncated select g, 'end' from generate_series(1, 9000) g`],
  }
}

/** What every table of the database holds, by name; in an order of its own. */
export async function contentsOf(server: TestPostgres): Promise<Record<string, string>> {
  const tables = await server.sql<{ name: string }>(
    `select relname as name from pg_class where relkind = 'r' and relnamespace = 'public'::regnamespace
       and relpersistence = 'p' order by 1`,
  )
  const sums: Record<string, string> = {}
  for (const { name } of tables) {
    const [row] = await server.sql<{ sum: string }>(
      `select count(*) || ' ' || coalesce(md5(string_agg(md5(t::text), '' order by t::text)), '') as sum from ${name} t`,
    )
    sums[name] = row?.sum ?? ''
  }
  return sums
}
