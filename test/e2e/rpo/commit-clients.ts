/** Clients that write down what they sent and what was acknowledged, to be held against what a recovery brings back. */
import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import type { Client } from 'pg'
import type { TestPostgres } from '../../harness/postgres/postgres.ts'

/** What a load does, from its first transaction until it is killed. */
export interface LoadPlan {
  readonly clients: number
  /** Between two transactions of a client. */
  readonly pauseMs: number
  /** Bytes of a message in each transaction's WAL that do not compress. */
  readonly payloadBytes: number
  /** After so long nobody sends any more. */
  readonly busyMs: number
}

/** One transaction; times are performance.now()'s. */
interface Commit {
  readonly client: number
  /** From 1 on, without a gap within a client. */
  readonly number: number
  readonly sentMs: number
  /** Undefined until, or because never, the server has acknowledged it. */
  acknowledgedMs?: number
}

/** What was lost with one server, by comparison. */
export interface Loss {
  readonly acknowledged: number
  readonly survived: number
  /** Acknowledged commits that are not there any more. */
  readonly lost: number
  /** From the newest commit that is there until the last that was acknowledged. */
  readonly lostMs: number
}

const accounts = 10_000
/** Of one load. */
const clientsMax = 100

/** The tables of the load, made ahead of the backup. */
export const createTables = `
  create table accounts (id int primary key, balance bigint not null, filler char(84) not null);
  create table commits (client int, number int, at timestamptz default clock_timestamp());
  insert into accounts select i, 0, '' from generate_series(1, ${accounts}) i`

/** Transactions like pgbench's simple update, each with its number, until the server is gone. */
export class CommitClients {
  readonly #commits: Commit[] = []
  readonly #startMs: number
  readonly #ended: Promise<unknown>
  readonly #payload: string

  /** Clients are numbered from here on. */
  readonly #firstClient: number

  private constructor(clients: readonly Client[], plan: LoadPlan, firstClient: number) {
    this.#firstClient = firstClient
    this.#payload = randomBytes(plan.payloadBytes).toString('base64').slice(0, plan.payloadBytes)
    this.#startMs = performance.now()
    this.#ended = Promise.all(clients.map((client, index) => this.#run(client, firstClient + index, plan)))
    this.#ended.catch(() => {})
  }

  /** @param life how many servers have been lost before: what their clients had committed is not ours */
  static async start(server: TestPostgres, plan: LoadPlan, life: number): Promise<CommitClients> {
    const clients = await Promise.all(Array.from({ length: plan.clients }, () => server.client()))
    return new CommitClients(clients, plan, life * clientsMax)
  }

  /** Resolves when every client has stopped or lost its server. */
  async ended(): Promise<void> {
    await this.#ended
  }

  /** Looks into a recovered server: no hole, nothing half done, nothing from nowhere. */
  async compare(server: TestPostgres): Promise<Loss> {
    const rows = await server.sql<{ client: number; numbers: number[] }>(
      `select client, array_agg(number order by number) as numbers from commits
       where client >= ${this.#firstClient} and client < ${this.#firstClient + clientsMax} group by client`,
    )
    for (const { client, numbers } of rows) {
      const whole = Array.from(numbers, (_, index) => index + 1)
      assert.deepEqual(numbers, whole, `the commits of client ${client} have a hole`)
    }
    const kept = new Map(rows.map(({ client, numbers }) => [client, numbers.length]))
    const [sums] = await server.sql<{ balance: number; commits: number }>(
      'select (select sum(balance)::int from accounts) as balance, (select count(*)::int from commits) as commits',
    )
    assert.equal(sums?.balance, sums?.commits, 'a transaction is there in part')
    return this.#loss(({ client, number }) => number <= (kept.get(client) ?? 0), [...kept.values()].reduce(add, 0))
  }

  #loss(isKept: (commit: Commit) => boolean, survived: number): Loss {
    const survivors = this.#commits.filter(isKept)
    assert.equal(survivors.length, survived, 'there are commits that nobody sent')
    const acknowledged = this.#commits.filter(({ acknowledgedMs }) => acknowledgedMs !== undefined)
    const lost = acknowledged.filter((commit) => !isKept(commit))
    const newestSentMs = latest(survivors.map(({ sentMs }) => sentMs))
    for (const { client, number, acknowledgedMs = 0 } of lost) {
      const what = `commit ${number} of client ${client} is lost, and one that was sent after its acknowledgement is not`
      assert.ok(newestSentMs <= acknowledgedMs, what)
    }
    const newestMs = latest([this.#startMs, ...survivors.map(({ acknowledgedMs, sentMs }) => acknowledgedMs ?? sentMs)])
    const lastMs = latest(acknowledged.map(({ acknowledgedMs = 0 }) => acknowledgedMs))
    const lostMs = lost.length === 0 ? 0 : Math.max(0, lastMs - newestMs)
    return { acknowledged: acknowledged.length, survived, lost: lost.length, lostMs }
  }

  async #run(client: Client, id: number, plan: LoadPlan): Promise<void> {
    let isLost = false
    client.on('error', () => (isLost = true)).on('end', () => (isLost = true))
    try {
      for (let number = 1; performance.now() - this.#startMs < plan.busyMs; number++) {
        const commit: Commit = { client: id, number, sentMs: performance.now() }
        this.#commits.push(commit)
        await client.query(this.#transaction(commit))
        commit.acknowledgedMs = performance.now()
        if (plan.pauseMs > 0) await delay(plan.pauseMs)
      }
    } catch (error) {
      // Backends that outlive a killed postmaster by a moment may say so (57P01).
      if (!isLost && (error as { readonly code?: unknown }).code !== '57P01') throw error
    } finally {
      await client.end().catch(() => {})
    }
  }

  #transaction({ client, number }: Commit): string {
    const message = this.#payload && `select pg_logical_emit_message(false, 'load', '${this.#payload}');`
    return `begin;
      update accounts set balance = balance + 1 where id = ${1 + ((number * 7919 + client * 1237) % accounts)};
      ${message}
      insert into commits (client, number) values (${client}, ${number});
      commit`
  }
}

function add(a: number, b: number): number {
  return a + b
}

function latest(times: readonly number[]): number {
  return times.reduce((last, time) => Math.max(last, time), -Infinity)
}
