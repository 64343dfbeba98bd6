/**
 * The whole life of an encrypted archive, and then a search of all that lies there for words that were in the cluster: none is
 * outside of the documents that WAL-G leaves open, and none of the cluster's own is in those. What is decrypted has every word, so the
 * search would find them. Nor is there a plain copy in temporary files, or a key in a log.
 */
import assert from 'node:assert/strict'
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, test } from 'node:test'
import { brotliDecompressSync, zstdDecompressSync } from 'node:zlib'
import type { WriteMethod } from '../../../src/compression/codec.ts'
import { decodeByReference, referenceSkip } from '../../harness/crypto/reference-tools.ts'
import { type EncryptionRow, encryptionRows, settingsOf } from '../../harness/crypto/encryption-rows.ts'
import { isFullRun } from '../../harness/extent.ts'
import { startStandby } from '../../harness/postgres/postgres-copies.ts'
import { makeServerDirectory } from '../../harness/postgres/postgres-files.ts'
import { startPostgres, type TestPostgres } from '../../harness/postgres/postgres.ts'
import { startRestored } from '../../harness/postgres/restored-server.ts'
import { until } from '../../harness/time/until.ts'
import { newServerDirectory } from '../../harness/walrx/test-workspace.ts'
import { type ProcessEnd, runWalrx, startWalrx, type WalrxProcess } from '../../harness/walrx/walrx-process.ts'
import {
  createMarked,
  insertMarked,
  loseWal,
  markedConninfo,
  markedRows,
  marks,
  neverStored,
  words,
} from './marked-cluster.ts'
import { bucketStore, directoryStore, filesBelow, type SearchedStore } from './searched-store.ts'

/** Documents that WAL-G leaves open, and walrx's own that everybody may read: what each may say. */
const openDocuments: readonly (readonly [RegExp, readonly string[]])[] = [
  [
    /^basebackups_005\/[^/]+_backup_stop_sentinel\.json$/,
    'LSN DeltaLSN DeltaFrom DeltaFullName DeltaCount PgVersion FinishLSN SystemIdentifier UncompressedSize CompressedSize ' +
      'DataCatalogSize Spec UserData FilesMetadataDisabled ChkpNum Version StartTime FinishTime DateFmt Hostname DataDir IsPermanent',
  ],
  [
    /^basebackups_005\/[^/]+\/metadata\.json$/,
    'start_time finish_time date_fmt hostname data_dir pg_version start_lsn finish_lsn is_permanent system_identifier ' +
      'uncompressed_size compressed_size user_data',
  ],
  [/^basebackups_005\/[^/]+\/files_metadata\.json$/, 'Files TarFileSets DatabasesByNames'],
  [/^walrx_005\/system\.json$/, 'SystemIdentifier WalSegmentSize'],
  [/^walrx_005\/gap\/.*\.json$/, 'Timeline StartLsn EndLsn DetectedAt Reason Host Slot'],
  [/^walrx_005\/backups\/.*\.json$/, 'owner hostname startedAt sentinel segments objects'],
].map(([pattern, keys]) => [pattern as RegExp, String(keys).split(' ')])

const probe = /^walrx_005\/probe/

/** One life: the archive, its keys, and directories that nobody else uses. */
class Life {
  readonly store: SearchedStore
  readonly root: string
  readonly row: EncryptionRow
  readonly env: Readonly<Record<string, string>>
  /** All that any walrx has printed. */
  output = ''

  private constructor(store: SearchedStore, root: string, row: EncryptionRow, env: Readonly<Record<string, string>>) {
    this.store = store
    this.root = root
    this.row = row
    this.env = env
  }

  static async open(store: SearchedStore, row: EncryptionRow): Promise<Life> {
    const root = newServerDirectory('life')
    for (const name of ['tmp', 'home', 'keys']) await mkdir(join(root, name), { recursive: true, mode: 0o777 })
    const places = { TMPDIR: join(root, 'tmp'), HOME: join(root, 'home'), NODE_COMPILE_CACHE: join(root, 'cache') }
    const settings = await settingsOf(row, join(root, 'keys'))
    return new Life(store, root, row, { ...store.env, ...settings, ...places, WALG_DELTA_MAX_STEPS: '5' })
  }

  receive(...servers: readonly TestPostgres[]): WalrxProcess {
    const flags = ['--tail-interval=50ms', '--log-level=debug', '--dbname', markedConninfo(...servers)]
    return startWalrx(['wal-receive', ...flags], { env: this.env })
  }

  ended({ stderr, stdout }: Pick<ProcessEnd, 'stderr' | 'stdout'>): void {
    this.output += stderr + stdout
  }

  async run(...args: string[]): Promise<string> {
    const end = await runWalrx(args, { env: this.env })
    this.ended(end)
    assert.equal(end.status, 0, end.stderr)
    return end.stdout
  }

  push(server: TestPostgres, ...flags: string[]): Promise<string> {
    return this.run('backup-push', '--dbname', markedConninfo(server), '--label', marks.label, ...flags)
  }
}

/** Rows, backups, a gap and a failover; the receiver and a backup are killed. Returns the number of rows. */
async function live(life: Life): Promise<number> {
  const settings = { summarize_wal: 'on', checkpoint_timeout: '1h', min_wal_size: '2MB', autovacuum: 'off' }
  await using primary = await startPostgres({ major: 17, segmentSizeMb: 1, settings })
  await using standby = await startStandby(primary, { settings })
  await createMarked(primary)
  {
    await using receiver = life.receive(primary)
    await receiver.logged('streaming')
    await insertMarked(primary, receiver)
    await life.push(primary)
    await insertMarked(primary, receiver)
    await life.push(primary, '--require-incremental')
    life.ended(await receiver.stop())
  }
  await primary.sql(`select pg_drop_replication_slot('walrx')`)
  await loseWal(primary, standby)
  {
    // It asks the primary only: the standby still has the WAL.
    await using receiver = life.receive(primary)
    await receiver.logged('WAL is gone from the server: the archive has a gap, take a new base backup')
    await receiver.logged('streaming')
    await life.push(primary, '--full')
    life.ended(await receiver.stop())
  }
  await using receiver = life.receive(primary, standby)
  void receiver.ended.then((end) => life.ended(end))
  await receiver.logged('streaming')
  await insertMarked(primary, receiver)
  await primary.kill9()
  await standby.promote()
  await receiver.logged(({ msg, timeline }) => msg === 'streaming' && timeline === 2)
  await standby.switchWal()
  const rows = await insertMarked(standby, receiver)
  await receiver.stop('SIGKILL')
  await killBackup(life, standby)
  return rows
}

/** A backup that is killed while it writes. */
async function killBackup(life: Life, server: TestPostgres): Promise<void> {
  const flags = ['--full', '--max-rate=4MB', '--dbname', markedConninfo(server), '--label', marks.label]
  await using backup = startWalrx(['backup-push', ...flags], { env: life.env })
  await until('a backup that is being written', () => life.store.isWriting())
  life.ended(await backup.stop('SIGKILL'))
}

/** No object but the open documents has any of the words, compressed or not, and those say what they may. */
async function assertHidden(life: Life): Promise<Map<string, Buffer>> {
  const encrypted = new Map<string, Buffer>()
  for (const [key, bytes] of await life.store.objects()) {
    if (probe.test(key)) continue
    const open = openDocuments.find(([pattern]) => pattern.test(key))
    if (open) assertOpen(key, bytes, open[1])
    else {
      encrypted.set(key, bytes)
      for (const readable of [bytes, ...decompressed(bytes)]) assert.deepEqual(wordsIn(readable), [], key)
    }
  }
  return encrypted
}

function assertOpen(key: string, bytes: Buffer, fields: readonly string[]): void {
  assert.deepEqual(wordsIn(bytes), [], key)
  const unknown = Object.keys(JSON.parse(bytes.toString()) as object).filter((name) => !fields.includes(name))
  assert.deepEqual(unknown, [], `${key} says more than is known`)
}

function wordsIn(bytes: Buffer): string[] {
  return words.filter((word) => bytes.includes(word))
}

/** What a codec makes of bytes that are not encrypted: nothing, where they are. */
function decompressed(bytes: Buffer): Buffer[] {
  return [zstdDecompressSync, brotliDecompressSync].flatMap((decompress) => {
    try {
      return [decompress(bytes)]
    } catch {
      return []
    }
  })
}

/** Those that are whole have, decrypted, all the words that are anywhere: the search looks for the right ones. */
async function assertThere(life: Life, encrypted: ReadonlyMap<string, Buffer>): Promise<void> {
  const folder = join(life.root, 'decrypt')
  await mkdir(folder)
  const whole = [...encrypted].filter(([key]) => !/\.tmp\./.test(key))
  const paths = await Promise.all(
    whole.map(async ([, bytes], index) => {
      const path = join(folder, String(index))
      await writeFile(path, bytes)
      return path
    }),
  )
  const isCompressed = (path: string) => !whole[paths.indexOf(path)]?.[0].endsWith('/walrx.json')
  const contents = await decodeByReference(life.row, paths, isCompressed)
  const found = new Set(contents.flatMap(wordsIn))
  assert.deepEqual(
    words.filter((word) => !found.has(word)),
    neverStored,
  )
}

async function assertRestored(life: Life, rows: number): Promise<void> {
  const directory = newServerDirectory('unhidden')
  await makeServerDirectory(directory, 0o755)
  await life.run('backup-fetch', join(directory, 'data'), 'LATEST', '--recover')
  await using restored = await startRestored(directory, 17, [], life.env)
  assert.equal(await markedRows(restored), rows)
  assert.match(await restored.log(), /restored log file "00000002.*" from archive/)
}

/** Nothing of the cluster is in files of walrx's own, and nothing of a key is in what it has printed. */
function assertNothingLeft(life: Life): void {
  for (const name of ['tmp', 'home']) {
    for (const [path, bytes] of filesBelow(join(life.root, name))) assert.deepEqual(wordsIn(bytes), [], path)
  }
  for (const text of [...Object.values(life.row.key), marks.password]) {
    if (text.length > 8) assert.ok(!life.output.includes(text), 'a key or password was printed')
  }
  assert.ok(life.output.includes('streaming'))
}

function rowOf(codec: WriteMethod): EncryptionRow {
  const row = encryptionRows.find((each) => each.codec === codec && each.method === 'libsodium')
  assert.ok(row)
  return row
}

describe('nothing of the cluster can be read in an encrypted archive', () => {
  for (const [codec, place, open] of [
    ['none', 'a directory', directoryStore],
    ['zstd', 'a directory', directoryStore],
    ['none', 'a bucket', bucketStore],
  ] as const) {
    const row = rowOf(codec)
    const skip = codec === 'zstd' && !isFullRun ? 'what is not compressed shows more; WALRX_TEST_ALL=1' : false
    test(`in ${place}, ${row.name}`, { skip, timeout: 240_000 }, async (t) => {
      await using store = await open()
      const life = await Life.open(store, row)
      const rows = await live(life)
      const encrypted = await assertHidden(life)
      const kinds = [
        /^walrx_005\/tail\//,
        /\.partial/,
        /\.history/,
        /\/tar_partitions\//,
        /\/backup_manifest/,
        /walrx\.json/,
      ]
      // The part of the killed backup, where the store shows it.
      if (open === directoryStore) kinds.push(/\/tar_partitions\/.*\.tmp\./)
      for (const kind of kinds)
        assert.ok(
          [...encrypted.keys()].some((key) => kind.test(key)),
          String(kind),
        )
      assert.ok([...(await store.objects()).keys()].some((key) => key.startsWith('walrx_005/gap/')))
      const reason = referenceSkip(row)
      if (reason === false) await assertThere(life, encrypted)
      else t.diagnostic(`what is encrypted was not decrypted: ${reason}`)
      await life.run('wal-finalize', '--force')
      await assertHidden(life)
      await assertRestored(life, rows)
      assertNothingLeft(life)
    })
  }
})
