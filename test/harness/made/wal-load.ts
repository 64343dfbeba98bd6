/** WAL on demand. */
import { setTimeout as delay } from 'node:timers/promises'
import type { Client } from 'pg'
import type { TestPostgres } from '../postgres/postgres.ts'

/** Options of {@link generateWal}. */
export interface WalOptions {
  /** How many segments are finished. */
  readonly segments: number
  /**
   * `switched` writes a few hundred bytes and switches: the fastest way through many segments, most of each is zeros.
   * `full` fills every segment with incompressible records. Default switched.
   */
  readonly fill?: 'switched' | 'full'
}

/** Writes WAL until so many segments are finished. Returns the position that was reached, `X/X`. */
export async function generateWal(server: TestPostgres, options: WalOptions): Promise<string> {
  const { fill, segments } = options
  const script = fill === 'full' ? fillScript(segments) : switchScript(segments)
  await server.sql(`do $walrx$ ${script} $walrx$`)
  return currentLsn(server)
}

/** The server's insert position, or on a standby the replayed one, `X/X`. */
export async function currentLsn(server: TestPostgres): Promise<string> {
  const [row] = await server.sql<{ lsn: string }>(
    'select (case when pg_is_in_recovery() then pg_last_wal_replay_lsn() else pg_current_wal_insert_lsn() end)::text as lsn',
  )
  return row?.lsn ?? ''
}

function switchScript(segments: number): string {
  return `begin
    for i in 1..${segments} loop
      perform pg_logical_emit_message(false, 'walrx', md5(i::text) || repeat(md5(random()::text), (random() * 30)::int));
      perform pg_switch_wal();
    end loop;
  end`
}

function fillScript(segments: number): string {
  // One block of random text, made once; every message starts at another place in it. Messages of a third of the
  // smallest segment size, so that records cross segment boundaries.
  return `declare
    block text := (select string_agg(md5(random()::text), '') from generate_series(1, 16384));
    size bigint := pg_size_bytes(current_setting('wal_segment_size'));
    goal pg_lsn := '0/0'::pg_lsn + (div(pg_current_wal_insert_lsn() - '0/0'::pg_lsn, size) + ${segments}) * size;
  begin
    while pg_current_wal_insert_lsn() < goal loop
      perform pg_logical_emit_message(false, 'walrx', substr(block, 1 + (random() * 131072)::int, 349525));
    end loop;
  end`
}

/** A load that runs until it is stopped. */
export interface RunningLoad {
  /** Transactions committed so far. */
  readonly committed: number
  /** Ends after the transactions under way; returns how many were committed in all. */
  stop(): Promise<number>
}

/**
 * A mix like pgbench's: small transactions that update random accounts and append to a history, on several
 * connections. Tables are made at the first call. A server that goes away ends the load without an error, because
 * that is what some tests do; `committed` then has the acknowledged rows.
 */
export async function startLoad(
  server: TestPostgres,
  options: { readonly clients?: number; readonly pauseMs?: number } = {},
): Promise<RunningLoad> {
  await server.sql(`
    create table if not exists load_accounts (id int primary key, balance bigint not null, filler char(84) not null);
    create table if not exists load_history (client int, number bigint, account int, delta int, at timestamptz default now());
    insert into load_accounts select i, 0, '' from generate_series(1, 10000) i on conflict do nothing;`)
  const state = { stopping: false, committed: 0 }
  const clients = await Promise.all(Array.from({ length: options.clients ?? 2 }, () => server.client()))
  const done = Promise.all(clients.map((client, index) => runClient(client, index, state, options.pauseMs ?? 0)))
  return {
    get committed() {
      return state.committed
    },
    async stop() {
      state.stopping = true
      await done
      return state.committed
    },
  }
}

async function runClient(
  client: Client,
  index: number,
  state: { stopping: boolean; committed: number },
  pauseMs: number,
): Promise<void> {
  let lost = false
  client.on('error', () => (lost = true))
  client.on('end', () => (lost = true))
  const transaction = (number: number) => `begin;
    update load_accounts set balance = balance + 1 where id = (select 1 + (random() * 9999)::int);
    insert into load_history (client, number, account, delta) values (${index}, ${number}, 1, 1);
    commit`
  try {
    for (let number = 1; !state.stopping; number++) {
      await client.query(transaction(number))
      state.committed++
      if (pauseMs > 0) await delay(pauseMs)
    }
  } catch (error) {
    // A postmaster that was killed lets its backends say so (57P01).
    if (!lost && (error as { readonly code?: unknown }).code !== '57P01') throw error
  } finally {
    await client.end().catch(() => {})
  }
}
