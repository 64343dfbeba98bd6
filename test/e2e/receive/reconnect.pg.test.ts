/**
 * What one receiver must still know, and must not have done meanwhile, when it comes back to the address of its server:
 * where the WAL that it has ends, what it has of an unfinished segment, and which cluster's WAL it is.
 */
import assert from 'node:assert/strict'
import { mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, test } from 'node:test'
import { type Lsn, parseLsn, segmentOffset, segmentStart } from '../../../src/postgres/lsn.ts'
import { isSegmentName, segmentNameAt } from '../../../src/postgres/wal/wal-file.ts'
import { FileStorage } from '../../../src/storage/file/file-storage.ts'
import { listGaps } from '../../../src/walg/wal/gap-records.ts'
import { archiveFolders } from '../../../src/walg/names.ts'
import { archivedKeys, archivedSegments, compareWithServer, endOfSwitched } from '../../harness/store/archive-check.ts'
import { FixedAddress } from '../../harness/postgres/fixed-addresses.ts'
import { giveToServer } from '../../harness/postgres/postgres-files.ts'
import { startPostgres, type TestPostgres } from '../../harness/postgres/postgres.ts'
import { until } from '../../harness/time/until.ts'
import { generateWal } from '../../harness/made/wal-load.ts'
import { runWalrx, startWalrx, type WalrxProcess } from '../../harness/walrx/walrx-process.ts'

const segmentSize = 1024 * 1024
const timeout = 180_000
/** Walrx reports its position every quarter of it: with the default of a minute the tests waited ten seconds for that. */
const quick = { wal_sender_timeout: '8s' }
const keepNothing = { ...quick, checkpoint_timeout: '1h', min_wal_size: '2MB', max_wal_size: '1GB' }
const keepAll = { ...quick, checkpoint_timeout: '1h', wal_keep_size: '1GB' }

describe('at the same address', () => {
  let address: FixedAddress
  let archive: string

  beforeEach(async () => {
    address = await FixedAddress.open()
    archive = mkdtempSync(join(tmpdir(), 'walrx-reconnect-'))
  })
  afterEach(async () => {
    await address[Symbol.asyncDispose]()
    rmSync(archive, { recursive: true, force: true })
  })

  const argumentsFor = (server: TestPostgres, ...flags: string[]) => {
    const conninfo = `${server.conninfo()} port=${address.port}`
    return ['wal-receive', '--file-prefix', archive, '--dbname', conninfo, ...flags]
  }

  /** Nobody gets through to the server any more; resolves when walrx knows. */
  async function disconnect(receiver: WalrxProcess): Promise<void> {
    const from = receiver.lines.length
    address.target = undefined
    address.cut()
    await receiver.logged('the stream broke', from)
  }

  /** Waits until everything that the server has written is with walrx. Returns the end of it. */
  async function received(server: TestPostgres): Promise<Lsn> {
    return until('all WAL to be received', async () => {
      const [row] = await server.sql<{ end: string; write: string | null }>(
        `select pg_current_wal_flush_lsn()::text as "end", write_lsn::text as write from pg_stat_replication`,
      )
      return row?.write !== undefined && row.write === row.end && parseLsn(row.end)
    })
  }

  /** The next segment is begun and ended; resolves when it is archived. */
  async function archivesOn(server: TestPostgres, receiver: WalrxProcess, timeline = 1): Promise<void> {
    const end = endOfSwitched(parseLsn(await server.switchWal()), segmentSize)
    await server.sql(`select pg_logical_emit_message(false, 'walrx', 'one more')`)
    const last = segmentNameAt(timeline, (end - 1n) as Lsn, segmentSize)
    await receiver.logged(({ file, msg }) => msg === 'archived' && file === last)
  }

  /** While nobody is connected: the slot is dropped, WAL is written and removed, and the slot is created again. */
  async function loseWal(server: TestPostgres, from: Lsn): Promise<void> {
    await until('the slot to be free', async () => {
      const [slot] = await server.sql<{ active: boolean }>('select active from pg_replication_slots')
      return slot?.active === false
    })
    await server.sql(`select pg_drop_replication_slot('walrx')`)
    await generateWal(server, { segments: 4 })
    await server.checkpoint()
    await until('the removal of WAL', async () => {
      const name = segmentNameAt(1, from, segmentSize)
      return (await server.sql(`select from pg_ls_waldir() where name = '${name}'`)).length === 0
    })
    await server.sql(`select pg_create_physical_replication_slot('walrx', true)`)
  }

  for (const where of ['at the very end of a segment', 'in the middle of a segment'] as const) {
    test(`WAL that was lost meanwhile is a gap, where we were ${where}`, { timeout }, async () => {
      await using server = await startPostgres({ major: 17, segmentSizeMb: 1, settings: keepNothing })
      address.target = server.port
      await using receiver = startWalrx(argumentsFor(server, '--tail-interval=0'))
      await receiver.logged('streaming')
      await generateWal(server, { segments: 2 })
      await archivesOn(server, receiver)
      const isBoundary = where === 'at the very end of a segment'
      let held: Lsn
      for (;;) {
        if (isBoundary) await server.switchWal()
        held = await received(server)
        // The server's background writer may add a record of its own at any time.
        if (!isBoundary === segmentOffset(held, segmentSize) > 0) break
      }
      await disconnect(receiver)
      await loseWal(server, held)
      const from = receiver.lines.length
      address.target = server.port
      await receiver.logged('WAL is gone from the server: the archive has a gap, take a new base backup', from)
      await archivesOn(server, receiver)

      const [gap, ...others] = await listGaps(new FileStorage({ folders: archiveFolders, root: archive, fsync: false }))
      assert.deepEqual(others, [])
      assert.equal(gap?.startLsn, segmentStart(held, segmentSize), 'the gap begins where the whole segments end')
      const torn = segmentNameAt(1, held, segmentSize)
      assert.ok(!archivedSegments(archive).includes(torn), `${torn} was never whole`)
      assert.ok(compareWithServer(archive, server) > 0)
      const shown = await runWalrx(['wal-show', '--file-prefix', archive])
      assert.match(shown.stdout, /was lost/)
      assert.equal((await receiver.stop()).status, 0)
    })
  }

  test(
    'the beginning of a segment stays in the archive while nobody is connected, and is no segment',
    { timeout },
    async () => {
      await using server = await startPostgres({ major: 17, segmentSizeMb: 1, settings: keepAll })
      address.target = server.port
      await using receiver = startWalrx(argumentsFor(server, '--tail-interval=50ms', '--log-level=debug'))
      await receiver.logged('streaming')
      await generateWal(server, { segments: 2 })
      await archivesOn(server, receiver)
      await server.sql(`select pg_logical_emit_message(true, 'walrx', repeat('x', 300000))`)
      const held = await received(server)
      await receiver.logged(({ msg, upTo }) => msg === 'stored' && parseLsn(String(upTo)) >= held)
      await disconnect(receiver)
      const unfinished = segmentNameAt(1, held, segmentSize)
      const objects = () => archivedKeys(archive).filter((key) => key.includes(unfinished))
      await until('chunks that are replaced to be removed', () => objects().length === 1)
      const before = objects()

      // Several attempts that all fail.
      for (let attempt = 0; attempt < 3; attempt++) await receiver.logged('the stream broke', receiver.lines.length)
      assert.deepEqual(objects(), before, 'what is unfinished has changed without a server')
      assert.match(before.join(' '), /^walrx_005\/tail\//, 'it was made a segment')

      address.target = server.port
      await archivesOn(server, receiver)
      assert.ok(archivedSegments(archive).includes(unfinished))
      assert.ok(compareWithServer(archive, server) > 0)
      await until('the chunks to go', () => objects().every((name) => name.startsWith('wal_005/')))
      assert.ok(!readdirSync(join(archive, 'wal_005')).some((name) => name.includes('.partial')))
      assert.equal((await receiver.stop()).status, 0)
    },
  )

  test(
    'another cluster, on timeline 1 again, is refused by a receiver that runs and by a new one',
    { timeout },
    async () => {
      await using old = await startPostgres({
        major: 16,
        segmentSizeMb: 1,
        settings: { ...keepAll, restore_command: 'false' },
      })
      // A promotion, so that the other cluster's segments have other names and would not be in the way.
      await old.stop('fast')
      const signal = join(old.dataDir, 'recovery.signal')
      await writeFile(signal, '')
      await giveToServer(signal)
      await old.start()
      await old.recovered()
      // What pg_upgrade leaves: a newer version with a system identifier of its own.
      await using upgraded = await startPostgres({ major: 17, segmentSizeMb: 1, fresh: true, settings: keepAll })

      address.target = old.port
      await using receiver = startWalrx(argumentsFor(old))
      await receiver.logged('streaming')
      await archivesOn(old, receiver, 2)
      await disconnect(receiver)
      const before = archivedSegments(archive)
      const from = receiver.lines.length
      address.target = upgraded.port
      await generateWal(upgraded, { segments: 3 })
      const refused = await receiver.logged((line) => line['code'] === 'WALRX_OTHER_CLUSTER', from)
      assert.match(String(refused['error']), new RegExp(`${upgraded.systemId}`))
      const again = await runWalrx(argumentsFor(upgraded))
      assert.equal(again.status, 5, again.stderr)
      assert.match(again.stderr, new RegExp(`${upgraded.systemId}`))
      assert.deepEqual(archivedSegments(archive), before, 'WAL of another cluster was archived')
      assert.deepEqual(await upgraded.sql('select from pg_replication_slots'), [], 'a slot was made there')

      const back = receiver.lines.length
      address.target = old.port
      await receiver.logged('streaming', back)
      await archivesOn(old, receiver, 2)
      assert.ok(compareWithServer(archive, old) > 0)
      assert.ok(archivedSegments(archive).every((name) => isSegmentName(name) && name.startsWith('00000002')))
      assert.equal((await receiver.stop()).status, 0)
    },
  )
})
