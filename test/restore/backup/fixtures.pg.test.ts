/**
 * Encrypted archives of WAL-G and WAL-RUS are verified, restored file for file, and recovered to the rows that were there.
 * Where WALRX_TEST_FIXTURES names a folder, the same goes for every archive in it.
 */
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { cp } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, test } from 'node:test'
import { promisify } from 'node:util'
import {
  type Fixture,
  fixturesFolder,
  fixtureSkip,
  goldenFixtures,
  openWholeFixture,
  wholeFixtureNames,
} from '../../harness/made/fixtures.ts'
import { restoredFiles, rowsOf } from '../../harness/made/golden-restores.ts'
import { makeServerDirectory } from '../../harness/postgres/postgres-files.ts'
import { startRestored } from '../../harness/postgres/restored-server.ts'
import { newServerDirectory } from '../../harness/walrx/test-workspace.ts'
import { type ProcessEnd, runWalrx } from '../../harness/walrx/walrx-process.ts'

/** Commands on a copy of the archive, which the server's user can read. */
async function openCopy(fixture: Fixture): Promise<{
  readonly directory: string
  readonly env: Record<string, string>
  run(...args: string[]): Promise<ProcessEnd>
}> {
  const directory = newServerDirectory('fixture')
  await makeServerDirectory(directory, 0o755)
  const archive = join(directory, 'archive')
  await cp(fixture.archive, archive, { recursive: true })
  // WAL-G makes the folder of its WAL for its own user only.
  await promisify(execFile)('chmod', ['-R', 'a+rX', archive])
  const env = { ...fixture.settings, WALG_FILE_PREFIX: archive }
  const run = async (...args: string[]) => {
    const end = await runWalrx(args, { env })
    assert.equal(end.status, 0, end.stderr)
    return end
  }
  return { directory, env, run }
}

async function proveFiles(fixture: Fixture): Promise<void> {
  const { directory, run } = await openCopy(fixture)
  for (const [index, backup] of fixture.backups.entries()) {
    const expected = fixture.expected(backup)
    assert.ok(expected.files.size > 380)
    const verified = JSON.parse((await run('backup-verify', backup, '--json')).stdout) as Record<string, unknown>
    assert.deepEqual(
      [verified.backups, verified.files],
      [fixture.backups.slice(0, index + 1), expected.files.size],
      backup,
    )
    const data = join(directory, `restored-${index}`)
    const mapping = `${fixture.tablespace(backup)}=${join(directory, `ts-${index}`)}`
    await run('backup-fetch', data, backup, '-T', mapping)
    const restored = await restoredFiles(data)
    // It names the folder that this tablespace was mapped to.
    const sorted = (sums: ReadonlyMap<string, string>) => [...sums].filter(([path]) => path !== 'tablespace_map').sort()
    assert.deepEqual(sorted(restored.files), sorted(expected.files), backup)
    const directories = expected.directories.filter((path) => path !== '')
    assert.deepEqual([...restored.directories].sort(), directories.sort(), backup)
  }
}

async function proveRecovery(fixture: Fixture): Promise<void> {
  const { directory, env, run } = await openCopy(fixture)
  const backup = fixture.backups.at(-1) ?? ''
  const tablespace = join(directory, 'ts')
  const mapping = `${fixture.tablespace(backup)}=${tablespace}`
  await run('backup-fetch', join(directory, 'data'), backup, '--recover', '-T', mapping)
  await using server = await startRestored(directory, 17, [tablespace], env)
  assert.deepEqual(await rowsOf(server), fixture.rows)
}

for (const fixture of goldenFixtures()) {
  describe(fixture.name, { skip: fixtureSkip(fixture.name) }, () => {
    test('is restored file for file', () => proveFiles(fixture))
    test('recovers to the end of the archive', { timeout: 120_000 }, () => proveRecovery(fixture))
  })
}

describe('the whole fixtures', { skip: fixturesFolder === undefined && 'WALRX_TEST_FIXTURES names no folder' }, () => {
  for (const name of wholeFixtureNames()) {
    test(name, { skip: fixtureSkip(name), timeout: 180_000 }, async () => {
      const fixture = await openWholeFixture(name, newServerDirectory('whole'))
      await proveFiles(fixture)
      await proveRecovery(fixture)
    })
  }
})
