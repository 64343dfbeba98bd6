/** What every test of lost WAL needs: a server that keeps no WAL of its own accord, and what must hold after a gap. */
import assert from 'node:assert/strict'
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { formatLsn, type Lsn, parseLsn } from '../../../src/postgres/lsn.ts'
import { FileStorage } from '../../../src/storage/file/file-storage.ts'
import { type GapRecord, listGaps } from '../../../src/walg/wal/gap-records.ts'
import { archiveFolders } from '../../../src/walg/names.ts'
import { archivedSegments, endOfSwitched } from '../../harness/store/archive-check.ts'
import { untilReplayed } from '../../harness/postgres/postgres-copies.ts'
import { makeServerDirectory } from '../../harness/postgres/postgres-files.ts'
import { type PgMajor, startPostgres, type TestPostgres } from '../../harness/postgres/postgres.ts'
import { startRestored } from '../../harness/postgres/restored-server.ts'
import { newServerDirectory } from '../../harness/walrx/test-workspace.ts'
import { until } from '../../harness/time/until.ts'
import { generateWal } from '../../harness/made/wal-load.ts'
import { type LogLine, runWalrx, startWalrx, type WalrxProcess } from '../../harness/walrx/walrx-process.ts'

const segmentSize = 1024 * 1024

/** Options of {@link GapWorld.open}. */
export interface GapWorldOptions {
  readonly major: PgMajor
  /** Added to the server's. */
  readonly settings?: Readonly<Record<string, string>>
  /** Lines of pg_hba.conf instead of ones that let everybody in. */
  readonly hba?: string
  /** Flags of every receiver. */
  readonly flags?: readonly string[]
}

/** A server, its archive with a backup in it, and nothing lost yet. */
export class GapWorld implements AsyncDisposable {
  readonly server: TestPostgres
  readonly archive: string
  /** What receivers connect to: the server alone, if a test names no other hosts. */
  conninfo: string
  readonly #major: PgMajor
  readonly #flags: readonly string[]
  /** Restore points by name: how many rows the table has there, and where it is. */
  readonly #marks = new Map<string, { readonly rows: number; readonly lsn: string }>()

  private constructor(server: TestPostgres, archive: string, { flags = [], major }: GapWorldOptions) {
    this.server = server
    this.archive = archive
    this.conninfo = server.conninfo()
    this.#major = major
    this.#flags = flags
  }

  /** Starts the server and a first receiver, takes a backup, and stops the receiver when all is archived. */
  static async open(options: GapWorldOptions): Promise<GapWorld> {
    const root = newServerDirectory(`gap${options.major}`)
    await makeServerDirectory(root, 0o755)
    const archive = join(root, 'archive')
    await mkdir(archive)
    const server = await startPostgres({
      major: options.major,
      segmentSizeMb: 1,
      settings: { checkpoint_timeout: '1h', min_wal_size: '2MB', max_wal_size: '1GB', ...options.settings },
      ...(options.hba !== undefined && { hba: options.hba }),
    })
    const world = new GapWorld(server, archive, options)
    await server.sql('create table t (id int)')
    await using receiver = world.receive()
    await receiver.logged('streaming')
    await world.backUp()
    await world.mark('before')
    await world.archived(receiver)
    assert.equal((await receiver.stop()).status, 0)
    return world
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.server[Symbol.asyncDispose]()
  }

  /** Starts a receiver. */
  receive(...flags: string[]): WalrxProcess {
    return startWalrx(['wal-receive', ...this.#flags, ...flags, '--dbname', this.conninfo, ...this.#prefix])
  }

  get #prefix(): string[] {
    return ['--file-prefix', this.archive]
  }

  /** Takes a base backup while a receiver runs. */
  async backUp(): Promise<void> {
    const { status, stderr } = await runWalrx(['backup-push', '--dbname', this.server.conninfo(), ...this.#prefix])
    assert.equal(status, 0, stderr)
  }

  /** Adds a row, and remembers where. */
  async mark(name: string): Promise<void> {
    await this.server.sql('insert into t values (1)')
    const [row] = await this.server.sql<{ rows: number; lsn: string }>(
      'select count(*)::int as rows, pg_current_wal_insert_lsn()::text as lsn from t',
    )
    // By a record after each mark a recovering server knows that it is over.
    await this.server.sql('insert into t values (2)')
    this.#marks.set(name, row ?? { rows: -1, lsn: '' })
  }

  /** Ends the segment and waits until it is in the archive. */
  async archived(receiver: WalrxProcess): Promise<void> {
    const end = endOfSwitched(parseLsn(await this.server.switchWal()), segmentSize)
    await this.server.sql(`select pg_logical_emit_message(false, 'walrx', 'one more')`)
    const last = (BigInt(end) / BigInt(segmentSize) - 1n).toString(16).toUpperCase().padStart(8, '0')
    const isLast = (name: unknown) => typeof name === 'string' && name.length === 24 && name.endsWith(last)
    await receiver.logged((line) => line.msg === 'archived' && isLast(line.file))
  }

  /**
   * Writes segments of WAL that the server does not keep, if nothing makes it.
   * @param standby gets them first
   */
  async lose(segments: number, standby?: TestPostgres): Promise<void> {
    await this.mark('lost')
    await generateWal(this.server, { segments })
    if (standby) await untilReplayed(standby, this.server)
    await this.server.sql('checkpoint')
  }

  /** Flags of a recovery to a mark. */
  target(mark: string): string[] {
    return ['--target-lsn', this.#marks.get(mark)?.lsn ?? '']
  }

  /** Restores to the last mark that was set before, from the newest backup, and compares. */
  async assertRestored(mark = 'last'): Promise<void> {
    const directory = newServerDirectory(`gap${this.#major}-restored`)
    await makeServerDirectory(directory, 0o755)
    const target = ['--target-lsn', this.#marks.get(mark)?.lsn ?? '', '--target-action', 'promote']
    const fetched = await runWalrx(['backup-fetch', join(directory, 'data'), 'LATEST', ...target, ...this.#prefix])
    assert.equal(fetched.status, 0, fetched.stderr)
    await using restored = await startRestored(directory, this.#major)
    const [row] = await restored.sql<{ rows: number }>('select count(*)::int as rows from t')
    assert.equal(row?.rows, this.#marks.get(mark)?.rows)
  }

  /** The server has removed what comes right after the archive. */
  async removed(): Promise<void> {
    const next = (BigInt(`0x${archivedSegments(this.archive).at(-1)?.slice(16)}`) + 1n).toString(16)
    const name = `00000001${'0'.repeat(8)}${next.toUpperCase().padStart(8, '0')}`
    await until('the removal of WAL', async () => {
      const [row] = await this.server.sql<{ there: boolean }>(
        `select exists (select from pg_ls_waldir() where name = '${name}') as there`,
      )
      return row?.there === false
    })
  }

  /** Waits until a receiver has recorded a gap. */
  recorded(receiver: WalrxProcess): Promise<LogLine> {
    return receiver.logged('WAL is gone from the server: the archive has a gap, take a new base backup')
  }

  /** All gaps of the archive. */
  gaps(): Promise<GapRecord[]> {
    return listGaps(new FileStorage({ folders: archiveFolders, root: this.archive, fsync: false }))
  }

  /** The one gap of the archive. */
  async gap(): Promise<GapRecord> {
    const gaps = await this.gaps()
    assert.equal(gaps.length, 1, 'one gap is recorded')
    return gaps[0] as GapRecord
  }

  /**
   * Checks everything about a gap that a receiver has recorded, and after which it has gone on: the object, what is archived around
   * it, refused targets, wal-show, and a restore from a backup that is begun after it.
   * @param reason what the gap's object says
   * @param hasBackup true where the backup after the gap has been taken already
   */
  async check(receiver: WalrxProcess, reason: RegExp, hasBackup = false): Promise<void> {
    const gap = await this.gap()
    const { endLsn, host, startLsn, timeline } = gap
    assert.match(gap.reason, reason)
    assert.equal(timeline, 1)
    assert.match(host, new RegExp(`:${this.server.port}$`))
    const lost = parseLsn(this.#marks.get('lost')?.lsn ?? '')
    assert.ok(startLsn <= lost && lost < endLsn, 'the row that was lost lies in the gap')
    await this.mark('after')
    await this.archived(receiver)
    this.#assertAround(startLsn, endLsn)
    await this.#assertRefusals(gap)
    await this.#assertShown(gap)
    if (!hasBackup) await this.backUp()
    await this.mark('last')
    await this.archived(receiver)
    await this.assertRestored()
  }

  #assertAround(startLsn: Lsn, endLsn: Lsn): void {
    const numbers = archivedSegments(this.archive).map((name) => BigInt(`0x${name.slice(16)}`))
    const [first, after] = [startLsn / BigInt(segmentSize), endLsn / BigInt(segmentSize)]
    assert.deepEqual(
      [first - 1n, first, after - 1n, after].map((segno) => numbers.includes(segno)),
      [true, false, false, true],
      'the gap is exactly what is missing',
    )
  }

  async #assertRefusals({ detectedAt, endLsn, startLsn }: GapRecord): Promise<void> {
    const fetch = (name: string, backup: string) => {
      const target = ['--target-lsn', this.#marks.get(name)?.lsn ?? '', '--dry-run']
      return runWalrx(['backup-fetch', join(this.archive, 'nowhere'), backup, ...target, ...this.#prefix])
    }
    const listed = await runWalrx(['backup-list', '--json', ...this.#prefix])
    const [oldest] = JSON.parse(listed.stdout) as { backup_name: string }[]
    const name = oldest?.backup_name ?? ''
    assert.equal((await fetch('before', name)).status, 0, 'before the gap all is well')
    for (const mark of ['lost', 'after']) {
      const { status, stderr } = await fetch(mark, name)
      assert.equal(status, 2, `${mark}: ${stderr}`)
      for (const part of [formatLsn(startLsn), formatLsn(endLsn), detectedAt, 'was lost'])
        assert.ok(stderr.includes(part))
    }
  }

  async #assertShown({ detectedAt, endLsn, startLsn }: GapRecord): Promise<void> {
    const text = (await runWalrx(['wal-show', ...this.#prefix])).stdout
    assert.ok(text.includes(`WAL from ${formatLsn(startLsn)} to ${formatLsn(endLsn)} on timeline 1 was lost`), text)
    const json = (await runWalrx(['wal-show', '--json', ...this.#prefix])).stdout
    const [shown] = JSON.parse(json) as { status: string; gaps: Record<string, unknown>[] }[]
    assert.equal(shown?.status, 'LOST_SEGMENTS')
    const [open] = shown.gaps
    assert.deepEqual(
      [open?.start_lsn, open?.end_lsn, open?.detected_at],
      [Number(startLsn), Number(endLsn), detectedAt],
    )
  }
}
