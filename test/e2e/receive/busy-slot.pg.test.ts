/** Two receivers on one slot: the second one waits, and goes on where the first one has stopped. */
import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { generateWal } from '../../harness/made/wal-load.ts'
import { startPostgres } from '../../harness/postgres/postgres.ts'
import { archivedSegments } from '../../harness/store/archive-check.ts'
import { startWalrx } from '../../harness/walrx/walrx-process.ts'

test('a slot that is in use is waited for with one warning', { timeout: 180_000 }, async () => {
  const archive = mkdtempSync(join(tmpdir(), 'walrx-busy-'))
  await using server = await startPostgres({ major: 17, segmentSizeMb: 1 })
  try {
    const receive = () => startWalrx(['wal-receive', '--file-prefix', archive, '--dbname', server.conninfo()])
    await using first = receive()
    await first.logged('streaming')
    const [slot] = await server.sql<{ pid: number }>('select active_pid as pid from pg_replication_slots')
    await using second = receive()
    const warning = await second.logged(`the slot is in use by PID ${slot?.pid}: waiting until it is free`)
    assert.equal(warning['slot'], 'walrx')
    await generateWal(server, { segments: 3 })
    await first.logged((line) => line.msg === 'archived')
    assert.equal((await first.stop()).status, 0)
    await server.sql('checkpoint')
    await second.logged('streaming')
    // The second one may archive first what the first one had begun, so the segment is waited for by its name.
    const [current] = await server.sql<{ name: string }>('select pg_walfile_name(pg_current_wal_insert_lsn()) as name')
    await generateWal(server, { segments: 1 })
    await second.logged((line) => line.msg === 'archived' && line.file === current?.name && line.outcome === 'created')
    assert.ok(archivedSegments(archive).includes(current?.name ?? ''))
    const said = second.lines.map(({ msg }) => msg)
    const all = second.lines.map((line) => JSON.stringify(line)).join('\n')
    assert.equal(said.filter((msg) => msg.startsWith('the slot is in use')).length, 1, all)
    // The second one may have chosen its position before the first one moved the slot, and the checkpoint came before
    // it asked for the WAL: then it begins once more, where the slot is now.
    const removed = second.lines.filter(({ code }) => code === 'WALRX_WAL_REMOVED').length
    assert.ok(removed <= 1, all)
    assert.equal(said.filter((msg) => msg === 'streaming').length, 1 + removed, all)
    const broken = second.lines.filter(({ level, code }) => level === 'error' && code !== 'WALRX_WAL_REMOVED')
    assert.deepEqual(broken, [], all)
    assert.equal((await second.stop()).status, 0)
  } finally {
    rmSync(archive, { recursive: true, force: true })
  }
})
