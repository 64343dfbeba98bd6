/** Everything that changes relation files in ways of its own: what a chain of deltas has to follow. */
import assert from 'node:assert/strict'
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import process from 'node:process'
import type { Client } from 'pg'
import { superuser } from '../../harness/postgres/postgres-files.ts'
import type { TestPostgres } from '../../harness/postgres/postgres.ts'
import { until } from '../../harness/time/until.ts'
import { startLoad } from '../../harness/made/wal-load.ts'

/** Of the database that by_file is: the same from one CREATE DATABASE to the next. */
const databaseOid = 70_000

/** Changes to {@link makeRelations}' tables, under pgbench and beside a session that keeps temporary tables open. */
export class DeltaLoad {
  readonly #server: TestPostgres
  readonly #tablespace: string
  readonly #session: Client
  #stopPgbench: () => Promise<unknown>

  private constructor(server: TestPostgres, tablespace: string, session: Client, stopPgbench: () => Promise<unknown>) {
    this.#server = server
    this.#tablespace = tablespace
    this.#session = session
    this.#stopPgbench = stopPgbench
  }

  /**
   * Begins on a server that has the tables.
   * @param tablespace name of one to move relations to
   */
  static async start(server: TestPostgres, tablespace: string): Promise<DeltaLoad> {
    const session = await server.client()
    await session.query('create temporary table mine as select g as id from generate_series(1, 5000) g')
    await session.query('create index on mine (id)')
    return new DeltaLoad(server, tablespace, session, await startPgbench(server))
  }

  /** Changes before the delta of this number, from 1 on. */
  async change(step: number): Promise<void> {
    await this.#session.query(`insert into mine select g from generate_series(1, 1000) g`)
    await change(this.#server, step, this.#tablespace)
  }

  /** Ends pgbench; the session goes on. */
  async quiet(): Promise<void> {
    await this.#stopPgbench()
    this.#stopPgbench = () => Promise.resolve()
  }

  async stop(): Promise<void> {
    await this.quiet()
    await this.#session.end()
  }
}

/** Where it lies. Undefined where `PG_BIN` has none. */
function pgbenchPath(): string | undefined {
  const path = join(process.env['PG_BIN'] ?? '', 'pgbench')
  return process.env['PG_BIN'] !== undefined && existsSync(path) ? path : undefined
}

function spawnPgbench(path: string, server: TestPostgres, options: readonly string[]): ChildProcess {
  const args = ['-h', server.socketDir, '-p', String(server.port), '-U', superuser, 'postgres']
  return spawn(path, [...options, ...args], { stdio: 'ignore' })
}

/** At a rate that leaves the machine to the rest; where there is no pgbench, what is like it. */
async function startPgbench(server: TestPostgres): Promise<() => Promise<unknown>> {
  const path = pgbenchPath()
  if (path === undefined) {
    const load = await startLoad(server, { pauseMs: 5 })
    return () => load.stop()
  }
  const options = ['--no-vacuum', '--client=2', '--rate=300', '--time=86400', '--random-seed=42']
  const running = spawnPgbench(path, server, options)
  const end = once(running, 'close')
  return async () => {
    running.kill('SIGTERM')
    assert.deepEqual(await end, [null, 'SIGTERM'], 'pgbench ended by itself')
    const left = `select 1 from pg_stat_activity where application_name = 'pgbench'`
    await until('the end of pgbench', async () => (await server.sql(left)).length === 0)
  }
}

/** Tables, and those of pgbench, before the first backup. @param tablespace name of one to move relations to */
export async function makeRelations(server: TestPostgres, tablespace: string): Promise<void> {
  const rows = (table: string, count: number, where = '') =>
    `create table ${table} ${where} as
       select g as id, repeat(md5(g::text), 20) as text from generate_series(1, ${count}) g`
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
    await server.sql(rows(table, count))
  }
  for (const statement of [
    'create index on updated (text)',
    'create unlogged table unlogged as select g as id from generate_series(1, 2000) g',
    'create unlogged table always_unlogged (id int generated always as identity primary key, text text)',
    `insert into always_unlogged (text) select repeat(md5(g::text), 200) from generate_series(1, 500) g`,
    `create table elsewhere tablespace ${tablespace} as select * from untouched`,
    'create sequence counter',
    `select setval('counter', 1000)`,
    'create table toasted (id int primary key, text text)',
    'alter table toasted alter text set storage external',
    'insert into toasted select g, repeat(md5(g::text), 300) from generate_series(1, 300) g',
    `create table indexed (id int generated always as identity primary key, words text[], at point, during int4range,
       name text)`,
    'create index indexed_gin on indexed using gin (words)',
    'create index indexed_gist on indexed using gist (at, during)',
    'create index indexed_spgist on indexed using spgist (name)',
    'create index indexed_brin on indexed using brin (id)',
    'create index indexed_hash on indexed using hash (name)',
    insertIndexed(1, 4000),
    'create materialized view summed as select id % 10 as id, count(*) from updated group by 1',
    'create database original',
  ]) {
    await server.sql(statement)
  }
  await server.sql(rows('copied', 1000), superuser, 'original')
  await server.sql('create index on copied (id)', superuser, 'original')
  const pgbench = pgbenchPath()
  if (pgbench !== undefined) {
    assert.deepEqual(await once(spawnPgbench(pgbench, server, ['--initialize', '--quiet']), 'close'), [0, null])
  }
  await server.sql('vacuum')
  await server.sql('checkpoint')
}

function insertIndexed(from: number, to: number): string {
  return `insert into indexed (words, at, during, name)
    select array['w' || g % 7, 'w' || g % 101, 'n' || g], point(g % 97, g % 89), int4range(g, g + g % 50), 'name ' || g % 500
    from generate_series(${from}, ${to}) g`
}

/** Changes what {@link makeRelations} made, another way in each of the steps 1 to 5. */
export async function change(server: TestPostgres, step: number, tablespace: string): Promise<void> {
  for (const statement of [
    `update updated set text = text || '${step}' where id between ${step * 100} and ${step * 100 + 20}`,
    `insert into filled select g, repeat('${step}', 600) from generate_series(1, 500) g`,
    `create table made_in_${step} as select g as id from generate_series(1, 1000) g`,
    `insert into unlogged values (${step})`,
    `insert into always_unlogged (text) select 'in ${step}' from generate_series(1, 100)`,
    `update elsewhere set text = '${step}' where id < 5`,
    `update toasted set text = repeat('${step}', 9000) where id % 50 = ${step}`,
    `delete from indexed where id % 37 = ${step}`,
    insertIndexed(4000 * step, 4000 * step + 300),
    `select nextval('counter') from generate_series(1, ${step * 40})`,
    // The end of the file goes, and comes again.
    `delete from truncated where id > ${3000 - 400 * step}`,
    'vacuum truncated',
    ...(steps(tablespace)[step] ?? []),
  ]) {
    await server.sql(statement)
  }
  await server.sql(`update copied set text = 'in ${step}' where id < 10`, superuser, 'original')
  if (step > 2) await server.sql(`update copied set text = 'too' where id % 100 = ${step}`, superuser, 'by_log')
}

function steps(tablespace: string): Readonly<Record<number, readonly string[]>> {
  const copyByFile = `create database by_file template original strategy file_copy oid ${databaseOid}`
  return {
    1: [
      'drop table dropped',
      'drop table recreated',
      `create table recreated as select g as id from generate_series(1, 100) g`,
      copyByFile,
      `alter table moved set tablespace ${tablespace}`,
      `alter table back_and_forth set tablespace ${tablespace}`,
      `insert into truncated select g, 'again' from generate_series(1, 5000) g`,
    ],
    2: [
      'truncate emptied',
      'vacuum full rewritten',
      'alter table back_and_forth set tablespace pg_default',
      'create database by_log template original strategy wal_log',
      'drop table made_in_1',
      'vacuum indexed',
    ],
    3: [
      `insert into emptied select g, 'x' from generate_series(1, 200) g`,
      'drop database by_file',
      // The files have the names that others had before.
      copyByFile,
      'delete from filled where id > 100',
      'vacuum filled',
      'alter table unlogged set logged',
      'reindex table updated',
      'refresh materialized view summed',
    ],
    4: [
      'cluster updated using updated_text_idx',
      'truncate recreated',
      'alter table moved set tablespace pg_default',
      `alter database by_log set tablespace ${tablespace}`,
      'alter table elsewhere alter id type bigint',
    ],
    5: [
      'create index on rewritten (id)',
      `insert into truncated select g, 'end' from generate_series(1, 9000) g`,
      'alter database by_log set tablespace pg_default',
      'drop database by_file',
      'reindex index concurrently indexed_gist',
    ],
  }
}

/** Questions that an index of each kind can answer, and what it is asked to leave to the table. */
const questions: readonly { readonly index: string; readonly where: string }[] = [
  { index: 'indexed_gin', where: `words @> array['w3', 'w50']` },
  { index: 'indexed_gist', where: `at <@ box '((10, 10), (60, 40))' and during && int4range(100, 12000)` },
  { index: 'indexed_spgist', where: `name ^@ 'name 12'` },
  { index: 'indexed_brin', where: 'id between 1000 and 1500' },
  { index: 'indexed_hash', where: `name = 'name 77'` },
]

/** Indexes that amcheck does not know give the rows that the table has. */
export async function assertIndexesAnswer(server: TestPostgres): Promise<void> {
  const client = await server.client()
  const rowsBy = async (where: string) => {
    const { rows } = await client.query<{ sum: string }>(
      `select count(*) || ' ' || md5(string_agg(id::text, ' ' order by id)) as sum from indexed where ${where}`,
    )
    return rows[0]?.sum ?? ''
  }
  try {
    await client.query('set max_parallel_workers_per_gather = 0')
    for (const { index, where } of questions) {
      await client.query('set enable_seqscan = on; set enable_indexscan = off; set enable_bitmapscan = off')
      await client.query('set enable_indexonlyscan = off')
      const expected = await rowsBy(where)
      assert.match(expected, /^[1-9]/, where)
      // Whatever else could answer goes, for this question only.
      await client.query('begin')
      const others = questions.map((question) => question.index).filter((name) => name !== index)
      await client.query(`drop index ${others.join(', ')}; alter table indexed drop constraint indexed_pkey`)
      await client.query('set enable_seqscan = off; set enable_indexscan = on; set enable_bitmapscan = on')
      const { rows } = await client.query<{ 'QUERY PLAN': string }>(`explain select * from indexed where ${where}`)
      assert.match(rows.map((row) => row['QUERY PLAN']).join('\n'), new RegExp(`\\b${index}\\b`))
      assert.equal(await rowsBy(where), expected, index)
      await client.query('rollback')
    }
  } finally {
    await client.end()
  }
}

/** Makes the server summarize all of its WAL, up to a checkpoint, and waits for it. */
export async function summarize(server: TestPostgres): Promise<void> {
  await server.checkpoint()
  const [row] = await server.sql<{ redo: string }>('select redo_lsn::text as redo from pg_control_checkpoint()')
  await until('the summary', async () => {
    const [state] = await server.sql<{ done: boolean }>(
      `select summarized_lsn >= '${row?.redo}' as done from pg_get_wal_summarizer_state()`,
    )
    return state?.done
  })
}
