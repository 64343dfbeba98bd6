import assert from 'node:assert/strict'
import { getEventListeners } from 'node:events'
import { describe, test } from 'node:test'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { formatLsn } from '../../src/postgres/lsn.ts'
import { poolFullMsMax } from '../../src/receive/stream/stream-session.ts'
import { timelineOne } from '../faults/recorded-wal.ts'
import { commandComplete, copyDone, endOfTimeline, readyForQuery, walMessage } from '../postgres/server-messages.ts'
import { settle, storageOut } from './fakes.ts'
import { at, failure, nameOf, ReceiverBench, refuseUnhandledRejections } from './receiver-bench.ts'

refuseUnhandledRejections()

describe('the drain', () => {
  test('finishes uploads, acknowledges them, says goodbye, and leaves the unfinished segment to the slot', async () => {
    const bench = new ReceiverBench()
    bench.archive.isManual = true
    await bench.streaming()
    await bench.send(0, 1.5)
    bench.drain.abort()
    await settle()
    assert.equal(bench.state, 'draining')
    await bench.send(1.5, 2)
    bench.archive.pending[0]?.succeed()
    await settle()
    const flushed = bench.socket.statuses.filter(({ flush }) => flush > 0n)
    assert.deepEqual(
      flushed.map(({ flush }) => flush),
      [at(1)],
    )
    assert.equal(bench.socket.writes.at(-1)?.[0], 0x63)
    bench.socket.deliver(copyDone, commandComplete('COPY 0'), readyForQuery)
    await settle()
    assert.equal(bench.outcome, 'stopped')
    assert.deepEqual([...bench.archive.files.keys()], [nameOf(0)], 'no partial, no half segment')
    await bench.assertNothingLeft()
  })

  test('does not wait for a server that does not answer the goodbye', async () => {
    const bench = await new ReceiverBench().streaming()
    bench.drain.abort()
    await bench.pass(1_900)
    assert.equal(bench.outcome, undefined)
    await bench.pass(200)
    assert.equal(bench.outcome, 'stopped')
    await bench.assertNothingLeft()
  })

  test('gives up at its deadline, and at the second signal, saying what is left', async () => {
    for (const isSecondSignal of [true, false]) {
      const bench = new ReceiverBench()
      await bench.streaming()
      bench.archive.putFailure = storageOut()
      await bench.send(0, 2.5)
      bench.drain.abort()
      await bench.pass(29_000)
      assert.equal(bench.outcome, undefined)
      if (isSecondSignal) bench.now.abort()
      else await bench.pass(1_100)
      await settle()
      assert.equal(bench.code, 'WALRX_DRAIN_INCOMPLETE')
      assert.match(String(bench.outcome), /2 files not archived/)
      await bench.assertNothingLeft()
    }
  })

  /** Where the receiver can be when the signal comes: each brings it there. */
  const places: Record<string, (bench: ReceiverBench) => Promise<void>> = {
    'while connecting': async (bench) => {
      bench.connect = () => Promise.reject(failure('WALRX_SERVER_STARTING'))
      bench.start()
      await settle()
    },
    'while a connection is being made': async (bench) => {
      bench.connect = (signal?: AbortSignal) =>
        new Promise((_, reject) =>
          signal?.addEventListener('abort', () => reject(signal.reason as Error), { once: true }),
        )
      bench.start()
      await settle()
    },
    'while the server does not answer who it is': async (bench) => {
      bench.prepare = (session) => (session.identifySystem = () => new Promise(() => {}))
      bench.start()
      await settle()
    },
    'while the store does not answer what is there': async (bench) => {
      bench.archive.lookAhead = (_segment, { signal } = {}) =>
        new Promise<void>((_resolve, reject) => {
          signal?.addEventListener('abort', () => reject(signal.reason as Error), { once: true })
        })
      bench.start()
      await settle()
    },
    'while the server has not begun to stream': async (bench) => {
      bench.start()
      await settle()
    },
    'while streaming': async (bench) => {
      await bench.streaming()
      await bench.send(0, 1.5)
    },
    'while reading is paused in the middle of a message': async (bench) => {
      bench.archive.isManual = true
      await bench.streaming()
      await bench.send(0, 5)
      bench.archive.isManual = false
      for (const put of bench.archive.pending) put.succeed()
    },
    'while a timeline is being settled': async (bench) => {
      await bench.streaming()
      bench.archive.isManual = true
      await bench.send(0, 1.5)
      bench.socket.deliver(copyDone, endOfTimeline(2, formatLsn(at(1.5))))
      await settle()
      bench.archive.isManual = false
      setImmediate(() => bench.archive.pending.forEach((put) => put.succeed()))
    },
    'while the pool is full and nobody is connected': async (bench) => {
      await bench.streaming()
      bench.archive.putFailure = storageOut()
      await bench.send(0, 5)
      await bench.pass(poolFullMsMax + 1)
      bench.archive.putFailure = undefined
    },
    'while it pauses between two attempts': async (bench) => {
      await bench.streaming()
      bench.socket.close()
      await settle()
    },
  }
  for (const [place, reach] of Object.entries(places)) {
    test(`ends ${place}`, async () => {
      const bench = new ReceiverBench()
      await reach(bench)
      assert.equal(bench.outcome, undefined)
      bench.drain.abort()
      await bench.pass(15_000)
      assert.equal(bench.outcome, 'stopped')
      await bench.assertNothingLeft()
    })
  }

  test('ends at its deadline while the store is out and nobody is connected', async () => {
    const bench = await new ReceiverBench().streaming()
    bench.archive.putFailure = storageOut()
    await bench.send(0, 5)
    await bench.pass(poolFullMsMax + 1)
    assert.equal(bench.session.isClosed, true)
    bench.drain.abort()
    await bench.pass(30_001)
    assert.equal(bench.code, 'WALRX_DRAIN_INCOMPLETE')
    await bench.assertNothingLeft()
  })

  test('before anything has begun ends without a connection', async () => {
    const bench = new ReceiverBench()
    bench.drain.abort()
    bench.start()
    await settle()
    assert.deepEqual([bench.outcome, bench.sessions.length], ['stopped', 0])
  })

  test('that begins between two steps of a connection leaves no rejection unhandled', async () => {
    for (let turns = 0; turns < 60; turns++) {
      const bench = new ReceiverBench()
      bench.start()
      for (let turn = 0; turn < turns; turn++) await Promise.resolve()
      bench.drain.abort()
      await bench.pass(3_000)
      assert.equal(bench.outcome, 'stopped', `after ${turns} turns`)
      await bench.assertNothingLeft()
    }
  })
})

describe('thousands of reconnections', () => {
  test('leave no listener, no timer and no memory', { timeout: 120_000 }, async () => {
    setFlagsFromString('--expose-gc')
    const collect = runInNewContext('gc') as () => void
    const heap = () => {
      collect()
      return process.memoryUsage().heapUsed
    }
    const bench = await new ReceiverBench().streaming()
    await bench.send(0, 0.1)
    const cycle = async (count: number) => {
      for (let turn = 0; turn < count; turn++) {
        const { session } = bench
        bench.sessions.length = 0
        bench.meter.lines.length = 0
        bench.archive.calls.length = 0
        session.socket.close()
        await bench.pass(100)
        await bench.begin()
        bench.socket.deliver(walMessage(at(0), timelineOne.bytes.subarray(0, 100)))
      }
    }
    await cycle(1_500)
    const before = heap()
    await cycle(2_000)
    const grown = (heap() - before) / 2_000
    assert.ok(grown < 150, `${grown} bytes are left for each`)
    assert.ok(getEventListeners(bench.drain.signal, 'abort').length <= 1)
    bench.drain.abort()
    await bench.pass(3_000)
    await bench.assertNothingLeft()
  })
})
