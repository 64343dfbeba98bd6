/**
 * WAL-G and WAL-RUS list, show and mark the same backups as walrx does, and read what walrx writes of them. Runs where
 * WALG_BIN and WALRUS_BIN name their programs.
 */
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { cpSync, mkdirSync, mkdtempSync, readdirSync, rmSync, utimesSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, test } from 'node:test'
import { promisify } from 'node:util'
import { FileStorage } from '../../src/storage/file/file-storage.ts'
import { BackupArchive } from '../../src/walg/backup/backup-archive.ts'
import { sentinelKey } from '../../src/walg/backup/backup-names.ts'
import { parseBackupTime } from '../../src/walg/backup/backup-time.ts'
import { archiveFolders } from '../../src/walg/names.ts'
import { goldenArchive, goldenBackups } from '../harness/made/golden-backups.ts'
import { runWalrx } from '../harness/walrx/walrx-process.ts'

const run = promisify(execFile)
const tools = { walg: process.env.WALG_BIN, walrus: process.env.WALRUS_BIN }
const skipWalg = { skip: tools.walg ? false : 'no program of WAL-G given' }
const skipWalrus = { skip: tools.walrus ? false : 'no program of WAL-RUS given' }

let folder: string
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'walrx-catalogue-'))
})
afterEach(() => rmSync(folder, { recursive: true, force: true }))

const root = () => join(folder, 'archive')

/** A copy of a golden archive, with its sentinels stored a minute after each other. */
function copyArchive(name: string): string[] {
  mkdirSync(root())
  cpSync(new URL('basebackups_005', goldenArchive(name)), join(root(), 'basebackups_005'), { recursive: true })
  const backups = goldenBackups.filter(([archive]) => archive === name).map(([, backup]) => backup)
  for (const [index, backup] of backups.entries()) {
    const seconds = Date.UTC(2024, 4, 1, 10, index) / 1000 + 0.25
    utimesSync(join(root(), sentinelKey(backup)), seconds, seconds)
  }
  return backups
}

async function tool(name: 'walg' | 'walrus', ...args: string[]): Promise<string> {
  const env = { PATH: process.env.PATH, HOME: folder, TZ: 'UTC', WALG_FILE_PREFIX: root() }
  const { stdout } = await run(tools[name] ?? '', args, { env, timeout: 120_000, maxBuffer: 64 * 1024 * 1024 })
  return stdout
}

async function walrx(...args: string[]): Promise<string> {
  const { status, stderr, stdout } = await runWalrx([...args, '--file-prefix', root()])
  assert.equal(status, 0, stderr)
  return stdout
}

interface Row {
  readonly backup_name: string
  readonly time: string
  readonly is_permanent?: boolean
}

const rows = (text: string) => JSON.parse(text) as Row[]

/** WAL-RUS prints three, six or nine digits of a second; the time is the same. */
function withExactTimes(sentinel: unknown): object {
  const { StartTime, FinishTime, ...rest } = sentinel as { StartTime: string; FinishTime: string }
  return { ...rest, times: [parseBackupTime(StartTime), parseBackupTime(FinishTime)] }
}

/** DatabasesByNames belongs to WAL-G's partial restore: walrx neither reads nor writes it. */
function withoutDatabases(shown: Record<string, unknown>): object {
  const files = { ...(shown.files_metadata as Record<string, unknown> | undefined) }
  delete files.DatabasesByNames
  return { ...shown, files_metadata: files }
}

/** By backup, what a tool takes for permanent. */
const marks = (text: string, key: 'backup_name' | 'name') =>
  Object.fromEntries((JSON.parse(text) as Record<string, unknown>[]).map((row) => [row[key], row.is_permanent]))

for (const archive of new Set(goldenBackups.map(([name]) => name))) {
  describe(`backups of ${archive}`, () => {
    test("are listed byte for byte as by WAL-G's own table and JSON", skipWalg, async () => {
      copyArchive(archive)
      for (const options of [[], ['--json'], ['--detail'], ['--detail', '--json']]) {
        assert.equal(
          (await walrx('backup-list', ...options)).trim(),
          (await tool('walg', 'backup-list', ...options)).trim(),
          options.join(' '),
        )
      }
    })

    test('have the newest that WAL-RUS has, and its sentinel and files', skipWalrus, async () => {
      copyArchive(archive)
      const theirs = JSON.parse(await tool('walrus', 'backup-show', 'LATEST', '--json')) as Record<string, unknown>
      const ours = JSON.parse(await walrx('backup-show', 'LATEST', '--json', '--detail')) as Record<string, unknown>
      assert.equal(ours.name, theirs.name)
      assert.deepEqual(withExactTimes(ours.sentinel), withExactTimes(theirs.sentinel))
    })
  })
}

test('what walrx writes again of a backup is the same to WAL-G and WAL-RUS', async () => {
  const backups = copyArchive('walg-local-lz4-deltas')
  const shown = async () => ({
    walg: tools.walg && (await tool('walg', 'backup-list', '--detail', '--json')),
    walrus: tools.walrus && (await Promise.all(backups.map((name) => tool('walrus', 'backup-show', name, '--json')))),
  })
  const sorted = ({ walg, walrus }: Awaited<ReturnType<typeof shown>>) => ({
    walg: walg && rows(walg).map((row) => ({ ...row, time: '' })),
    walrus: walrus && walrus.map((text) => withoutDatabases(JSON.parse(text) as Record<string, unknown>)),
  })
  const before = sorted(await shown())
  const storage = new FileStorage({ folders: archiveFolders, root: root() })
  const written = new BackupArchive(storage)
  for (const name of backups) {
    const sentinel = await written.readSentinel(name)
    const metadata = await written.readMetadata(name)
    const files = await written.readFilesMetadata(name, sentinel)
    assert.ok(metadata)
    await written.putMetadata(name, metadata)
    if (files.kind === 'found') await written.putFilesMetadata(name, files.metadata)
    await written.putSentinel(name, sentinel)
  }
  await storage.close()
  const after = sorted(await shown())
  assert.deepEqual(after.walg, before.walg)
  assert.deepEqual(after.walrus, before.walrus)
})

describe('a mark', () => {
  test('by walrx on the newest is seen by both tools, and LATEST stays', async () => {
    const backups = copyArchive('walrus-local-zstd-deltas')
    const newest = backups.at(-1) ?? ''
    await walrx('backup-mark', 'LATEST')
    if (tools.walg) {
      const seen = marks(await tool('walg', 'backup-list', '--detail', '--json'), 'backup_name')
      for (const name of backups) assert.equal(seen[name], true, name)
      assert.equal(rows(await tool('walg', 'backup-list', '--json')).at(-1)?.backup_name, newest)
    }
    if (tools.walrus) {
      const seen = marks(await tool('walrus', 'backup-list', '--json'), 'name')
      assert.deepEqual(
        backups.map((name) => seen[name]),
        [false, false, true],
      )
    }
  })

  test('by walrx on old sentinels too is seen by both tools, and the order stays', async () => {
    const backups = copyArchive('walrus-local-zstd-deltas')
    const newest = backups.at(-1) ?? ''
    await walrx('backup-mark', backups[0] ?? '', '--rewrite-sentinels')
    if (tools.walg) {
      assert.deepEqual(
        rows(await tool('walg', 'backup-list', '--json')).map((row) => row.backup_name),
        backups,
      )
    }
    if (tools.walrus) {
      const seen = marks(await tool('walrus', 'backup-list', '--json'), 'name')
      assert.deepEqual(
        backups.map((name) => seen[name]),
        [true, false, false],
      )
      assert.equal(
        (JSON.parse(await tool('walrus', 'backup-show', 'LATEST', '--json')) as { name: string }).name,
        newest,
      )
    }
    await walrx('backup-mark', '-i', backups[0] ?? '', '--rewrite-sentinels')
    if (tools.walg) {
      const seen = marks(await tool('walg', 'backup-list', '--detail', '--json'), 'backup_name')
      for (const name of backups) assert.equal(seen[name], false, name)
    }
    if (tools.walrus) {
      for (const seen of Object.values(marks(await tool('walrus', 'backup-list', '--json'), 'name')))
        assert.equal(seen, false)
    }
    const left = readdirSync(root(), { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile())
    assert.ok(left.every(({ parentPath }) => parentPath.startsWith(join(root(), 'basebackups_005'))))
  })

  test('by WAL-G is seen by walrx', skipWalg, async () => {
    const backups = copyArchive('walg-local-lz4-deltas')
    await tool('walg', 'backup-mark', backups[1] ?? '')
    const seen = marks(await walrx('backup-list', '--detail', '--json'), 'backup_name')
    assert.deepEqual(
      backups.map((name) => seen[name]),
      [true, true, false],
    )
  })

  test('by WAL-RUS is seen by walrx', skipWalrus, async () => {
    const backups = copyArchive('walrus-local-zstd-deltas')
    await tool('walrus', 'backup-mark', backups[2] ?? '')
    const seen = marks(await walrx('backup-list', '--detail', '--json'), 'backup_name')
    assert.deepEqual(
      backups.map((name) => seen[name]),
      [false, false, true],
    )
    assert.match(await walrx('backup-show', backups[2] ?? ''), /permanent +yes, but only by its sentinel: WAL-G/)
  })
})
