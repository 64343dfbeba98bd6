/** Chains that WAL-G and WAL-RUS really wrote are restored to exactly the files that were there. */
import assert from 'node:assert/strict'
import { cp, mkdtemp, readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterEach, beforeEach, describe, test } from 'node:test'
import { goldenArchive } from '../../harness/made/golden-backups.ts'
import { expectedRestore, goldenChains, restoredFiles, tablespaceOf } from '../../harness/made/golden-restores.ts'
import { runWalrx } from '../../harness/walrx/walrx-process.ts'

let root: string
beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'walrx-golden-chains-'))
})
afterEach(() => rm(root, { recursive: true, force: true }))

for (const [archive, backups] of goldenChains) {
  const prefix = ['--file-prefix', fileURLToPath(goldenArchive(archive))]
  describe(archive, () => {
    for (const [index, backup] of backups.entries()) {
      test(`${backup} is whole, and restored file for file`, async () => {
        const { directories, files, leftovers } = expectedRestore(archive, backup)
        // WAL-RUS leaves files of one dropped table, and of three rewritten ones.
        const leftCount = archive.startsWith('walrus') ? [0, 2, 10][index] : 0
        assert.equal(leftovers.length, leftCount, leftovers.join(' '))
        assert.ok(files.size > 380)

        const verified = await runWalrx(['backup-verify', backup, '--no-record', '--json', ...prefix])
        assert.equal(verified.status, 0, verified.stderr)
        const summary = JSON.parse(verified.stdout) as Record<string, unknown>
        assert.deepEqual([summary.backups, summary.files], [backups.slice(0, index + 1), files.size])
        assert.equal(summary.increments, [0, 21, 37][index])

        const data = join(root, 'data')
        const mapping = ['-T', `${tablespaceOf(archive, backup)}=${join(root, 'ts')}`]
        const planned = await runWalrx(['backup-fetch', data, backup, '--dry-run', ...mapping, ...prefix])
        assert.equal(planned.status, 0, planned.stderr)
        assert.deepEqual(await readdir(root), [])
        const fetched = await runWalrx(['backup-fetch', data, backup, ...mapping, ...prefix])
        assert.equal(fetched.status, 0, fetched.stderr)
        const title = [
          / is restored/,
          / \(a delta on base_0+10+2\) is restored/,
          / \(2 deltas on base_0+10+2\) is restored/,
        ]
        assert.match(fetched.stdout, title[index]!)

        const restored = await restoredFiles(data)
        // It names the folder that this tablespace was mapped to.
        const isSame = ([path]: readonly [string, string]) => path !== 'tablespace_map'
        const sorted = (sums: ReadonlyMap<string, string>) => new Map([...sums].filter(isSame).sort())
        assert.deepEqual(sorted(restored.files), sorted(files))
        assert.deepEqual([...restored.directories].sort(), directories.filter((path) => path !== '').sort())
      })
    }

    test('single files are restored from the whole chain', async () => {
      const backup = backups[2]!
      const { files } = expectedRestore(archive, backup)
      const fetched = await runWalrx(['backup-fetch', join(root, 'data'), backup, '--mask', 'base/5/1*', ...prefix])
      assert.equal(fetched.status, 0, fetched.stderr)
      const expected = [...files].filter(([path]) => /^base\/5\/1[^/]*$/.test(path))
      assert.ok(expected.length > 50)
      assert.deepEqual([...(await restoredFiles(join(root, 'data'))).files].sort(), expected.sort())
    })
  })
}

test('a restore without recovery settings warns that the archive lacks the WAL for any recovery', async () => {
  const [[archive, backups]] = goldenChains as [(typeof goldenChains)[number]]
  const copy = join(root, 'archive')
  await cp(goldenArchive(archive), copy, { recursive: true })
  const fetch = ['backup-fetch', join(root, 'data'), backups[2]!, '--dry-run', '--file-prefix', copy]
  const whole = await runWalrx(fetch)
  assert.deepEqual([whole.status, whole.stderr.includes('lacks WAL')], [0, false], whole.stderr)
  await rm(join(copy, 'wal_005'), { recursive: true })
  const lacking = await runWalrx(fetch)
  assert.equal(lacking.status, 0, lacking.stderr)
  assert.match(lacking.stderr, /starts in segment 0+10+6, which the archive lacks.*lacks WAL that the backup needs/)
  const masked = await runWalrx([...fetch, '--mask', 'base/5/1*'])
  assert.deepEqual([masked.status, masked.stderr.includes('lacks WAL')], [0, false])
})

test('a dry run into an empty directory is JSON with --json, and an empty destination is refused', async () => {
  const [archive, backups] = goldenChains[0]!
  const prefix = ['--file-prefix', fileURLToPath(goldenArchive(archive)), '--dry-run']
  const destination = join(root, 'data')
  const plain = await runWalrx(['backup-fetch', destination, backups[1]!, ...prefix])
  const [, toRead, toWrite] = /: (\d+) bytes to read, (\d+) to write$/m.exec(plain.stdout) ?? []
  for (const flags of [[], ['--delta']]) {
    const { status, stderr, stdout } = await runWalrx([
      'backup-fetch',
      destination,
      backups[1]!,
      '--json',
      ...flags,
      ...prefix,
    ])
    assert.equal(status, 0, stderr)
    const { delta, ...said } = JSON.parse(stdout) as Record<string, unknown>
    assert.deepEqual(said, {
      backup_name: backups[1],
      backups: backups.slice(0, 2),
      destination,
      bytes_to_read: Number(toRead),
      bytes_to_write: Number(toWrite),
    })
    assert.equal((delta as { read_bytes?: number } | undefined)?.read_bytes, flags[0] && Number(toRead))
    const empty = await runWalrx(['backup-fetch', '', backups[1]!, ...flags, ...prefix])
    assert.equal(empty.status, 2)
    assert.match(empty.stderr, /DEST is empty/)
  }
})
