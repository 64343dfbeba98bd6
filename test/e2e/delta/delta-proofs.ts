/** What must hold of restored chains: the same files, the same contents, sound relations. */
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { open, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { clientTool } from '../../harness/postgres/client-tools.ts'
import { superuser } from '../../harness/postgres/postgres-files.ts'
import type { TestPostgres } from '../../harness/postgres/postgres.ts'
import { currentLsn } from '../../harness/made/wal-load.ts'

const run = promisify(execFile)

/** Regular files below a directory, links followed, with their sizes by path. */
export async function filesBelow(directory: string): Promise<Map<string, number>> {
  const options = { maxBuffer: 1 << 26 }
  const { stdout } = await run('find', ['-L', directory, '-type', 'f', '-printf', '%s %P\n'], options)
  const files = stdout.split('\n').filter(Boolean).sort()
  return new Map(files.map((line) => [line.slice(line.indexOf(' ') + 1), Number.parseInt(line)]))
}

/** Bytes that are compared at once. */
const chunkBytes = 1024 * 1024

/** The first bytes that differ, or undefined. */
async function firstDifference(left: string, right: string): Promise<number | undefined> {
  await using a = await open(left)
  await using b = await open(right)
  const [ours, theirs] = [Buffer.alloc(chunkBytes), Buffer.alloc(chunkBytes)]
  for (let at = 0; ; at += chunkBytes) {
    const [{ bytesRead: own }, { bytesRead: other }] = await Promise.all([
      a.read(ours, 0, chunkBytes, at),
      b.read(theirs, 0, chunkBytes, at),
    ])
    const [mine, yours] = [ours.subarray(0, own), theirs.subarray(0, other)]
    if (!mine.equals(yours)) return at + mine.findIndex((byte, index) => byte !== yours[index])
    if (own < chunkBytes) return undefined
  }
}

/**
 * Both data directories hold the same files, byte for byte.
 * @param except files that may be missing or have any content
 * @returns how many files were compared
 */
export async function assertSameFiles(left: string, right: string, except: RegExp): Promise<number> {
  const [ours, theirs] = await Promise.all([filesBelow(left), filesBelow(right)])
  const pathsOf = (files: ReadonlyMap<string, number>) => [...files.keys()].filter((path) => !except.test(path)).sort()
  assert.deepEqual(pathsOf(ours), pathsOf(theirs))
  const differing: string[] = []
  for (const path of pathsOf(ours)) {
    const [own, other] = [ours.get(path), theirs.get(path)]
    const at = own === other ? await firstDifference(join(left, path), join(right, path)) : -1
    if (at !== undefined) differing.push(`${path} (${own} and ${other} bytes) from ${at} on`)
  }
  assert.deepEqual(differing, [])
  return pathsOf(ours).length
}

/**
 * Writes everything that a server holds, as SQL that makes it again: by pg_dumpall where there is one of that version,
 * rows in the order in which they lie; else by {@link contentsOf}.
 */
async function writeDump(server: TestPostgres, path: string): Promise<void> {
  const pgDumpall = await clientTool('pg_dumpall', server.major)
  if (pgDumpall === undefined)
    return writeFile(path, JSON.stringify(await contentsOf(server, 'everything'), undefined, 1))
  const args = ['-h', server.socketDir, '-p', String(server.port), '-U', superuser, '-f', path]
  await run(pgDumpall, args)
  // What is another for each: a key that pg_dump makes up, where a tablespace was put, and sequences.
  const without = String.raw`/^\\(un)?restrict |^SELECT pg_catalog\.setval\(/d; s/ LOCATION '[^']*'//`
  await run('sed', ['-i', '-E', without, path])
}

async function textAt(path: string, at: number): Promise<string> {
  await using file = await open(path)
  const { buffer, bytesRead } = await file.read(Buffer.alloc(400), 0, 400, Math.max(0, at - 200))
  return buffer.subarray(0, bytesRead).toString('utf8')
}

async function assertSameDumps(left: TestPostgres, right: TestPostgres): Promise<void> {
  const [ours, theirs] = [left, right].map(({ directory }) => join(directory, 'dump')) as [string, string]
  await writeDump(left, ours)
  await writeDump(right, theirs)
  const at = await firstDifference(ours, theirs)
  if (at === undefined) return
  const [own, other] = await Promise.all([ours, theirs].map((path) => textAt(path, at)))
  assert.fail(`the dumps differ from byte ${at} on:\n${own}\n---\n${other}`)
}

/** What a server holds at one moment. */
export interface Moment {
  /** A position after all of it. */
  readonly lsn: string
  readonly contents: Record<string, string>
  /** By their names. */
  readonly sequences: ReadonlyMap<string, bigint>
}

/** The present moment of a server that nobody writes to. The next record is replayed too by those who recover to it. */
export async function momentOf(server: TestPostgres): Promise<Moment> {
  const moment = {
    lsn: await currentLsn(server),
    contents: await contentsOf(server),
    sequences: await sequencesOf(server),
  }
  await server.sql(`select pg_create_restore_point('the record at the position')`)
  return moment
}

/** Sequences that survive a crash. */
async function sequencesOf(server: TestPostgres): Promise<Map<string, bigint>> {
  const rows = await server.sql<{ name: string; value: string | null }>(
    `select relname as name, pg_sequence_last_value(oid)::text as value from pg_class
     where relkind = 'S' and relpersistence = 'p' order by 1`,
  )
  return new Map(rows.map(({ name, value }) => [name, BigInt(value ?? 0)]))
}

/**
 * A server that was recovered from a chain to a moment is as it was then, and as one that was recovered from the full
 * backup alone. But for sequences: their pages have the value that was given last, and WAL has one that is up to 32 ahead.
 * The more of it is replayed, the more of them are ahead.
 */
export async function assertRecovered(
  fromChain: TestPostgres,
  fromFull: TestPostgres,
  { contents, sequences }: Moment,
): Promise<void> {
  assert.deepEqual(await contentsOf(fromChain), contents)
  await assertSameDumps(fromChain, fromFull)
  const [own, other] = [await sequencesOf(fromChain), await sequencesOf(fromFull)]
  assert.deepEqual([...own.keys()], [...sequences.keys()])
  for (const [name, value] of sequences) {
    const [ours = -1n, theirs = -1n] = [own.get(name), other.get(name)]
    assert.ok(value <= ours && ours <= theirs && theirs <= value + 32n, `${name}: ${value}, ${ours}, ${theirs}`)
  }
}

/** Databases that somebody may connect to. */
async function databasesOf(server: TestPostgres): Promise<string[]> {
  const rows = await server.sql<{ name: string }>(
    'select datname as name from pg_database where datallowconn order by 1',
  )
  return rows.map(({ name }) => name)
}

/**
 * What the relations of every database hold, by database and name; rows in an order of their own.
 * @param extent `logged` leaves out the unlogged tables, which a recovery empties
 */
export async function contentsOf(
  server: TestPostgres,
  extent: 'logged' | 'everything' = 'logged',
): Promise<Record<string, string>> {
  const contents: Record<string, string> = {}
  const system = `('pg_catalog', 'information_schema', 'pg_toast')`
  const chosen = extent === 'logged' ? `relpersistence = 'p'` : `relpersistence <> 't'`
  for (const database of await databasesOf(server)) {
    const ask = <Row extends object>(text: string) => server.sql<Row>(text, superuser, database)
    const relations = await ask<{ name: string; about: string }>(
      `select format('%I.%I', nspname, relname) as name, concat(relkind, relpersistence, ' in ', reltablespace) as about
       from pg_class c join pg_namespace n on n.oid = relnamespace
       where relkind in ('r', 'm') and ${chosen} and nspname not in ${system} order by 1`,
    )
    for (const { about, name } of relations) {
      const [row] = await ask<{ sum: string }>(
        `select count(*) || ' ' || coalesce(md5(string_agg(md5(t::text), '' order by t::text)), '') as sum from ${name} t`,
      )
      contents[`${database} ${name}`] = `${about}: ${row?.sum}`
    }
    const indexes = await ask<{ name: string; text: string }>(
      `select format('%I.%I', schemaname, indexname) as name, indexdef as text from pg_indexes
       where schemaname not in ${system} and schemaname !~ '^pg_temp_' order by 1`,
    )
    for (const { name, text } of indexes) contents[`${database} ${name}`] = text
  }
  return contents
}

/**
 * What pg_amcheck does with all of its options, by the functions that it calls: every page of every table, every row of
 * every table in each of its indexes, the order of every index and its parents.
 * @returns how many relations were checked
 */
export async function assertSound(server: TestPostgres): Promise<number> {
  let checked = 0
  for (const database of await databasesOf(server)) {
    const ask = <Row extends object>(text: string) => server.sql<Row>(text, superuser, database)
    await ask('create extension amcheck')
    const indexes = (
      method: string,
    ) => `from pg_index i join pg_class c on c.oid = i.indexrelid join pg_am a on a.oid = c.relam
      where a.amname = '${method}' and c.relpersistence <> 't' and i.indisvalid`
    const [row] = await ask<{ count: number }>(
      `select count(bt_index_parent_check(i.indexrelid, true, true, i.indisunique))::int as count ${indexes('btree')}`,
    )
    checked += row?.count ?? 0
    // 18 brought it.
    if (server.major >= 18) await ask(`select gin_index_check(i.indexrelid) ${indexes('gin')}`)
    const tables = `from pg_class c where c.relkind in ('r', 't', 'm') and c.relpersistence <> 't'`
    const damage = await ask(
      `select relname, v.* from (select oid, relname ${tables}) c, lateral verify_heapam(c.oid, check_toast => true) v`,
    )
    assert.deepEqual(damage, [], database)
    const [heaps] = await ask<{ count: number }>(`select count(*)::int as count ${tables}`)
    checked += heaps?.count ?? 0
  }
  return checked
}
