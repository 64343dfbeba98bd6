/** Servers recover from chains that WAL-G and WAL-RUS really wrote, to the rows that were there at the archive's end. */
import assert from 'node:assert/strict'
import { cp, readFile, utimes } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { describe, test } from 'node:test'
import { sentinelKey } from '../../../src/walg/backup/backup-names.ts'
import { goldenArchive } from '../../harness/made/golden-backups.ts'
import { goldenChains, rowsOf, tablespaceOf } from '../../harness/made/golden-restores.ts'
import { makeServerDirectory } from '../../harness/postgres/postgres-files.ts'
import { startRestored } from '../../harness/postgres/restored-server.ts'
import { newServerDirectory } from '../../harness/walrx/test-workspace.ts'
import { runWalrx } from '../../harness/walrx/walrx-process.ts'

describe('the second delta of', () => {
  for (const [archive, backups] of goldenChains) {
    test(`${archive} recovers to the end of the archive`, { timeout: 120_000 }, async () => {
      const directory = newServerDirectory('chain')
      await makeServerDirectory(directory, 0o755)
      // The server's user must be able to read it.
      const copy = join(directory, 'archive')
      await cp(fileURLToPath(goldenArchive(archive)), copy, { recursive: true })
      for (const [index, backup] of backups.entries()) {
        await utimes(join(copy, sentinelKey(backup)), 1_700_000_000 + index, 1_700_000_000 + index)
      }
      const tablespace = join(directory, 'ts')
      const mapping = `${tablespaceOf(archive, backups[2]!)}=${tablespace}`
      const to = ['--recover', '-T', mapping, '--file-prefix', copy]
      const fetched = await runWalrx(['backup-fetch', join(directory, 'data'), 'LATEST', ...to])
      assert.equal(fetched.status, 0, fetched.stderr)
      assert.ok(fetched.stdout.startsWith(`${backups[2]} (2 deltas on`), fetched.stdout)

      await using server = await startRestored(directory, 17, [tablespace])
      const text = await readFile(new URL('../rows.txt', goldenArchive(archive)), 'utf8')
      const expected = text.trim().split('\n')
      assert.deepEqual(await rowsOf(server), expected)
    })
  }
})
