import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { addBytes } from '../../../src/postgres/lsn.ts'
import { pulse, quietStatus } from '../../../src/receive/stream/flush-rule.ts'
import { poolFullMsMax } from '../../../src/receive/stream/stream-session.ts'
import {
  commandComplete,
  copyBoth,
  copyDone,
  endOfTimeline,
  errorMessage,
  keepaliveMessage,
  readyForQuery,
  walMessage,
} from '../../postgres/server-messages.ts'
import { settle } from '../fakes.ts'
import { end, segmentSize, SessionBench, start } from './session-bench.ts'

describe('what is reported to the server', () => {
  test('a durable segment is reported by two messages in one write: flush, and flush taken back', async () => {
    const bench = new SessionBench()
    await bench.begin()
    await bench.send(segmentSize + 100)
    assert.deepEqual(bench.socket.statuses, [], 'nothing is durable, nothing is said')
    await bench.archived(0)
    assert.deepEqual(bench.socket.statusWrites, [[...pulse(addBytes(end(1), 100), end(1))]])
    assert.deepEqual(bench.reported, [end(1)])
    assert.ok(bench.meter.lines.includes('flushed 0/18000'))
    await bench.pass(11_000)
    assert.deepEqual(bench.socket.statusWrites.slice(1), [[quietStatus(addBytes(end(1), 100))]], 'and never again')
  })

  test('a segment that is durable before those before it is not reported', async () => {
    const bench = new SessionBench({ buffers: 5 })
    await bench.begin()
    await bench.send(3 * segmentSize)
    await bench.archived(0)
    await bench.archived(2)
    assert.deepEqual(bench.reported, [end(1)])
    await bench.archived(1)
    assert.deepEqual(bench.reported, [end(1), end(3)])
  })

  test('what became durable before the copy begins is reported when it has begun, not lost', async () => {
    const bench = new SessionBench()
    await bench.begin()
    await bench.send(segmentSize + 1)
    bench.socket.close(new Error('cut'))
    await settle()
    bench.connect()
    await bench.archived(0)
    assert.deepEqual([bench.reported, bench.socket.statuses], [[], []], 'nobody to report it to')
    await bench.begin()
    assert.deepEqual(bench.socket.statuses, [...pulse(end(1), end(1))])
    assert.deepEqual(bench.reported, [end(1)])
  })

  test('a pulse that a dying connection may have swallowed is repeated on the next one', async () => {
    const bench = new SessionBench()
    await bench.begin()
    await bench.send(segmentSize)
    await bench.archived(0)
    bench.socket.close(new Error('cut'))
    await settle()
    bench.connect()
    await bench.begin()
    assert.deepEqual(bench.socket.statuses[0]?.flush, end(1))
  })

  test('a stream that begins where the run began has nothing to report', async () => {
    const bench = new SessionBench()
    await bench.begin()
    await bench.pass(60_000)
    assert.ok(bench.socket.statuses.every(({ flush }) => flush === 0n))
    assert.deepEqual(bench.reported, [])
  })

  test('without a slot no flush position is ever reported: there is nothing that it could move', async () => {
    const bench = new SessionBench({ slot: undefined, buffers: 2 })
    await bench.begin()
    await bench.send(4 * segmentSize)
    await bench.pass(poolFullMsMax - 1_000)
    await bench.archived(0)
    await bench.pass(poolFullMsMax - 1_000)
    await bench.archived(1)
    assert.equal(bench.queue.durableLsn, end(2))
    assert.ok(bench.socket.statuses.length > 0)
    assert.ok(bench.socket.statuses.every(({ flush }) => flush === 0n))
    assert.deepEqual([bench.reported, bench.outcome], [[], undefined])
  })

  test('statuses go out at the period that wal_sender_timeout asks for, whatever comes in', async () => {
    for (const [walSenderTimeoutMs, count] of [
      [60_000, 6],
      [1_000, 240],
      [0, 6],
    ] as const) {
      const bench = new SessionBench({ walSenderTimeoutMs })
      await bench.begin()
      for (let second = 0; second < 60; second++) {
        bench.socket.deliver(keepaliveMessage(start))
        await bench.pass(1_000)
      }
      const { length } = bench.socket.statuses
      assert.ok(Math.abs(length - count) <= 1, `${length} statuses in a minute with ${walSenderTimeoutMs} ms`)
      assert.equal(bench.outcome, undefined)
    }
  })

  test('a ping is answered at once, a storm of them at most every 5 ms', async () => {
    const bench = new SessionBench()
    await bench.begin()
    bench.socket.deliver(keepaliveMessage(start, true))
    assert.equal(bench.socket.statuses.length, 1)
    for (let ms = 0; ms < 100; ms++) {
      for (let ping = 0; ping < 1_000; ping++) bench.socket.deliver(keepaliveMessage(start, true))
      await bench.pass(1)
    }
    const { length } = bench.socket.statuses
    assert.ok(length >= 15 && length <= 22, `${length} answers to 100,000 pings in 100 ms`)
    assert.ok(bench.socket.statuses.every(({ flush, replyRequested }) => flush === 0n && !replyRequested))
  })

  test('the answer to the last ping of a storm says all that was received by then', async () => {
    const bench = new SessionBench()
    await bench.begin()
    bench.socket.deliver(keepaliveMessage(start, true))
    bench.socket.deliver(walMessage(start, Buffer.alloc(10)), keepaliveMessage(start, true))
    await bench.pass(5)
    assert.deepEqual(bench.socket.statuses.at(-1), quietStatus(addBytes(start, 10)))
  })
})

describe('a silent server', () => {
  test('is asked after half its timeout, and alive when it answers', async () => {
    const bench = new SessionBench()
    await bench.begin()
    for (let turn = 0; turn < 5; turn++) {
      const asked = () => bench.socket.statuses.filter(({ replyRequested }) => replyRequested).length
      const before = asked()
      await bench.pass(45_000)
      assert.equal(asked(), before + 1)
      bench.socket.deliver(keepaliveMessage(start))
    }
    assert.equal(bench.outcome, undefined)
  })

  test('that does not answer the question is given up, naming host and seconds', async () => {
    for (const walSenderTimeoutMs of [1_000, 60_000, 0]) {
      const bench = new SessionBench({ walSenderTimeoutMs })
      const { probeAfterMs, deadAfterMs } = bench.timings
      await bench.begin()
      await bench.pass(probeAfterMs + deadAfterMs - 1)
      assert.equal(bench.outcome, undefined)
      await bench.pass(probeAfterMs + 1)
      assert.match(String(bench.outcome), /fake:5432 did not answer for \d+ s/)
      assert.ok(bench.socket.isDestroyed)
    }
  })

  test('that never begins to stream is given up as well', async () => {
    const bench = new SessionBench({ walSenderTimeoutMs: 1_000 })
    await bench.pass(59_000)
    assert.equal(bench.outcome, undefined, 'a busy server is given time')
    await bench.pass(1_001)
    assert.match(String(bench.outcome), /fake:5432 did not begin to stream for 60 s/)
    assert.ok(bench.socket.isDestroyed)
  })

  test('half a message that goes on and on is not silence', async () => {
    const bench = new SessionBench()
    await bench.begin()
    const bytes = walMessage(start, Buffer.alloc(8_000))
    for (let at = 0; at < bytes.length; at += 400) {
      bench.socket.deliver(bytes.subarray(at, at + 400))
      await bench.pass(25_000)
    }
    assert.equal(bench.outcome, undefined)
    assert.equal(bench.assembler.nextLsn, addBytes(start, 8_000))
  })
})

describe('a full pool', () => {
  test('pauses the socket; statuses and pulses go on; a free buffer lets it read on', async () => {
    const bench = new SessionBench({ buffers: 2 })
    await bench.begin()
    await bench.send(4 * segmentSize)
    assert.ok(bench.socket.isPaused)
    assert.equal(bench.pool.free, 0)
    await bench.pass(11_000)
    assert.deepEqual(bench.socket.statuses, [quietStatus(end(2))], 'no byte more than there is room for')
    await bench.archived(0)
    const write = bench.socket.statusWrites[1] ?? []
    assert.deepEqual(write, [...pulse(write[1]?.write ?? end(9), end(1))], 'a pulse')
    assert.ok(bench.meter.lines.includes('pool full'))
    await bench.archived(1)
    await bench.archived(2)
    await bench.archived(3)
    assert.deepEqual(bench.reported.at(-1), end(4))
    assert.ok(!bench.socket.isPaused)
    assert.equal(bench.archive.aliased, undefined)
  })

  test('with nothing new durable for 15 s closes the stream, and the next one goes on where it stopped', async () => {
    const bench = new SessionBench({ buffers: 2 })
    await bench.begin()
    await bench.send(3 * segmentSize)
    await bench.pass(poolFullMsMax - 1)
    assert.equal(bench.outcome, undefined)
    await bench.pass(2)
    assert.deepEqual(bench.outcome, { kind: 'pool full' })
    assert.ok(bench.socket.isDestroyed)
    await bench.archived(0)
    await bench.archived(1)
    bench.connect()
    await bench.begin()
    assert.match(String(bench.socket.writes[0]), /PHYSICAL 0\/1c000 /)
    assert.deepEqual(bench.socket.statuses, [...pulse(end(2), end(2))])
  })

  test('is patient while segments become durable, however slowly', async () => {
    const bench = new SessionBench({ buffers: 2 })
    await bench.begin()
    await bench.send(12 * segmentSize)
    for (let index = 0; index < 10; index++) {
      await bench.pass(poolFullMsMax - 1_000)
      await bench.archived(index)
      assert.equal(bench.outcome, undefined)
    }
  })

  test('is patient even when what became durable had no buffer any more', async () => {
    const bench = new SessionBench({ buffers: 2, arenaBytes: segmentSize / 2 })
    bench.archive.encodedLength = (length) => length / 4
    await bench.begin()
    await bench.send(6 * segmentSize)
    assert.deepEqual([bench.pool.free, bench.arena.used], [0, segmentSize / 2])
    await bench.pass(poolFullMsMax - 1_000)
    await bench.archived(0)
    assert.equal(bench.pool.free, 0)
    await bench.pass(poolFullMsMax - 1_000)
    assert.equal(bench.outcome, undefined)
    await bench.pass(1_001)
    assert.deepEqual(bench.outcome, { kind: 'pool full' })
  })

  test('is no silence of the server: nobody is asked, and nobody is dead', async () => {
    const bench = new SessionBench({ buffers: 2, walSenderTimeoutMs: 1_000 })
    await bench.begin()
    await bench.send(4 * segmentSize)
    await bench.pass(14_000)
    assert.ok(bench.socket.statuses.every(({ replyRequested }) => !replyRequested))
    await bench.archived(0)
    await bench.archived(1)
    await bench.archived(2)
    await bench.archived(3)
    bench.socket.deliver(keepaliveMessage(start))
    await bench.pass(500)
    assert.equal(bench.outcome, undefined)
  })
})

describe('the end of a stream', () => {
  test('is the server’s: shutdown, the next timeline, an error by its code, a broken connection', async () => {
    const shutdown = new SessionBench()
    await shutdown.begin()
    shutdown.socket.deliver(commandComplete('COPY 0'))
    await settle()
    assert.deepEqual(shutdown.outcome, { kind: 'shutdown' })

    const timeline = new SessionBench()
    await timeline.begin()
    await timeline.send(100)
    timeline.socket.deliver(copyDone, endOfTimeline(2, '0/14064'))
    await settle()
    assert.deepEqual(timeline.outcome, { kind: 'timeline', nextTimeline: 2, switchpoint: addBytes(start, 100) })

    const removed = new SessionBench()
    removed.socket.deliver(copyBoth, errorMessage('58P01', 'has already been removed'))
    await settle()
    assert.equal((removed.outcome as { code?: string }).code, 'WALRX_WAL_REMOVED')
    assert.equal(removed.session.hasTaken, false)

    const cut = new SessionBench()
    await cut.begin()
    await cut.send(100)
    cut.socket.close(new Error('ECONNRESET'))
    await settle()
    assert.match(String(cut.outcome), /ECONNRESET/)
    assert.equal(cut.session.hasTaken, true)
  })

  test('is a gap in the WAL, with both positions', async () => {
    const bench = new SessionBench()
    await bench.begin()
    bench.socket.deliver(walMessage(addBytes(start, 8), Buffer.alloc(8)))
    await settle()
    assert.match(String(bench.outcome), /sent WAL at 0\/14008, expected 0\/14000: a gap/)
    assert.equal(bench.session.hasTaken, false, 'which is no success: the next attempt waits longer')
  })

  test('leaves no timer and no listener', async () => {
    const bench = new SessionBench({ buffers: 2 })
    await bench.begin()
    await bench.send(3 * segmentSize)
    bench.socket.close()
    await settle()
    assert.ok(bench.outcome instanceof Error)
    const { progress } = bench
    await bench.archived(0)
    assert.equal(bench.progress, progress, 'a listener of a stream that is over was called')
    await assert.rejects(
      bench.clock.run(
        () => false,
        () => false,
        0,
      ),
      /nothing will ever happen again/,
    )
  })
})

describe('stopping', () => {
  test('takes no more WAL, reports what becomes durable, and says goodbye after it', async () => {
    const bench = new SessionBench({ buffers: 4 })
    await bench.begin()
    await bench.send(segmentSize + 100)
    bench.session.stopReading()
    await bench.send(2 * segmentSize)
    assert.equal(bench.assembler.nextLsn, addBytes(end(1), 100))
    await bench.pass(60_000)
    assert.equal(bench.outcome, undefined, 'a drain may take its time')
    await bench.archived(0)
    const closed = bench.session.close()
    assert.deepEqual(bench.socket.statuses.at(-2)?.flush, end(1))
    assert.equal(bench.socket.writes.at(-1)?.[0], 0x63, 'CopyDone comes last')
    bench.socket.deliver(copyDone, commandComplete('COPY 0'), readyForQuery)
    await closed
    await settle()
    assert.deepEqual(bench.outcome, { kind: 'shutdown' })
  })

  test('before the stream has begun, or after it has ended, there is nothing to wait for', async () => {
    const bench = new SessionBench()
    await bench.session.close()
    assert.ok(bench.socket.isDestroyed)
    await bench.session.close()
    bench.session.destroy()
  })
})
