/** Silence: an idle server, a walrx that is stopped for too long, and a network that swallows everything. Nothing is lost. */
import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, afterEach, before, beforeEach, describe, test } from 'node:test'
import { type Lsn, parseLsn } from '../../../src/postgres/lsn.ts'
import { segmentNameAt } from '../../../src/postgres/wal/wal-file.ts'
import { archivedSegments, proveArchive, watchFlushes } from '../../harness/store/archive-check.ts'
import { trials } from '../../harness/extent.ts'
import { startPostgres, type TestPostgres } from '../../harness/postgres/postgres.ts'
import { until } from '../../harness/time/until.ts'
import { generateWal, startLoad } from '../../harness/made/wal-load.ts'
import { startWalrx, type WalrxProcess } from '../../harness/walrx/walrx-process.ts'
import { WireTap } from '../../harness/postgres/wire-tap.ts'

const segmentSize = 1024 * 1024
const walSenderTimeoutMs = 2_000

/** How long the server has nothing to send, and how long walrx stands still beyond the moment when it is dropped. */
const idleMs = trials('WALRX_TEST_IDLE_SECONDS', 5, 65) * 1000
const stoppedMs = trials('WALRX_TEST_STOPPED_SECONDS', 0, 30) * 1000

/** A status goes out at least this often with that timeout. */
const statusMs = walSenderTimeoutMs / 4

describe('with a short wal_sender_timeout', () => {
  let server: TestPostgres
  let tap: WireTap
  let archive: string

  before(async () => {
    const settings = { wal_sender_timeout: `${walSenderTimeoutMs}ms`, wal_keep_size: '4GB', checkpoint_timeout: '1h' }
    server = await startPostgres({ major: 17, segmentSizeMb: 1, settings })
  })
  after(() => server[Symbol.asyncDispose]())

  beforeEach(async () => {
    tap = await WireTap.open({ host: '127.0.0.1', port: server.port })
    archive = mkdtempSync(join(tmpdir(), 'walrx-silence-'))
    watchFlushes(tap, archive, () => 1, segmentSize)
  })
  afterEach(async () => {
    await tap[Symbol.asyncDispose]()
    rmSync(archive, { recursive: true, force: true })
  })

  function start(slot: string): WalrxProcess {
    const conninfo = `${server.conninfo()} port=${tap.port}`
    return startWalrx(['wal-receive', '--file-prefix', archive, '--dbname', conninfo, '--slotname', slot])
  }

  async function flushLsn(): Promise<Lsn> {
    const [row] = await server.sql<{ lsn: string }>('select pg_current_wal_flush_lsn()::text as lsn')
    return parseLsn(row?.lsn ?? '')
  }

  /** Everything up to the present end becomes durable, and is what the server has. */
  const checkAll = () => proveArchive(archive, server, tap, segmentSize)

  test(
    'an idle server does not end a segment: what comes later goes into the same one',
    { timeout: 240_000 },
    async () => {
      await using receiver = start('idle')
      await receiver.logged('streaming')
      await server.switchWal()
      await server.sql(`select pg_logical_emit_message(true, 'walrx', 'before the silence')`)
      const before = await flushLsn()
      const current = segmentNameAt(1, before, segmentSize)
      const received: Lsn[] = []
      const check = tap.onStatus
      tap.onStatus = (status) => {
        received.push(status.write)
        check(status)
      }
      await until('the WAL before the silence', () => received.some((write) => write >= before))
      const statuses = tap.statusCount + Math.ceil(idleMs / statusMs)
      await until('the silence to last', () => tap.statusCount >= statuses, idleMs + 60_000)
      assert.ok(!archivedSegments(archive).includes(current), 'a segment was archived that the server had not ended')

      await server.sql(`select pg_logical_emit_message(true, 'walrx', 'after the silence')`)
      const after = await flushLsn()
      assert.equal(segmentNameAt(1, after, segmentSize), current, 'the server writes on in that segment')
      await checkAll()
      assert.ok(archivedSegments(archive).includes(current))
      assert.equal((await receiver.stop()).status, 0)
    },
  )

  test(
    'a walrx that stands still for longer than wal_sender_timeout is dropped, and comes back',
    { timeout: 240_000 },
    async () => {
      await using receiver = start('stopped')
      await receiver.logged('streaming')
      const load = await startLoad(server)
      const earlier = (await server.log()).length
      const from = receiver.lines.length
      receiver.child.kill('SIGSTOP')
      const stoppedAtMs = performance.now()
      await until('the server to drop the connection', async () => {
        const isDropped = (await server.log()).slice(earlier).includes('terminating walsender process due to')
        return isDropped && performance.now() - stoppedAtMs >= stoppedMs
      })
      await load.stop()
      await generateWal(server, { segments: 3, fill: 'full' })
      receiver.child.kill('SIGCONT')
      await receiver.logged('the stream broke', from)
      await receiver.logged('streaming', from)
      await checkAll()
      assert.equal((await receiver.stop()).status, 0)
    },
  )

  test(
    'a network that swallows everything is noticed, and a new connection is made',
    { timeout: 240_000 },
    async () => {
      await using receiver = start('swallowed')
      await receiver.logged('streaming')
      await generateWal(server, { segments: 2 })
      await until('some WAL', () => archivedSegments(archive).length > 0)
      const from = receiver.lines.length
      tap.freeze()
      await generateWal(server, { segments: 3, fill: 'full' })
      const broken = await receiver.logged('the stream broke', from)
      assert.equal(broken['code'], 'WALRX_CONNECTION_LOST')
      assert.match(String(broken['error']), /did not answer for \d+ s/)
      await receiver.logged('streaming', from)
      await checkAll()
      assert.equal((await receiver.stop()).status, 0)
    },
  )
})
