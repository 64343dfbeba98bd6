/** A chain of a full backup and deltas in an archive, with all that the server sent of each recorded beside it. */
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { appendFile, mkdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import type { PushedBackup } from '../../../src/backup/backup-push.ts'
import { isFullRun } from '../../harness/extent.ts'
import { giveToServer, makeServerDirectory } from '../../harness/postgres/postgres-files.ts'
import type { TestPostgres } from '../../harness/postgres/postgres.ts'
import { startRestored } from '../../harness/postgres/restored-server.ts'
import { newServerDirectory } from '../../harness/walrx/test-workspace.ts'
import { runWalrx, type WalrxProcess } from '../../harness/walrx/walrx-process.ts'
import { RecordedServer } from '../backup/recorded-server.ts'
import { combineIncrements } from './combine-increments.ts'
import { assertSameFiles } from './delta-proofs.ts'
import { pushDelta } from './delta-push.ts'

const run = promisify(execFile)

/** A data directory with its one tablespace outside of it. */
export interface Restored {
  /** Where `data` is. */
  readonly directory: string
  readonly data: string
  /** Where the tablespace went. */
  readonly tablespace: string
}

/** See the file's header. */
export class RecordedChain {
  /** The full one first. */
  readonly backups: PushedBackup[] = []
  readonly root: string
  readonly archive: string
  /** The folder of the tablespace that every server of the chain may have. */
  readonly place: string
  /** The settings by which walrx finds the archive. */
  readonly prefix: readonly string[]
  readonly #label: string
  #copies = 0

  private constructor(label: string, root: string) {
    this.#label = label
    this.root = root
    this.archive = join(root, 'archive')
    this.place = join(root, 'ts')
    this.prefix = ['--file-prefix', this.archive]
  }

  static async open(label: string): Promise<RecordedChain> {
    const chain = new RecordedChain(label, newServerDirectory(label))
    await makeServerDirectory(chain.root, 0o755)
    for (const path of [chain.archive, chain.place]) await mkdir(path)
    await giveToServer(chain.place)
    return chain
  }

  /**
   * A delta on the newest backup, or the full one that the chain begins with.
   * @param writer the server that ends the segment with the backup's end: another one for a backup of a standby
   */
  async push(server: TestPostgres, writer: TestPostgres = server): Promise<PushedBackup> {
    const recorded = new RecordedServer(server.conninfo(), join(this.root, 'recording'))
    const pushing = pushDelta(recorded, this.archive, { partBytesMax: 16 * 1024 * 1024, walTimeoutMs: 60_000 })
    const ending = setInterval(() => void endSegment(writer).catch(() => {}), 500)
    const pushed = await pushing.finally(() => clearInterval(ending))
    await recorded.unpack(this.#raw(this.backups.length))
    this.backups.push(pushed)
    return pushed
  }

  #raw(index: number): string {
    return join(this.root, `raw-${index}`)
  }

  /**
   * What pg_combinebackup makes of the recorded streams.
   * @param program undefined where there is none: then {@link combineIncrements} does what it would
   * @param index of the delta to restore
   */
  async combine(program: string | undefined, index: number): Promise<Restored> {
    const inputs = this.backups.slice(0, index + 1).map((_, each) => join(this.#raw(each), 'data'))
    const restored = await this.#newCopy('combined')
    if (program === undefined) {
      await combineIncrements(inputs, restored.data)
      return restored
    }
    const oid = this.#oid
    const mapping = oid === undefined ? [] : ['-T', `${join(this.#raw(index), oid)}=${restored.tablespace}`]
    await run(program, ['--no-sync', '-o', restored.data, ...mapping, ...inputs])
    return restored
  }

  /**
   * What walrx restores of a delta, each file of it, is byte for byte what {@link combine} makes.
   * @param others what others have restored of it
   * @param look at what walrx has restored, before it is removed
   * @returns how many files that are
   */
  async assertCombines(
    program: string | undefined,
    index: number,
    others: readonly Restored[] = [],
    look: (fetched: Restored) => Promise<void> = async () => {},
  ): Promise<number> {
    const combined = await this.combine(program, index)
    const fetched = await this.fetch(this.backups[index]?.name ?? '')
    const count = await assertSameFiles(fetched.data, combined.data, /^backup_manifest$/)
    assert.ok(count > 900, `only ${count} files`)
    for (const { data } of others) assert.equal(await assertSameFiles(data, combined.data, /^backup_manifest$/), count)
    if (isFullRun && program !== undefined) {
      const ruled = await this.combine(undefined, index)
      assert.equal(await assertSameFiles(ruled.data, combined.data, /^backup_manifest$/), count)
      await rm(ruled.directory, { recursive: true })
    }
    await look(fetched)
    for (const { directory } of [combined, fetched]) await rm(directory, { recursive: true })
    return count
  }

  /** What walrx restores. @param options of backup-fetch */
  async fetch(name: string, options: readonly string[] = []): Promise<Restored> {
    const restored = await this.#newCopy('fetched')
    const mapping = this.#oid === undefined ? [] : ['-T', `${this.place}=${restored.tablespace}`]
    const args = [restored.data, name, '--disable-fsync', ...mapping, ...options, ...this.prefix]
    const { status, stderr } = await runWalrx(['backup-fetch', ...args])
    assert.equal(status, 0, stderr)
    return restored
  }

  /** Restores a backup and recovers it to a position. */
  async recover(name: string, lsn: string, server: Pick<TestPostgres, 'major'>): Promise<TestPostgres> {
    const target = ['--target-lsn', lsn, '--target-action', 'promote']
    const { data, directory, tablespace } = await this.fetch(name, target)
    // Over a fork its summarizer asks for a segment that no recovery restores, and is deaf for ten seconds after each
    // failure: CREATE and DROP DATABASE wait for it.
    await appendFile(join(data, 'postgresql.auto.conf'), `summarize_wal = 'off'\n`)
    return startRestored(directory, server.major, this.#oid === undefined ? [] : [tablespace])
  }

  /** Of the tablespace outside of the data directory, if there is one. */
  get #oid(): string | undefined {
    const tablespaces = this.backups.at(-1)?.sentinel.spec?.tablespaces
    const outside = tablespaces?.find(({ location }) => location === this.place)
    return outside && String(outside.oid)
  }

  async #newCopy(kind: string): Promise<Restored> {
    const directory = newServerDirectory(`${this.#label}-${kind}-${this.#copies++}`)
    await makeServerDirectory(directory, 0o755)
    return { directory, data: join(directory, 'data'), tablespace: join(directory, 'ts') }
  }

  /** Reads the last backup, or every one, as a restore would. */
  async verify(which: 'last' | 'every'): Promise<void> {
    for (const { name } of which === 'last' ? this.backups.slice(-1) : this.backups) {
      const { status, stderr, stdout } = await runWalrx(['backup-verify', name, ...this.prefix])
      assert.equal(status, 0, stderr)
      assert.match(stdout, /is whole/)
    }
  }

  /** Removes what was recorded. */
  async dropRecordings(): Promise<void> {
    for (const index of this.backups.keys()) await rm(this.#raw(index), { recursive: true })
  }
}

/** Ends the present segment, though nothing but this may have been written to it. */
async function endSegment(server: TestPostgres): Promise<void> {
  await server.sql(`select pg_create_restore_point('the end of a segment')`)
  await server.switchWal()
}

/** Resolves when the receiver has archived all that the server has written. */
export async function archivedAll(server: TestPostgres, receiver: WalrxProcess): Promise<void> {
  // The end of a backup may have switched already: then there would be nothing to switch.
  await server.sql(`select pg_create_restore_point('the end')`)
  const [last] = await server.sql<{ file: string }>('select pg_walfile_name(pg_switch_wal()) as file')
  await receiver.logged(({ file, msg }) => msg === 'archived' && file === last?.file)
}
