/** A cluster that has gone through several promotions before walrx sees it for the first time. */
import assert from 'node:assert/strict'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { type Lsn, parseLsn } from '../../../src/postgres/lsn.ts'
import { segmentNameAt } from '../../../src/postgres/wal/wal-file.ts'
import { assertUnbroken, compareWithServer, decodeArchived, endOfSwitched } from '../../harness/store/archive-check.ts'
import { giveToServer } from '../../harness/postgres/postgres-files.ts'
import { startPostgres, type TestPostgres } from '../../harness/postgres/postgres.ts'
import { startWalrx } from '../../harness/walrx/walrx-process.ts'

const segmentSize = 1024 * 1024

/** Begins the next timeline: a recovery that ends at once. */
async function promoteAlone(server: TestPostgres): Promise<void> {
  await server.stop('fast')
  const signal = join(server.dataDir, 'recovery.signal')
  await writeFile(signal, '')
  await giveToServer(signal)
  await server.start()
  await server.recovered()
}

test(
  'the history of every ancestor is archived when timeline 5 is the first that is seen',
  { timeout: 180_000 },
  async () => {
    const archive = mkdtempSync(join(tmpdir(), 'walrx-ancestors-'))
    await using server = await startPostgres({
      major: 17,
      segmentSizeMb: 1,
      settings: { restore_command: 'false', wal_keep_size: '1GB' },
    })
    try {
      for (let timeline = 2; timeline <= 5; timeline++) {
        await server.sql(`select pg_logical_emit_message(true, 'walrx', 'before timeline ${timeline}')`)
        await promoteAlone(server)
      }
      await using receiver = startWalrx(['wal-receive', '--file-prefix', archive, '--dbname', server.conninfo()])
      await receiver.logged(({ msg, timeline }) => msg === 'streaming' && timeline === 5)
      const end = endOfSwitched(parseLsn(await server.switchWal()), segmentSize)
      const last = segmentNameAt(5, (end - 1n) as Lsn, segmentSize)
      await server.sql(`select pg_logical_emit_message(true, 'walrx', 'one more')`)
      await receiver.logged(({ file, msg }) => msg === 'archived' && file === last)
      assert.equal((await receiver.stop()).status, 0)

      for (const timeline of [2, 3, 4, 5]) {
        const name = `0000000${timeline}.history`
        assert.deepEqual(decodeArchived(archive, name), readFileSync(join(server.pgWal(), name)), name)
      }
      assertUnbroken(archive, 5, end, segmentSize)
      assert.ok(compareWithServer(archive, server) > 0)
    } finally {
      rmSync(archive, { recursive: true, force: true })
    }
  },
)
