/**
 * The load of the demo: rows with consecutive numbers and a content that follows from the number, and accounts with the
 * number of rows as their sum. So missing rows and torn transactions show after the recovery.
 */
import { setTimeout as delay } from 'node:timers/promises'
import type { Client } from 'pg'
import { type Lsn, parseLsn } from '../src/postgres/lsn.ts'
import type { TestPostgres } from '../test/harness/postgres/postgres.ts'

/** Rows of one transaction: about a megabyte of WAL. */
const rowsPerTransaction = 1500

const accounts = 100

/** What a row's payload is, as SQL over its number. */
const payload = (seq: string) => `(select string_agg(md5(${seq}::text || i), '') from generate_series(1, 16) i)`

/** Makes the tables. */
export async function createTables(server: TestPostgres): Promise<void> {
  await server.sql(`
    create table events (seq bigint primary key, payload text not null, at timestamptz not null default now());
    create table accounts (id int primary key, balance bigint not null);
    insert into accounts select i, 0 from generate_series(0, ${accounts - 1}) i`)
}

/** A load that runs until its server is gone. */
export class DemoLoad {
  /** The last row of every committed transaction, and an LSN after its commit record. */
  readonly #commits: { readonly seq: number; readonly lsn: Lsn }[] = []
  #done: Promise<void> = Promise.resolve()
  #isOver = false
  #pause: Promise<unknown> = Promise.resolve()

  /** Starts writing on a connection of its own. */
  static async start(server: TestPostgres): Promise<DemoLoad> {
    const load = new DemoLoad()
    const client = await server.client()
    load.#done = load.#write(client)
    return load
  }

  /** The last row that the server has acknowledged. */
  get lastRow(): number {
    return this.#commits.at(-1)?.seq ?? 0
  }

  /** The last row with a commit record that ends at `end` or before. */
  lastRowBefore(end: Lsn): number {
    return this.#commits.findLast(({ lsn }) => lsn <= end)?.seq ?? 0
  }

  /** Resolves when that row is written, or the load has ended. */
  async reaches(seq: number): Promise<void> {
    while (this.lastRow < seq && !this.#isOver) await delay(5)
  }

  /** Does something while nothing is written. */
  async whilePaused<T>(work: () => Promise<T>): Promise<T> {
    const { promise, resolve } = Promise.withResolvers<undefined>()
    const before = this.#commits.length
    this.#pause = promise
    try {
      // The transaction that was under way.
      while (this.#commits.length === before && !this.#isOver) await delay(5)
      return await work()
    } finally {
      resolve(undefined)
    }
  }

  /** Resolves when the server is gone and with it the connection. */
  ended(): Promise<void> {
    return this.#done
  }

  async #write(client: Client): Promise<void> {
    try {
      for (let first = 1; ; first += rowsPerTransaction) {
        const last = first + rowsPerTransaction - 1
        await client.query(`
          begin;
          insert into events (seq, payload) select seq, ${payload('seq')} from generate_series(${first}, ${last}) seq;
          update accounts set balance = balance + ${rowsPerTransaction} where id = ${last % accounts};
          commit`)
        const { rows } = await client.query<{ lsn: string }>('select pg_current_wal_insert_lsn()::text as lsn')
        this.#commits.push({ seq: last, lsn: parseLsn(rows[0]?.lsn ?? '') })
        await this.#pause
      }
    } catch {
      // The server was killed: that is how this load ends.
      this.#isOver = true
      await client.end().catch(() => {})
    }
  }
}

/** What a server holds of the load. */
export interface LoadFindings {
  readonly lastRow: number
  readonly rowCount: number
  /** Rows with a wrong payload for their number. */
  readonly wrongRows: number
  readonly accountSum: number
}

/** Looks at everything that the load has written. */
export async function inspectLoad(server: TestPostgres): Promise<LoadFindings> {
  const [row] = await server.sql<Record<keyof LoadFindings, string>>(`
    select coalesce(max(seq), 0) as "lastRow", count(*) as "rowCount",
      count(*) filter (where payload <> ${payload('seq')}) as "wrongRows",
      (select sum(balance) from accounts) as "accountSum"
    from events`)
  return {
    lastRow: Number(row?.lastRow),
    rowCount: Number(row?.rowCount),
    wrongRows: Number(row?.wrongRows),
    accountSum: Number(row?.accountSum),
  }
}
