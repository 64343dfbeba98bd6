/** Full backups that WAL-G and WAL-RUS really wrote are restored to exactly the files that their own restore makes. */
import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import {
  cp,
  mkdir,
  mkdtemp,
  readdir,
  readFile,
  readlink,
  rm,
  stat,
  symlink,
  truncate,
  writeFile,
} from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterEach, beforeEach, describe, test } from 'node:test'
import { goldenArchive } from '../../harness/made/golden-backups.ts'
import { runWalrx } from '../../harness/walrx/walrx-process.ts'

const name = 'base_000000010000000000000002'

const archives = ['walg-remote-zstd', 'walrus-remote-zstd', 'walg-local-lz4-deltas']

describe('backup-fetch', () => {
  let root: string
  let archive: string

  beforeEach(async () => {
    root = await mkdtemp(join(tmpdir(), 'walrx-fetch-'))
    archive = join(root, 'archive')
  })

  afterEach(() => rm(root, { recursive: true, force: true }))

  async function copy(from: string): Promise<string> {
    await cp(fileURLToPath(goldenArchive(from)), archive, { recursive: true })
    return join(archive, 'basebackups_005', name)
  }

  /** Where the backup's tablespace was. */
  async function tablespace(): Promise<string> {
    const sentinel = await readFile(join(archive, `basebackups_005/${name}_backup_stop_sentinel.json`), 'utf8')
    return /"loc":"([^"]*)"/.exec(sentinel)?.[1] ?? ''
  }

  async function fetch(...args: string[]) {
    const mapping = `${await tablespace()}=${join(root, 'ts')}`
    return runWalrx(['backup-fetch', join(root, 'data'), name, '--file-prefix', archive, '-T', mapping, ...args])
  }

  const verify = () => runWalrx(['backup-verify', name, '--file-prefix', archive])

  test('backup-verify records its result, unless it is told not to', { timeout: 120_000 }, async () => {
    await copy(archives[0] ?? '')
    const record = join(archive, 'walrx_005', 'verified', `${name}.json`)
    const unrecorded = await runWalrx(['backup-verify', name, '--no-record', '--file-prefix', archive])
    assert.equal(unrecorded.status, 0, unrecorded.stderr)
    await assert.rejects(readFile(record))
    assert.equal((await verify()).status, 0)
    const whole = JSON.parse(await readFile(record, 'utf8')) as { result: string; bytes: number; backups: unknown[] }
    assert.deepEqual([whole.result, whole.bytes > 1_000_000, whole.backups.length], ['whole', true, 1])
    const [part = ''] = await readdir(join(archive, 'basebackups_005', name, 'tar_partitions'))
    await rm(join(archive, 'basebackups_005', name, 'tar_partitions', part))
    assert.equal((await verify()).status, 5)
    const damaged = JSON.parse(await readFile(record, 'utf8')) as { result: string; problem: string }
    assert.equal(damaged.result, 'damaged')
    assert.match(damaged.problem, /lacks .*, which one of its parts should hold/)
    const shown = await runWalrx(['info', '--file-prefix', archive])
    assert.equal(shown.status, 0, shown.stderr)
    assert.match(shown.stdout, new RegExp(`^${name} .* DAMAGED$`, 'm'))
  })

  for (const from of archives) {
    test(`of ${from} makes the files that its writer makes`, { timeout: 120_000 }, async () => {
      await copy(from)
      const { status, stderr } = await fetch()
      assert.equal(status, 0, stderr)
      const list = await readFile(new URL(`../expected/${name}.sha256`, goldenArchive(from)), 'utf8')
      const expected = new Map(
        list
          .trim()
          .split('\n')
          .map((line) => [line.slice(68), line.slice(0, 64)] as const),
      )
      assert.ok(expected.size > 300)
      for (const [path, sum] of expected) {
        // It names the folder that this tablespace was mapped to.
        if (path === 'tablespace_map') continue
        const bytes = await readFile(join(root, 'data', path))
        assert.equal(createHash('sha256').update(bytes).digest('hex'), sum, path)
      }
      const files = await readdir(join(root, 'data'), { recursive: true })
      assert.ok(!files.includes('walrx_restore_incomplete'))
      assert.equal(await readlink(join(root, 'data/pg_tblspc/16384')), join(root, 'ts'))
      assert.match(
        await readFile(join(root, 'data/tablespace_map'), 'utf8'),
        new RegExp(`^16384 ${join(root, 'ts')}\n$`),
      )
      assert.equal((await stat(join(root, 'data'))).mode & 0o777, 0o700)
      assert.equal((await verify()).status, 0)
    })
  }

  test('refuses what is there already, and a folder of a tablespace that holds something', async () => {
    await copy('walg-remote-zstd')
    assert.equal((await fetch()).status, 0)
    const again = await fetch()
    assert.equal(again.status, 9)
    assert.match(again.stderr, /data is not empty/)
    await rm(join(root, 'data'), { recursive: true })
    const used = await fetch()
    assert.equal(used.status, 9)
    assert.match(used.stderr, /ts, which is not empty/)
    assert.ok(!(await readdir(root)).includes('data'), 'nothing was made')
  })

  // wal-g #719, pgbackrest #1784
  test('does not count what a file system needs: lost+found, and an empty pg_wal', async () => {
    await copy('walg-remote-zstd')
    await mkdir(join(root, 'data/pg_wal/lost+found'), { recursive: true })
    for (const path of ['data/lost+found', 'ts/lost+found']) await mkdir(join(root, path), { recursive: true })
    const { status, stderr } = await fetch()
    assert.equal(status, 0, stderr)
    for (const name of ['archive_status', 'lost+found'])
      assert.ok((await readdir(join(root, 'data/pg_wal'))).includes(name))
    assert.equal((await readdir(join(root, 'ts'))).length, 2)
  })

  test('uses a pg_wal that is a link to an empty directory, and no other one', async () => {
    await copy('walg-remote-zstd')
    for (const path of ['data', 'wal/lost+found']) await mkdir(join(root, path), { recursive: true })
    await symlink(join(root, 'none'), join(root, 'data/pg_wal'))
    const dangling = await fetch()
    assert.equal(dangling.status, 9)
    assert.match(dangling.stderr, /pg_wal is a link to a directory that is not there/)
    await rm(join(root, 'data/pg_wal'))
    await symlink(join(root, 'wal'), join(root, 'data/pg_wal'))
    await writeFile(join(root, 'wal/000000010000000000000001'), '')
    assert.match((await fetch()).stderr, /pg_wal is not empty/)
    await rm(join(root, 'wal/000000010000000000000001'))
    assert.match(
      (await fetch('--waldir', join(root, 'other'))).stderr,
      /pg_wal is there already, and --waldir is given/,
    )
    const { status, stderr } = await fetch()
    assert.equal(status, 0, stderr)
    for (const name of ['archive_status', 'lost+found']) assert.ok((await readdir(join(root, 'wal'))).includes(name))
    assert.ok(!(await readdir(root)).includes('none'))
  })

  test('makes pg_wal a link with --waldir, as pg_basebackup does', async () => {
    await copy('walg-remote-zstd')
    for (const [directory, message] of [
      ['wal', /--waldir wal is not an absolute path/],
      [join(root, 'data/pg_wal'), /is in the data directory/],
      [archive, /for the WAL is not empty/],
    ] as const)
      assert.match((await fetch('--waldir', directory)).stderr, message)
    const { status, stderr, stdout } = await fetch('--waldir', join(root, 'far/wal'))
    assert.equal(status, 0, stderr)
    assert.equal(await readlink(join(root, 'data/pg_wal')), join(root, 'far/wal'))
    assert.ok((await readdir(join(root, 'far/wal'))).includes('archive_status'))
    if (process.getuid?.() === 0) assert.match(stdout, new RegExp(`chown -R postgres: .*${join(root, 'far/wal')}`))
  })

  test('names another directory for a tablespace by a mapping that works when it is pasted', async () => {
    await copy('walg-remote-zstd')
    await mkdir(join(root, 'ts/used'), { recursive: true })
    const { stderr } = await fetch()
    const [, mapping = ''] = /--tablespace-mapping (\S+?)["\s]/.exec(stderr) ?? []
    assert.equal(mapping, `${await tablespace()}=/another/directory`)
    const other = mapping.replace('/another/directory', join(root, 'other'))
    const args = ['backup-fetch', join(root, 'data'), name, '--file-prefix', archive, '--tablespace-mapping', other]
    assert.equal((await runWalrx(args)).status, 0)
    assert.equal(await readlink(join(root, 'data/pg_tblspc/16384')), join(root, 'other'))
  })

  test('restores the files of a mask, and nothing else', async () => {
    await copy('walg-remote-zstd')
    const { status, stderr } = await runWalrx([
      'backup-fetch',
      join(root, 'data'),
      name,
      '--file-prefix',
      archive,
      '--mask',
      'base/5/125?',
    ])
    assert.equal(status, 0, stderr)
    const files = await readdir(join(root, 'data'), { recursive: true })
    const list = await readFile(new URL(`../expected/${name}.sha256`, goldenArchive('walg-remote-zstd')), 'utf8')
    const expected = [...list.matchAll(/ \.?\/?(base\/5\/125.)$/gm)].map(([, path]) => path)
    assert.ok(expected.length > 1)
    assert.deepEqual(files.sort(), ['base', 'base/5', ...expected.sort()])
  })

  test('refuses a mask that fits nothing, and one with a recovery', async () => {
    await copy('walg-remote-zstd')
    const fetched = (...args: string[]) =>
      runWalrx(['backup-fetch', join(root, 'data'), name, '--file-prefix', archive, '--mask', 'no/such', ...args])
    const recovering = await fetched('--recover')
    assert.equal(recovering.status, 2)
    assert.match(recovering.stderr, /--mask restores single files/)
    const nothing = await fetched()
    assert.equal(nothing.status, 2)
    assert.match(nothing.stderr, /no file of base_000000010000000000000002 matches the mask/)
  })

  /** What is done to a backup, and what is said of it. */
  const damages: readonly (readonly [what: string, (folder: string) => Promise<void>, RegExp])[] = [
    [
      'a flipped bit in a part',
      async (folder) => {
        const path = join(folder, 'tar_partitions/part_001.tar.zst')
        const bytes = await readFile(path)
        bytes[bytes.length >> 1]! ^= 16
        await writeFile(path, bytes)
      },
      /tar_partitions\/part_001\.tar\.zst/,
    ],
    [
      'a part that is cut short',
      (folder) => truncate(join(folder, 'tar_partitions/part_001.tar.zst'), 5000),
      /tar_partitions\/part_001\.tar\.zst/,
    ],
    [
      'a part that is gone, by the files that were in it',
      (folder) => rm(join(folder, 'tar_partitions/part_002.tar.zst')),
      /lacks base\/5\/4163/,
    ],
    ['no pg_control', (folder) => rm(join(folder, 'tar_partitions/pg_control.tar.zst')), /no pg_control\.tar/],
    ['no table of files', (folder) => rm(join(folder, 'files_metadata.json')), /files_metadata\.json is missing/],
    [
      'a file that no part holds',
      async (folder) => {
        const path = join(folder, 'files_metadata.json')
        const text = await readFile(path, 'utf8')
        await writeFile(
          path,
          text.replace(
            '"Files":{',
            '"Files":{"base/5/99999":{"IsIncremented":false,"IsSkipped":false,"MTime":"2026-01-01T00:00:00Z"},',
          ),
        )
      },
      /lacks base\/5\/99999/,
    ],
  ]
  for (const [what, damage, says] of damages) {
    test(`finds ${what}, and leaves nothing that starts`, async () => {
      await damage(await copy('walg-remote-zstd'))
      const verified = await verify()
      assert.notEqual(verified.status, 0)
      assert.match(verified.stderr, says)
      const fetched = await fetch()
      assert.notEqual(fetched.status, 0)
      assert.match(fetched.stderr, says)
      const left: string[] = await readdir(join(root, 'data'), { recursive: true }).catch(() => [])
      assert.ok(!left.includes('global/pg_control'))
    })
  }
})
