/**
 * What WAL-G makes of an archive in which walrx keeps chunks, partials and records of its own: `wal-verify` and `wal-show`
 * find nothing wrong at any moment, and every name in `wal_005/` is one that WAL-G itself would write. The first needs
 * WALG_BIN.
 */
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { chmodSync, mkdirSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { describe, test } from 'node:test'
import { promisify } from 'node:util'
import { parseLsn } from '../../src/postgres/lsn.ts'
import { archivedKeys } from '../harness/store/archive-check.ts'
import { startStandby } from '../harness/postgres/postgres-copies.ts'
import { startPostgres, type TestPostgres } from '../harness/postgres/postgres.ts'
import { newServerDirectory } from '../harness/walrx/test-workspace.ts'
import { runWalrx, startWalrx, type WalrxProcess } from '../harness/walrx/walrx-process.ts'

const walg = process.env['WALG_BIN']

/** Segments, partials and histories, as wal-push and wal-receive name them. */
const walgNames = /^([0-9A-F]{24}(\.partial)?|[0-9A-F]{8}\.history)(\.(zst|lz4|br))?$/

/** An archive with its receiver's settings. */
class Archive {
  readonly root: string
  readonly #codec: string

  constructor(codec: string) {
    this.#codec = codec
    this.root = join(newServerDirectory(`verify-${codec}`), 'archive')
    mkdirSync(this.root, { recursive: true })
    chmodSync(this.root, 0o777)
  }

  get env(): Record<string, string> {
    return { WALG_FILE_PREFIX: this.root, WALG_COMPRESSION_METHOD: this.#codec }
  }

  receive(servers: readonly TestPostgres[]): WalrxProcess {
    const conninfo = `host=${servers.map(() => '127.0.0.1').join()} port=${servers.map(({ port }) => port).join()} user=postgres`
    const flags = ['--tail-interval=50ms', '--log-level=debug', '--dbname', conninfo]
    return startWalrx(['wal-receive', ...flags], { env: this.env })
  }

  /** The names in `wal_005`. */
  names(): string[] {
    return readdirSync(join(this.root, 'wal_005')).sort()
  }

  chunks(): string[] {
    return archivedKeys(this.root).filter((key) => /^walrx_005\/tail\/.*[0-9A-F]{8}-[0-9A-F]{8}/.test(key))
  }

  async assertClean(server: TestPostgres): Promise<void> {
    for (const name of this.names()) assert.match(name, walgNames)
    if (walg === undefined) return
    const env = {
      PATH: process.env['PATH'],
      HOME: this.root,
      PGHOST: '127.0.0.1',
      PGPORT: String(server.port),
      PGUSER: 'postgres',
      PGDATABASE: 'postgres',
      ...this.env,
    }
    const run = async <T>(...args: string[]) =>
      JSON.parse((await promisify(execFile)(walg, args, { env, timeout: 120_000 })).stdout) as T
    const verified = await run<Record<'integrity' | 'timeline', { status: string }>>(
      ...['wal-verify', 'integrity', 'timeline', '--json'],
    )
    assert.deepEqual([verified.integrity.status, verified.timeline.status], ['OK', 'OK'], JSON.stringify(verified))
    const shown = await run<{ id: number; status: string }[]>('wal-show', '--detailed-json')
    for (const { id, status } of shown) assert.equal(status, 'OK', `timeline ${id}: ${JSON.stringify(shown)}`)
  }
}

/** Writes a row, and waits until walrx has stored it. */
async function commit(server: TestPostgres, receiver: WalrxProcess): Promise<void> {
  await server.sql('insert into t values (1)')
  const [row] = await server.sql<{ lsn: string }>('select pg_current_wal_flush_lsn()::text as lsn')
  const end = parseLsn(row?.lsn ?? '')
  await receiver.logged(({ msg, upTo }) => msg === 'stored' && parseLsn(String(upTo)) >= end)
}

/** Ends the segment, and waits until walrx has archived it. */
async function switchWal(server: TestPostgres, receiver: WalrxProcess): Promise<void> {
  const [row] = await server.sql<{ name: string }>('select pg_walfile_name(pg_switch_wal()) as name')
  await receiver.logged(({ file, msg }) => msg === 'archived' && file === row?.name)
}

describe('an archive in which walrx keeps its own objects is clean', () => {
  for (const codec of ['zstd', 'none']) {
    test(
      `in ${codec}: with chunks, after a failover, and with a finalized segment`,
      { timeout: 180_000 },
      async (t) => {
        if (walg === undefined) t.diagnostic('WALG_BIN names no WAL-G: only the names are looked at')
        const archive = new Archive(codec)
        await using primary = await startPostgres({ major: 17 })
        await using standby = await startStandby(primary)
        await primary.sql('create table t (i int)')
        await using receiver = archive.receive([primary, standby])
        await receiver.logged('streaming')
        const pushed = await runWalrx(['backup-push', '--dbname', primary.conninfo()], { env: archive.env })
        assert.equal(pushed.status, 0, pushed.stderr)
        for (let segments = 0; segments < 2; segments++) {
          await commit(primary, receiver)
          assert.ok(archive.chunks().length > 0)
          await archive.assertClean(primary)
          await switchWal(primary, receiver)
        }
        await commit(primary, receiver)
        await primary.kill9()
        await standby.promote()
        // WAL-G takes the server's timeline from its last checkpoint.
        await standby.checkpoint()
        await receiver.logged(({ msg, timeline }) => msg === 'streaming' && timeline === 2)
        await commit(standby, receiver)
        assert.ok(
          archive.names().some((name) => name.startsWith('00000002.history')),
          archive.names().join(),
        )
        // Until the new timeline has a segment, WAL-G does not know it, be the archive its own or ours.
        await switchWal(standby, receiver)
        await archive.assertClean(standby)
        await commit(standby, receiver)
        await receiver.stop('SIGKILL')
        await archive.assertClean(standby)
        const finalized = await runWalrx(['wal-finalize', '--force'], { env: archive.env })
        assert.equal(finalized.status, 0, finalized.stderr)
        assert.deepEqual(archive.chunks(), [])
        await archive.assertClean(standby)
      },
    )
  }
})
