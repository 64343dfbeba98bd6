import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { combineFailures } from '../../src/postgres/protocol/connect-error.ts'
import { formatLsn, type Lsn } from '../../src/postgres/lsn.ts'
import { partialName } from '../../src/postgres/wal/wal-file.ts'
import { pulse } from '../../src/receive/stream/flush-rule.ts'
import { poolFullMsMax } from '../../src/receive/stream/stream-session.ts'
import { WalrxError } from '../../src/primitives/errors.ts'
import { fork, segmentSize, timelineOne } from '../faults/recorded-wal.ts'
import {
  commandComplete,
  copyBoth,
  copyDone,
  endOfTimeline,
  errorMessage,
  readyForQuery,
  walMessage,
} from '../postgres/server-messages.ts'
import { RecordingLog } from '../backup/recording-log.ts'
import { type FakeSession, settle, storageOut } from './fakes.ts'
import { at, failure, nameOf, ReceiverBench, refuseUnhandledRejections } from './receiver-bench.ts'

refuseUnhandledRejections()

describe('receiving', () => {
  test('archives whole segments, moves the slot by pulses, and says what it does', async () => {
    const bench = await new ReceiverBench().streaming()
    assert.match(String(bench.socket.writes[0]), /SLOT "walrx" PHYSICAL 0\/500000 TIMELINE 1/)
    await bench.send(0, 2.5)
    assert.deepEqual(bench.archive.segmentNames, [nameOf(0), nameOf(1)])
    assert.deepEqual(bench.archive.files.get(nameOf(1)), timelineOne.bytes.subarray(segmentSize, 2 * segmentSize))
    assert.deepEqual(bench.socket.statusWrites.at(-1)?.[0], pulse(at(2.5), at(2))[0])
    const { poolFree, ...snapshot } = bench.receiver.snapshot()
    assert.ok(poolFree > 0)
    assert.deepEqual(snapshot, {
      state: 'streaming',
      host: 'fake:5432',
      timeline: 1,
      receivedLsn: at(2.5),
      durableLsn: at(2),
      serverEnd: at(2.5),
      poolCapacity: 3,
      queued: 0,
      isSynchronous: false,
      lastError: undefined,
      oldestMs: 0,
    })
  })

  test('follows the server’s own next timeline at once, its history first, the old tail as a partial', async () => {
    const bench = await new ReceiverBench().streaming()
    await bench.send(0, 1.5)
    bench.prepare = (session) => {
      session.timeline = 4
      session.histories.set(4, `1\t${formatLsn(at(1.5))}\tpromoted\n`)
    }
    bench.socket.deliver(copyDone, endOfTimeline(4, formatLsn(at(1.5))))
    await settle()
    assert.equal(bench.sessions.length, 2, 'without waiting')
    assert.match(String(bench.socket.writes[0]), /PHYSICAL 0\/600000 TIMELINE 4/)
    assert.deepEqual([...bench.archive.files.keys()].slice(1), [partialName(nameOf(1)), '00000004.history'])
    await bench.begin()
    await bench.send(1, 2, fork(timelineOne, 4, at(1.5)))
    assert.deepEqual(bench.archive.segmentNames, [nameOf(0), nameOf(1, 4)])
  })

  test('comes back after whatever breaks, with growing pauses while nothing comes of it', async () => {
    const bench = await new ReceiverBench().streaming()
    await bench.send(0, 1)
    bench.refusals = Array.from({ length: 12 }, () => failure('WALRX_CONNECT_FAILED'))
    bench.socket.close(new Error('ECONNRESET'))
    await settle()
    assert.equal(bench.state, 'waiting')
    assert.match(bench.receiver.snapshot().lastError ?? '', /ECONNRESET/)
    const startMs = bench.clock.now()
    for (let turn = 0; bench.refusals.length > 0; turn++) {
      assert.ok(turn < 1_000)
      await bench.pass(100)
    }
    const tookMs = bench.clock.now() - startMs
    assert.ok(tookMs > 20_000 && tookMs < 120_000, `${tookMs} ms for twelve refusals`)
    await bench.pass(10_000)
    await bench.begin()
    await bench.send(1, 2)
    assert.equal(bench.receiver.snapshot().durableLsn, at(2))
    bench.socket.close()
    await bench.pass(100)
    assert.equal(bench.sessions.length, 3, 'a stream that brought WAL is a success: the next pause is short')
  })

  test('closes the connection when the pool stays full, and comes back when half of it is free', async () => {
    const bench = await new ReceiverBench().streaming()
    bench.archive.isManual = true
    await bench.send(0, 4)
    assert.equal(bench.receiver.snapshot().poolFree, 0)
    await bench.pass(poolFullMsMax)
    assert.deepEqual([bench.state, bench.session.isClosed], ['waiting', true])
    await bench.pass(600_000)
    assert.equal(bench.sessions.length, 1)
    bench.archive.pending[0]?.succeed()
    await settle()
    assert.equal(bench.sessions.length, 1, 'one buffer is not enough')
    bench.archive.pending[0]?.succeed()
    await settle()
    assert.equal(bench.sessions.length, 2)
    await bench.begin()
    bench.archive.isManual = false
    for (const put of bench.archive.pending) put.succeed()
    await bench.send(3, 4)
    assert.deepEqual(
      bench.archive.segmentNames,
      [0, 1, 2, 3].map((index) => nameOf(index)),
    )
    assert.equal(bench.socket.statuses.filter(({ flush }) => flush > 0n).at(-1)?.flush, at(4))
  })

  test('keeps what it was sent when a server contradicts it, and compares from the slot on', async () => {
    const bench = await new ReceiverBench().streaming()
    await bench.send(0, 2.5)
    bench.socket.close()
    await bench.pass(100)
    await bench.begin()
    bench.prepare = (session) => session.setSlot('walrx', at(1.5))
    await bench.send(2, 2.2, fork(timelineOne, 1, at(1.1)))
    assert.match(bench.receiver.snapshot().lastError ?? '', /sent different bytes/)
    assert.ok(bench.archive.files.has(partialName(nameOf(2))))
    await bench.pass(200)
    await bench.begin()
    assert.match(String(bench.socket.writes[0]), /PHYSICAL 0\/600000 TIMELINE 1/)
    await bench.send(1, 2, fork(timelineOne, 1, at(1.1)))
    assert.equal(bench.code, 'WALRX_ARCHIVE_CONFLICT')
    await bench.assertNothingLeft()
  })

  test('does not idle when a server keeps sending WAL that cannot be taken', async () => {
    const bench = await new ReceiverBench().streaming()
    await bench.send(0, 0.1)
    for (let turn = 0; turn < 8; turn++) {
      bench.socket.deliver(walMessage(at(3), Buffer.alloc(10)))
      await settle()
      await bench.pass(10_000)
      await bench.begin()
    }
    const count = bench.sessions.length
    bench.socket.deliver(walMessage(at(3), Buffer.alloc(10)))
    await bench.pass(4_000)
    assert.equal(bench.sessions.length, count, 'the pause has grown')
  })
})

describe('the start', () => {
  test('ends with the first error, so that a wrong password is reported at once', async () => {
    for (const code of ['WALRX_AUTH_FAILED', 'WALRX_CONNECT_FAILED', 'WALRX_NO_WALSENDER'] as const) {
      const bench = new ReceiverBench()
      bench.refusals = [failure(code)]
      bench.start()
      await settle()
      assert.equal(bench.code, code)
      await bench.assertNothingLeft()
    }
  })

  test('ends when the archive is another cluster’s, or the store refuses, the connection being closed', async () => {
    const other = new ReceiverBench()
    other.archive.system = 1n
    const denied = new ReceiverBench()
    denied.archive.outage = failure('WALRX_STORAGE_DENIED')
    for (const [bench, code] of [
      [other, 'WALRX_OTHER_CLUSTER'],
      [denied, 'WALRX_STORAGE_DENIED'],
    ] as const) {
      bench.start()
      await settle()
      assert.equal(bench.code, code)
      await bench.assertNothingLeft()
    }
  })

  test('ends when the server has no WAL to stream and there is no way around', async () => {
    const bench = new ReceiverBench().start()
    await settle()
    bench.socket.deliver(copyBoth, errorMessage('58P01', 'has already been removed'))
    await bench.pass(200)
    assert.ok(bench.session.calls.includes('drop walrx'), 'a slot that keeps nothing is created again, once')
    bench.socket.deliver(copyBoth, errorMessage('58P01', 'has already been removed'))
    await bench.pass(200)
    assert.equal(bench.code, 'WALRX_WAL_REMOVED')
    assert.equal(bench.sessions.length, 2)
    await bench.assertNothingLeft()
  })

  test('waits for a slot that is in use, says so once, and goes on when it is free', async () => {
    const log = new RecordingLog()
    const bench = new ReceiverBench({ log }).start()
    const warnings = () => log.lines.filter(({ level }) => level === 'warn' || level === 'error')
    const said = (message: string) => log.lines.filter((line) => line.level !== 'debug' && line.message === message)
    for (let turn = 0; turn < 50; turn++) {
      await bench.pass(turn === 0 ? 0 : 10_000)
      bench.socket.deliver(errorMessage('55006', 'replication slot "walrx" is active for PID 4711'))
      await settle()
      assert.equal(bench.state, 'waiting')
    }
    assert.deepEqual(
      warnings().map(({ message }) => message),
      ['the slot is in use by PID 4711: waiting until it is free'],
    )
    assert.match(bench.receiver.snapshot().lastError ?? '', /is active for PID 4711/)
    assert.equal(said('connected').length, 1)
    assert.deepEqual(said('streaming'), [])
    // Meanwhile the other one has moved the slot, and what it has acknowledged is removed.
    for (const index of [0, 1, 2]) {
      const from = index * segmentSize
      bench.archive.files.set(nameOf(index), Buffer.from(timelineOne.bytes.subarray(from, from + segmentSize)))
    }
    bench.slotLsn = at(3)
    await bench.pass(10_000)
    bench.socket.deliver(copyBoth, errorMessage('58P01', 'has already been removed'))
    await bench.pass(20_000)
    assert.match(String(bench.socket.writes[0]), /PHYSICAL 0\/800000/)
    await bench.begin()
    assert.equal(bench.state, 'streaming')
    assert.deepEqual(bench.archive.gaps, [])
    bench.drain.abort()
    await settle()
  })

  test('waits a minute for a server that is starting up', async () => {
    const bench = new ReceiverBench()
    bench.refusals = Array.from({ length: 1_000 }, () => failure('WALRX_SERVER_STARTING'))
    bench.start()
    await bench.pass(55_000)
    assert.equal(bench.outcome, undefined)
    await bench.pass(20_000)
    assert.equal(bench.code, 'WALRX_SERVER_STARTING')
  })
})

describe('what cannot go on', () => {
  test('a contradiction in the archive ends the receiver, and nothing goes on after it', async () => {
    const bench = new ReceiverBench()
    bench.archive.files.set(nameOf(1), Buffer.from('other'))
    await bench.streaming()
    await bench.send(0, 2.5)
    assert.equal(bench.code, 'WALRX_ARCHIVE_CONFLICT')
    assert.equal(bench.socket.statuses.filter(({ flush }) => flush > 0n).at(-1)?.flush, at(1))
    await bench.assertNothingLeft()
  })

  for (const code of ['WALRX_KEY_WRONG', 'WALRX_KEY_MISSING'] as const) {
    test(`an object of another key ends the receiver (${code})`, async () => {
      const bench = await new ReceiverBench().streaming()
      bench.refusals = [failure(code)]
      bench.socket.close()
      await bench.pass(20_000)
      assert.equal(bench.code, code)
      await bench.assertNothingLeft()
    })
  }

  test('unless it is one host’s, while the one that was streamed from does not answer', async () => {
    const bench = await new ReceiverBench().streaming()
    const conflict = failure('WALRX_ARCHIVE_CONFLICT')
    const down = new WalrxError('WALRX_CONNECT_FAILED', 'nobody listens')
    bench.refusals = [combineFailures([conflict, down], 'no host can be used')]
    bench.socket.close()
    await bench.pass(20_000)
    assert.deepEqual([bench.outcome, bench.sessions.length, bench.refusals], [undefined, 2, []])
    bench.refusals = [conflict]
    bench.socket.close()
    await bench.pass(20_000)
    assert.equal(bench.code, 'WALRX_ARCHIVE_CONFLICT', 'alone it is a contradiction')
    await bench.assertNothingLeft()
  })

  test('so does whatever else an upload fails with for good, while connected or not', async () => {
    for (const isConnected of [true, false]) {
      const bench = new ReceiverBench()
      bench.archive.isManual = true
      await bench.streaming()
      await bench.send(0, 1.5)
      if (!isConnected) {
        bench.refusals = Array.from({ length: 100 }, () => failure('WALRX_CONNECT_FAILED'))
        bench.socket.close()
        await settle()
      }
      bench.archive.pending[0]?.fail(failure('WALRX_CODEC_UNSUPPORTED'))
      await bench.pass(20_000)
      assert.equal(bench.code, 'WALRX_CODEC_UNSUPPORTED', String(isConnected))
      await bench.assertNothingLeft()
    }
  })

  test('so it does while the pool is full and nobody is connected', async () => {
    const bench = new ReceiverBench()
    bench.archive.isManual = true
    await bench.streaming()
    await bench.send(0, 4)
    await bench.pass(poolFullMsMax + 1)
    bench.archive.pending[0]?.fail(failure('WALRX_ARCHIVE_CONFLICT'))
    await settle()
    assert.equal(bench.code, 'WALRX_ARCHIVE_CONFLICT')
    await bench.assertNothingLeft()
  })

  test('two servers that were promoted to the same timeline apart from each other', async () => {
    const bench = new ReceiverBench()
    const history = (lsn: Lsn) => (session: FakeSession) => {
      session.timeline = 2
      session.histories.set(2, `1\t${formatLsn(lsn)}\tpromoted\n`)
    }
    bench.slotLsn = at(1)
    bench.prepare = history(at(0.5))
    await bench.streaming()
    await bench.send(1, 1.5, fork(timelineOne, 2, at(0.5)))
    bench.prepare = history(at(0.75))
    bench.socket.close()
    await bench.pass(100)
    assert.equal(bench.code, 'WALRX_ARCHIVE_CONFLICT')
    await bench.assertNothingLeft()
  })

  test('uploads that a fatal error has left unfinished do not keep the process alive', async () => {
    const bench = new ReceiverBench()
    await bench.streaming()
    bench.archive.putFailure = storageOut()
    await bench.send(0, 1.5)
    bench.prepare = (session) => {
      session.timeline = 2
      session.histories.set(2, `1\t${formatLsn(at(1.5))}\tpromoted\n`)
    }
    bench.archive.files.set('00000002.history', Buffer.from('another'))
    bench.socket.close()
    await bench.pass(200)
    assert.equal(bench.code, 'WALRX_ARCHIVE_CONFLICT')
    await bench.assertNothingLeft()
  })
})

describe('--endpos', () => {
  test('stops when everything up to there is durable, acknowledged, and not before', async () => {
    const bench = new ReceiverBench({ endpos: at(1.5) })
    bench.archive.isManual = true
    await bench.streaming()
    await bench.send(0, 2)
    bench.archive.pending[0]?.succeed()
    await settle()
    assert.equal(bench.outcome, undefined)
    bench.archive.pending[0]?.succeed()
    await settle()
    assert.equal(bench.socket.statuses.filter(({ flush }) => flush > 0n).at(-1)?.flush, at(2))
    bench.socket.deliver(copyDone, commandComplete('COPY 0'), readyForQuery)
    await settle()
    assert.equal(bench.outcome, 'stopped')
    await bench.assertNothingLeft()
  })

  test('that lies before the start stops at once', async () => {
    const bench = new ReceiverBench({ endpos: at(0) })
    await bench.streaming()
    await bench.pass(2_000)
    assert.equal(bench.outcome, 'stopped')
    await bench.assertNothingLeft()
  })

  test('is reached while there is no connection, too', async () => {
    const bench = new ReceiverBench({ endpos: at(1) })
    bench.archive.isManual = true
    await bench.streaming()
    await bench.send(0, 1)
    bench.refusals = Array.from({ length: 100 }, () => failure('WALRX_CONNECT_FAILED'))
    bench.socket.close()
    await settle()
    bench.archive.pending[0]?.succeed()
    await bench.pass(10_000)
    assert.equal(bench.outcome, 'stopped')
    await bench.assertNothingLeft()
  })
})
