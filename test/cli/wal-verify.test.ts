/** `walrx wal-verify` in a cron job: what ends it with 0. */
import assert from 'node:assert/strict'
import { cp, mkdir, mkdtemp, readdir, rm, truncate, unlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { goldenArchive } from '../harness/made/golden-backups.ts'
import { runWalrx } from '../harness/walrx/walrx-process.ts'

interface Verified {
  readonly integrity: { readonly status: string; readonly problems: readonly string[]; readonly details: unknown }
  readonly timeline: { readonly status: string; readonly problems: readonly string[] }
}

const sound = new URL(goldenArchive('walg-remote-zstd')).pathname
const full = 'base_000000010000000000000002'

async function directory(t: TestContext): Promise<string> {
  const path = await mkdtemp(join(tmpdir(), 'walrx-verify-'))
  t.after(() => rm(path, { recursive: true }))
  return path
}

async function copyOfSound(t: TestContext): Promise<string> {
  const archive = await directory(t)
  await cp(sound, archive, { recursive: true })
  return archive
}

async function verify(archive: string, ...args: string[]) {
  const run = await runWalrx(['wal-verify', '--json', '--pg-wal-size', '16', '--file-prefix', archive, ...args])
  return { status: run.status, stderr: run.stderr, ...(JSON.parse(run.stdout) as Verified) }
}

test('an archive with a backup and its WAL is OK', async () => {
  const { integrity, status, timeline } = await verify(sound)
  assert.deepEqual([status, integrity.status, integrity.problems, timeline.problems], [0, 'OK', [], []])
})

test('an archive of nothing is not verified, whichever check is asked for', async (t) => {
  const archive = await directory(t)
  const { integrity, status, timeline } = await verify(archive)
  const [noWal, noBackup] = [
    'the archive holds no WAL: there is nothing to verify',
    'there is no backup: nothing can be restored',
  ]
  assert.deepEqual([status, integrity.status, integrity.problems], [5, 'WARNING', [noWal, noBackup]])
  assert.deepEqual([timeline.status, timeline.problems], ['WARNING', [noWal]])
  const alone = await runWalrx(['wal-verify', 'timeline', '--file-prefix', archive])
  assert.equal(alone.status, 5)
  assert.match(alone.stdout, /^problem: the archive holds no WAL: /m)
  // Up to a position it is as WAL-G has it, and fails all the same.
  const given = await verify(archive, '--timeline', '1', '--lsn', '0/3000028')
  assert.deepEqual([given.status, given.integrity.status, given.integrity.problems.length], [5, 'WARNING', 2])
})

test('WAL without a backup is not verified', async (t) => {
  const archive = await copyOfSound(t)
  await rm(join(archive, 'basebackups_005'), { recursive: true })
  const { integrity, status } = await verify(archive)
  assert.equal(status, 5)
  assert.deepEqual(integrity.problems, ['there is no backup: nothing can be restored'])
})

test('a segment of 0 bytes is found, as for WAL-G, and ends it with 5', async (t) => {
  const archive = await copyOfSound(t)
  const before = await verify(archive)
  const segments = (await readdir(join(archive, 'wal_005'))).filter((name) => /^[0-9A-F]{24}\.zst$/.test(name)).sort()
  // The last one: without it the archive would only be shorter.
  const emptied = segments.at(-1) ?? ''
  await truncate(join(archive, 'wal_005', emptied), 0)
  const { integrity, status } = await verify(archive)
  assert.deepEqual([integrity.status, integrity.details], [before.integrity.status, before.integrity.details])
  assert.equal(status, 5)
  assert.deepEqual(integrity.problems, [`${emptied.slice(0, 24)} is an object of 0 bytes: no recovery passes that`])
  const text = await runWalrx(['wal-verify', '--pg-wal-size', '16', '--file-prefix', archive])
  assert.match(text.stdout, new RegExp(`^problem: ${emptied.slice(0, 24)} is an object of 0 bytes`, 'm'))
})

test('a first backup that is broken is named; when none can be restored, or it was asked for, it ends with 5', async (t) => {
  const archive = await copyOfSound(t)
  // A second full backup, which nothing builds on.
  const parts = join(archive, 'basebackups_005', full, 'tar_partitions')
  await cp(join(archive, 'basebackups_005', full), join(archive, 'basebackups_005', `${full.slice(0, -1)}3`), {
    recursive: true,
  })
  const sentinel = `${full}_backup_stop_sentinel.json`
  await cp(
    join(archive, 'basebackups_005', sentinel),
    join(archive, 'basebackups_005', sentinel.replace(full, `${full.slice(0, -1)}3`)),
  )
  await unlink(join(parts, 'pg_control.tar.zst'))
  const noted = await verify(archive)
  assert.deepEqual([noted.status, noted.integrity.problems], [0, []])
  assert.match(noted.stderr, new RegExp(`${full} cannot be restored: it has no part with pg_control`))
  const asked = await verify(archive, '--backup-name', full)
  assert.deepEqual(asked.integrity.problems, [`${full} cannot be restored: it has no part with pg_control`])
  assert.equal(asked.status, 5)
  await truncate(join(parts.replace(full, `${full.slice(0, -1)}3`), 'part_001.tar.zst'), 0)
  const none = await verify(archive)
  assert.equal(none.status, 5)
  assert.match(none.integrity.problems.join(), /^no backup can be restored: /)
})

test('a damaged marker or history is named after the report, with what to do', async (t) => {
  const archive = await copyOfSound(t)
  await mkdir(join(archive, 'walrx_005'), { recursive: true })
  await writeFile(join(archive, 'walrx_005', 'system.json'), '{')
  const { integrity, status, stderr } = await verify(archive)
  assert.deepEqual([status, integrity.status], [5, 'OK'])
  assert.match(stderr, /walrx_005\/system\.json, which names the cluster of the archive, is not a JSON object/)
  assert.match(stderr, /remove it with walrx st rm --force walrx_005\/system\.json --file-prefix=/)
})
