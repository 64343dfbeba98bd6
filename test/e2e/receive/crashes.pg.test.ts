/** kill -9, restarts, cut connections, promotion: whatever happens, the archive stays an unbroken copy. */
import assert from 'node:assert/strict'
import { existsSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import { type Lsn, parseLsn, segmentOffset } from '../../../src/postgres/lsn.ts'
import { segmentNameAt } from '../../../src/postgres/wal/wal-file.ts'
import {
  assertUnbroken,
  compareWithServer,
  decodeArchived,
  endOfSwitched,
  proveArchive,
  watchFlushes,
} from '../../harness/store/archive-check.ts'
import { trials } from '../../harness/extent.ts'
import { startPostgres, type TestPostgres } from '../../harness/postgres/postgres.ts'
import { startStandby, untilReplayed } from '../../harness/postgres/postgres-copies.ts'
import { Random } from '../../harness/random.ts'
import { startWalrx, type WalrxProcess } from '../../harness/walrx/walrx-process.ts'
import { startLoad } from '../../harness/made/wal-load.ts'
import { WireTap } from '../../harness/postgres/wire-tap.ts'

const segmentSize = 1024 * 1024
const keepAll = { wal_keep_size: '20GB', max_wal_size: '20GB', checkpoint_timeout: '1h' }

const kills = trials('WALRX_TEST_KILLS', 10, 50)
const cuts = trials('WALRX_TEST_CUTS', 5, 15)

describe('through crashes', () => {
  let server: TestPostgres
  let archive: string
  let tap: WireTap

  before(async () => {
    server = await startPostgres({ major: 17, segmentSizeMb: 1, settings: keepAll })
    archive = mkdtempSync(join(tmpdir(), 'walrx-crashes-'))
    tap = await WireTap.open({ host: '127.0.0.1', port: server.port })
    watchFlushes(tap, archive, () => 1, segmentSize)
  })

  after(async () => {
    await tap[Symbol.asyncDispose]()
    await server[Symbol.asyncDispose]()
    rmSync(archive, { recursive: true, force: true })
  })

  function start(): WalrxProcess {
    return startWalrx(['wal-receive', '--file-prefix', archive, '--dbname', `${server.conninfo()} port=${tap.port}`])
  }

  /** Waits until everything up to the server's present end is archived, and compares. */
  const checkAll = () => proveArchive(archive, server, tap, segmentSize)

  test(`${kills} kills of walrx at random moments`, { timeout: 180_000 + kills * 3_000 }, async (t) => {
    const seed = Number(process.env.WALRX_SEED ?? Date.now() % 100_000)
    t.diagnostic(`seed ${seed}`)
    const random = new Random(seed)
    const load = await startLoad(server)
    let receiver = start()
    for (let kill = 0; kill < kills; kill++) {
      if (random.chance(0.8)) await receiver.logged('streaming')
      await delay(random.int(0, 400))
      await receiver.stop('SIGKILL')
      receiver = start()
    }
    await load.stop()
    await checkAll()
    assert.equal((await receiver.stop()).status, 0)
  })

  test('connections that are cut in the middle of a message', { timeout: 120_000 }, async (t) => {
    const seed = Number(process.env.WALRX_SEED ?? Date.now() % 100_000)
    t.diagnostic(`seed ${seed}`)
    const random = new Random(seed)
    await using receiver = start()
    const load = await startLoad(server)
    for (let cut = 0; cut < cuts; cut++) {
      const from = receiver.lines.length
      await receiver.logged('streaming', Math.max(0, from - 3))
      tap.cutAfter(random.int(1, 300_000))
      await receiver.logged('the stream broke', from)
    }
    await load.stop()
    await checkAll()
  })

  test('a server that is restarted, and one that crashes', { timeout: 120_000 }, async () => {
    await using receiver = start()
    await receiver.logged('streaming')
    const stopMs = await server.stop('fast')
    assert.ok(stopMs < 2_000, `a fast shutdown took ${stopMs} ms with walrx attached`)
    let from = receiver.lines.length
    await server.start()
    await receiver.logged('streaming', from)
    await server.sql(`select pg_logical_emit_message(false, 'walrx', repeat('x', 3000000))`)
    from = receiver.lines.length
    await server.kill9()
    await server.start()
    await receiver.logged('streaming', from)
    await checkAll()
  })
})

describe('timelines', () => {
  test('the promotion of a standby that we follow', { timeout: 120_000 }, async () => {
    const archive = mkdtempSync(join(tmpdir(), 'walrx-promotion-'))
    await using primary = await startPostgres({ major: 17, segmentSizeMb: 1, settings: keepAll })
    await using standby = await startStandby(primary, { settings: keepAll })
    try {
      const args = ['wal-receive', '--file-prefix', archive, '--dbname', standby.conninfo(), '--allow-standby']
      await using receiver = startWalrx(args)
      await receiver.logged('streaming')
      await primary.sql(`select pg_logical_emit_message(false, 'walrx', repeat('x', 3500000))`)
      await untilReplayed(standby, primary)
      await primary.stop('fast')
      await standby.promote()
      const ended = await receiver.logged('the timeline ended')
      assert.equal(ended.nextTimeline, 2)
      await receiver.logged((line) => line.msg === 'streaming' && line.timeline === 2)
      await standby.sql(`select pg_logical_emit_message(false, 'walrx', repeat('y', 2500000))`)
      const end = endOfSwitched(parseLsn(await standby.switchWal()), segmentSize)
      const last = segmentNameAt(2, (end - 1n) as Lsn, segmentSize)
      await receiver.logged((line) => line.msg === 'archived' && line.file === last)
      const fork = parseLsn(ended.switchpoint as string)
      const forkSegment = segmentNameAt(1, fork, segmentSize)
      assert.ok(existsSync(join(archive, 'wal_005', '00000002.history.zst')))
      assert.notEqual(segmentOffset(fork, segmentSize), 0)
      const partial = decodeArchived(archive, `${forkSegment}.partial`)
      const next = decodeArchived(archive, segmentNameAt(2, fork, segmentSize))
      const before = segmentOffset(fork, segmentSize)
      assert.ok(
        partial.subarray(0, before).equals(next.subarray(0, before)),
        'both timelines share the WAL before the fork',
      )
      assertUnbroken(archive, 2, end, segmentSize)
      assert.ok(compareWithServer(archive, standby) > 0)
    } finally {
      rmSync(archive, { recursive: true, force: true })
    }
  })
})
