/** Two receivers with slots of their own and the same codec write to one archive: each segment is made once, and is the server's. */
import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { type Lsn, parseLsn } from '../../../src/postgres/lsn.ts'
import { segmentNameAt } from '../../../src/postgres/wal/wal-file.ts'
import { assertUnbroken, compareWithServer, endOfSwitched } from '../../harness/store/archive-check.ts'
import { environmentBucket } from '../../harness/store/bucket.ts'
import { startPostgres, type TestPostgres } from '../../harness/postgres/postgres.ts'
import { generateWal, startLoad } from '../../harness/made/wal-load.ts'
import { startWalrx, type WalrxProcess } from '../../harness/walrx/walrx-process.ts'
import { StoreWorld } from './store-world.ts'

const segmentSize = 1024 * 1024
const fromEnvironment = environmentBucket()

function open(): Promise<TestPostgres> {
  const settings = { wal_keep_size: '2GB', max_wal_size: '2GB', checkpoint_timeout: '1h' }
  return startPostgres({ major: 17, segmentSizeMb: 1, settings })
}

/**
 * Both receive, one is stopped, killed and started again meanwhile, and both come to the same end.
 * @param start starts a receiver with this slot
 */
async function writeTogether(server: TestPostgres, start: (slot: string) => WalrxProcess): Promise<Lsn> {
  await using first = start('first')
  const runs = [start('second')]
  try {
    await Promise.all([first.logged('streaming'), runs[0]?.logged('streaming')])
    const load = await startLoad(server)
    for (const signal of ['SIGTERM', 'SIGKILL'] as const) {
      await generateWal(server, { segments: 3, fill: 'full' })
      await runs.at(-1)?.logged('archived')
      await runs.at(-1)?.stop(signal)
      runs.push(start('second'))
      await runs.at(-1)?.logged('streaming')
    }
    await generateWal(server, { segments: 3, fill: 'full' })
    await load.stop()
    const end = endOfSwitched(parseLsn(await server.switchWal()), segmentSize)
    await server.sql(`select pg_logical_emit_message(true, 'walrx', 'one more')`)
    const last = segmentNameAt(1, (end - 1n) as Lsn, segmentSize)
    const receivers = [first, runs.at(-1) as WalrxProcess]
    for (const each of receivers) await each.logged(({ file, msg }) => msg === 'archived' && file === last)
    for (const each of receivers) assert.equal((await each.stop()).status, 0, each.stderr)
    const made = [first, ...runs].flatMap(({ lines }) =>
      lines.filter(({ msg, outcome }) => msg === 'archived' && outcome === 'created').map(({ file }) => String(file)),
    )
    assert.deepEqual(made, [...new Set(made)], 'a segment was made twice')
    return end
  } finally {
    for (const each of runs) await each[Symbol.asyncDispose]()
  }
}

test('two receivers write to one directory', { timeout: 180_000 }, async () => {
  const archive = mkdtempSync(join(tmpdir(), 'walrx-two-'))
  await using server = await open()
  try {
    const end = await writeTogether(server, (slot) =>
      startWalrx(['wal-receive', '--file-prefix', archive, '--dbname', server.conninfo(), '--slotname', slot]),
    )
    assertUnbroken(archive, 1, end, segmentSize)
    assert.ok(compareWithServer(archive, server) >= 9)
  } finally {
    rmSync(archive, { recursive: true, force: true })
  }
})

// s3rver has no conditional puts.
test(
  'two receivers write to one bucket',
  { timeout: 180_000, skip: typeof fromEnvironment === 'string' && fromEnvironment },
  async () => {
    await using world = await StoreWorld.open()
    await using server = await open()
    const end = await writeTogether(server, (slot) => world.receive(server.conninfo(), ['--slotname', slot]))
    const compared = await world.compareWithServer(server)
    assert.deepEqual(compared, await world.segments())
    assert.ok(compared.length >= 9 && compared.at(-1) === segmentNameAt(1, (end - 1n) as Lsn, segmentSize))
  },
)
