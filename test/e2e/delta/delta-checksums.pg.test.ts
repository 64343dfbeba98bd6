/**
 * pg_checksums --enable between two backups (postgres 724477d67e, barman #963): it changes every page without WAL, so that
 * a delta on the backup before would be restored to pages that the server calls invalid.
 */
import assert from 'node:assert/strict'
import { mkdir, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { isInDepth } from '../../harness/extent.ts'
import { switchChecksums, withChecksums } from '../../harness/made/made-control.ts'
import { makeServerDirectory } from '../../harness/postgres/postgres-files.ts'
import { startPostgres, type TestPostgres } from '../../harness/postgres/postgres.ts'
import { newServerDirectory } from '../../harness/walrx/test-workspace.ts'
import { runWalrx } from '../../harness/walrx/walrx-process.ts'
import { serverTar } from '../../backup/parts/tars.ts'

interface Printed {
  readonly backup_name: string
  readonly delta_from: string | null
  readonly full_because: { readonly code: string; readonly message: string } | null
}

async function newArchive(): Promise<string> {
  const root = newServerDirectory('delta-checksums')
  await makeServerDirectory(root, 0o755)
  await mkdir(join(root, 'archive'))
  return join(root, 'archive')
}

function run(command: string, server: TestPostgres, archive: string, args: readonly string[] = []) {
  const all = [command, '--file-prefix', archive, '--dbname', server.conninfo(), '--json', ...args]
  return runWalrx(all, { env: { WALG_DELTA_MAX_STEPS: '5' } })
}

/** The pages of the tests' servers have no checksums, or wrong ones, after a switch of pg_control alone. */
const unverified = ['--no-wait', '--compression-method', 'none', '--no-verify']

async function push(server: TestPostgres, archive: string): Promise<Printed> {
  const end = await run('backup-push', server, archive, unverified)
  assert.equal(end.status, 0, end.stderr)
  return JSON.parse(end.stdout) as Printed
}

async function switchAndStart(server: TestPostgres, checksums: number): Promise<void> {
  await server.stop()
  await switchChecksums(server.dataDir, checksums)
  await server.start()
  await server.checkpoint()
}

for (const major of [17, 18] as const) {
  if (!isInDepth(major)) continue
  test(`PostgreSQL ${major}: checksums switched on, off and on again`, { timeout: 300_000 }, async () => {
    const settings = { summarize_wal: 'on', ignore_checksum_failure: 'on' }
    await using server = await startPostgres({ major, settings })
    const archive = await newArchive()
    const full = await push(server, archive)
    assert.equal((await push(server, archive)).delta_from, full.backup_name)
    await switchAndStart(server, 1)

    const because = /was taken with data_checksums = off, and the server has on: pages that have not changed/
    const refused = await run('backup-push', server, archive, [...unverified, '--require-incremental'])
    assert.equal(refused.status, 2, refused.stderr)
    assert.match(refused.stderr, because)
    const plan = await run('backup-plan', server, archive)
    assert.equal(plan.status, 0, plan.stderr)
    assert.equal((JSON.parse(plan.stdout) as Printed).full_because?.code, 'checksums')
    const second = await push(server, archive)
    assert.deepEqual([second.delta_from, second.full_because?.code], [null, 'checksums'])
    assert.match(second.full_because?.message ?? '', because)

    assert.equal((await push(server, archive)).delta_from, second.backup_name)
    await switchAndStart(server, 0)
    const off = await push(server, archive)
    assert.notEqual(off.delta_from, null)
    assert.equal((await runWalrx(['backup-verify', off.backup_name, '--file-prefix', archive])).status, 0)
    await switchAndStart(server, 1)
    const again = await push(server, archive)
    assert.deepEqual([again.delta_from, again.full_because?.code], [null, 'checksums'])
    await rm(join(archive, '..'), { recursive: true })
  })
}

test('a chain over a switch is neither whole nor restored, from any writer', { timeout: 120_000 }, async () => {
  await using server = await startPostgres({ major: 17, settings: { summarize_wal: 'on' } })
  const archive = await newArchive()
  const full = await push(server, archive)
  const delta = await push(server, archive)
  assert.equal(delta.delta_from, full.backup_name)
  // As WAL-G leaves such a chain: with a pg_control that says on, and without a walrx.json.
  const folder = join(archive, 'basebackups_005', delta.backup_name)
  const tar = join(folder, 'tar_partitions', 'pg_control.tar')
  const control = withChecksums((await readFile(tar)).subarray(512, 512 + 8192), 1)
  await writeFile(tar, serverTar([{ name: 'global/pg_control', kind: 'file', content: control }]))
  await rm(join(folder, 'walrx.json'))

  const prefix = ['--file-prefix', archive]
  const data = join(archive, '..', 'data')
  const says = `${delta.backup_name} was taken with data_checksums = on, and ${full.backup_name}, which it builds on, with off`
  for (const args of [
    ['backup-verify', 'LATEST'],
    ['backup-fetch', data, 'LATEST'],
    ['backup-fetch', data, 'LATEST', '--dry-run'],
  ]) {
    const end = await runWalrx([...args, ...prefix])
    assert.equal(end.status, 5, end.stderr)
    assert.ok(end.stderr.includes(says), end.stderr)
    assert.match(end.stderr, new RegExp(`restore ${full.backup_name} instead, with --recover`))
  }
  // Single files are not read by a server.
  const masked = await runWalrx(['backup-fetch', data, 'LATEST', '--mask', 'PG_VERSION', ...prefix])
  assert.equal(masked.status, 0, masked.stderr)
  assert.equal((await runWalrx(['backup-verify', full.backup_name, ...prefix])).status, 0)
  await rm(join(archive, '..'), { recursive: true })
})
