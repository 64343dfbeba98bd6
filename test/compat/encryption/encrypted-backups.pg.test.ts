/**
 * WAL-G and WAL-RUS restore full backups and deltas that walrx has encrypted, and walrx theirs, taken beside the data directory and
 * over the replication protocol, in every codec. walrx puts deltas on encrypted parents of all three. Programs that know only the
 * method and the codec decode every object of a backup by walrx. Runs where WALG_BIN and WALRUS_BIN name their programs, and with the
 * reference tools that there are: without those two programs one row of each method, as every object of every codec and method is
 * read back by walrx's own tests.
 */
import assert from 'node:assert/strict'
import { mkdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { backupRows, type EncryptionRow, settingsOf } from '../../harness/crypto/encryption-rows.ts'
import { type Peer, peers, peerSkip, runPeer, serverVariables } from '../../harness/crypto/peers.ts'
import { decodeByReference, referenceSkip } from '../../harness/crypto/reference-tools.ts'
import { isFullRun } from '../../harness/extent.ts'
import { restoredFiles } from '../../harness/made/golden-restores.ts'
import { startPostgres, type TestPostgres } from '../../harness/postgres/postgres.ts'
import { archivedKeys } from '../../harness/store/archive-check.ts'
import { until } from '../../harness/time/until.ts'
import { newServerDirectory } from '../../harness/walrx/test-workspace.ts'
import { runWalrx } from '../../harness/walrx/walrx-process.ts'

const isAnyoneThere = backupRows.some(
  (row) => referenceSkip(row) === false || peers.some((peer) => peerSkip(peer, row) === false),
)
const skip = !isAnyoneThere && 'neither WAL-G nor WAL-RUS nor a reference tool is there'

let server: TestPostgres
let changes = 0

/** Changes some pages, and waits until the server has summarised the WAL before them. */
async function change(): Promise<void> {
  changes++
  await server.sql(`update touched set text = md5(text) where id % 500 = ${changes}`)
  await server.sql(`insert into grown select g, 'more' from generate_series(1, 3000) g`)
  const [row] = await server.sql<{ lsn: string }>('select pg_current_wal_flush_lsn()::text as lsn')
  await server.sql('checkpoint')
  await until('the summaries of the WAL', async () => {
    const query = `select summarized_lsn >= '${row?.lsn}' as done from pg_get_wal_summarizer_state()`
    return (await server.sql<{ done: boolean }>(query))[0]?.done
  })
}

/**
 * WAL-G and WAL-RUS don't restore the manifest of a full backup by walrx; and WAL-RUS restores an empty tablespace_map of a full backup
 * with the delta on it.
 */
const leftAside = new Set(['backup_manifest', 'tablespace_map'])

/** An archive of one row. */
class Chain implements AsyncDisposable {
  readonly root: string
  readonly archive: string
  readonly #env: Readonly<Record<string, string>>
  #restores = 0

  private constructor(root: string, env: Readonly<Record<string, string>>) {
    this.root = root
    this.archive = join(root, 'archive')
    this.#env = { ...env, WALG_FILE_PREFIX: this.archive, WALG_DELTA_MAX_STEPS: '6', HOME: root }
  }

  static async open(row: EncryptionRow): Promise<Chain> {
    const root = newServerDirectory('chain')
    await mkdir(join(root, 'archive'), { recursive: true })
    return new Chain(root, await settingsOf(row, root))
  }

  async walrx(...args: string[]): Promise<string> {
    const { status, stderr, stdout } = await runWalrx(args, { env: this.#env })
    assert.equal(status, 0, stderr)
    return stdout
  }

  peer(peer: Peer, ...args: string[]): Promise<string> {
    return runPeer(peer, args, { ...this.#env, ...serverVariables(server), WALG_DOWNLOAD_CONCURRENCY: '4' })
  }

  push(...options: string[]): Promise<string> {
    return this.walrx('backup-push', '--dbname', server.conninfo(), '--no-wait', ...options)
  }

  /** Names of all backups, in the order in which they began. */
  async backups(): Promise<string[]> {
    const rows = JSON.parse(await this.walrx('backup-list', '--json')) as { readonly backup_name: string }[]
    return rows.map((row) => row.backup_name)
  }

  /** What lies where somebody has restored something. */
  async restored(restore: (directory: string) => Promise<unknown>): Promise<Map<string, string>> {
    const directory = join(this.root, `restored-${++this.#restores}`)
    await restore(directory)
    const { files } = await restoredFiles(directory)
    await rm(directory, { recursive: true })
    return new Map([...files].filter(([path]) => !leftAside.has(path)).sort())
  }

  /**
   * Backups are whole, and restored by walrx to the files that a peer makes of them.
   * @param asked all of them, or the last, which takes the others with it where it is a delta on them
   */
  async assertSame(others: readonly Peer[], count: number, asked: 'every' | 'last'): Promise<void> {
    const backups = await this.backups()
    assert.equal(backups.length, count)
    const verified = JSON.parse(await this.walrx('backup-verify', 'LATEST', '--json')) as { readonly backups: string[] }
    assert.deepEqual(verified.backups, backups)
    // With nobody to compare with, the last one takes those before it along.
    const which = others.length > 0 ? asked : 'last'
    for (const name of which === 'every' ? backups : backups.slice(-1)) {
      const own = await this.restored((to) => this.walrx('backup-fetch', to, name, '--disable-fsync'))
      assert.ok(own.size > 900, `${own.size} files`)
      for (const peer of others) {
        const theirs = await this.restored((to) => this.peer(peer, 'backup-fetch', to, name))
        assert.deepEqual(own, theirs, `${name} by ${peer.name}`)
      }
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await rm(this.root, { recursive: true, force: true })
  }
}

async function byWalrx(row: EncryptionRow, others: readonly Peer[]): Promise<void> {
  await using chain = await Chain.open(row)
  await chain.push()
  await change()
  await chain.push('--require-incremental')
  await chain.assertSame(others, 2, 'every')
  if (referenceSkip(row) === false) await decodeBackups(row, chain.archive)
}

/** Decodes all that is encrypted of the backups in an archive. */
async function decodeBackups(row: EncryptionRow, archive: string): Promise<void> {
  const keys = archivedKeys(archive).filter((key) => /^basebackups_005\/[^/]+\//.test(key))
  const encrypted = keys.filter((key) => !/\/(metadata|files_metadata)\.json$/.test(key))
  const kinds = { part: /\.tar(\.\w+)?$/, manifest: /\/backup_manifest(\.\w+)?$/, contents: /\/walrx\.json$/ }
  const paths = encrypted.map((key) => join(archive, key))
  const contents = await decodeByReference(row, paths, (path) => !kinds.contents.test(path))
  const counts = { part: 0, manifest: 0, contents: 0 }
  for (const [index, content] of contents.entries()) {
    const key = encrypted[index] ?? ''
    if (kinds.part.test(key)) {
      counts.part++
      assert.equal(content.toString('latin1', 257, 262), 'ustar', key)
      // Two blocks of zeros end a tar.
      assert.ok(content.length % 512 === 0 && content.subarray(-1024).every((byte) => byte === 0), key)
    } else {
      counts[kinds.manifest.test(key) ? 'manifest' : 'contents']++
      assert.equal(typeof JSON.parse(content.toString()), 'object', key)
    }
  }
  assert.ok(counts.part >= 6 && counts.manifest === 2 && counts.contents === 2, JSON.stringify(counts))
}

async function byPeer(row: EncryptionRow, peer: Peer): Promise<void> {
  await using chain = await Chain.open(row)
  const fast = peer.name === 'WAL-RUS' ? ['--fast'] : []
  await chain.peer(peer, 'backup-push', server.dataDir, ...fast)
  await change()
  const summaries = peer.name === 'WAL-RUS' ? ['--delta-from-wal-summaries'] : []
  await chain.peer(peer, 'backup-push', server.dataDir, ...fast, ...summaries)
  await change()
  await chain.push('--require-incremental')
  await chain.assertSame([peer], 3, 'last')
  const [, ...deltas] = await chain.backups()
  for (const name of deltas) assert.match(name, /_D_/)
}

async function byPeerRemote(row: EncryptionRow, peer: Peer): Promise<void> {
  await using chain = await Chain.open(row)
  await chain.peer(peer, 'backup-push', ...(peer.name === 'WAL-RUS' ? ['--fast'] : []))
  await change()
  await chain.push('--require-incremental')
  await chain.assertSame([peer], 2, 'last')
}

describe('encrypted backups', { skip, timeout: 600_000 }, () => {
  before(async () => {
    const settings = { summarize_wal: 'on', autovacuum: 'off' }
    server = await startPostgres({ major: 17, dataChecksums: true, settings })
    for (const table of ['touched', 'grown']) {
      await server.sql(`create table ${table} as select g as id, md5(g::text) as text from generate_series(1, 20000) g`)
    }
  })
  after(() => server[Symbol.asyncDispose]())

  for (const row of backupRows) {
    describe(row.name, () => {
      const others = peers.filter((peer) => peerSkip(peer, row) === false)
      const names = others.map(({ name }) => name).join(' and ')
      const isFirst = backupRows.find(({ method }) => method === row.method) === row
      const isLeftOut = others.length === 0 && !isFirst && !isFullRun
      const ownOptions = { skip: isLeftOut && 'no other program, and the method has its turn in another row' }
      test(`by walrx are restored by ${names || 'walrx'}`, ownOptions, () => byWalrx(row, others))
      for (const peer of peers) {
        const peerOptions = { skip: peerSkip(peer, row) }
        test(`by ${peer.name} and walrx on them are restored by both`, peerOptions, () => byPeer(row, peer))
        // What differs is the tar and not what it is encrypted with: one codec of each method.
        if (!isFirst) continue
        test(`by ${peer.name} over the protocol are restored by both`, peerOptions, () => byPeerRemote(row, peer))
      }
    })
  }
})
