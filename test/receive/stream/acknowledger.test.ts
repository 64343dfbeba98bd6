/** What the server hears: pulses that promise nothing at rest, or, where commits wait, what is durable and nothing else. */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { silentLog } from '../../../src/observe/log.ts'
import type { StandbyStatus } from '../../../src/postgres/protocol/frames.ts'
import { invalidLsn, type Lsn, toLsn } from '../../../src/postgres/lsn.ts'
import { pulse, quietStatus } from '../../../src/receive/stream/flush-rule.ts'
import { PulseAcknowledger, SynchronousAcknowledger } from '../../../src/receive/stream/acknowledger.ts'
import { VirtualClock } from '../../harness/time/virtual-clock.ts'

const runStart = toLsn(1000n)

/** A status that says flushed, and written, up to there. */
const flushed = (lsn: bigint): StandbyStatus => ({
  write: lsn as Lsn,
  flush: lsn as Lsn,
  apply: invalidLsn,
  replyRequested: false,
})

/** A stream; the test says what has arrived and what is durable. */
class Stream {
  readonly clock = new VirtualClock()
  readonly sent: StandbyStatus[] = []
  readonly candidate: boolean[] = []
  readonly acknowledger: SynchronousAcknowledger
  durable = 1000n
  received = 1000n

  constructor(outageMs?: number) {
    this.acknowledger = new SynchronousAcknowledger({
      durable: () => this.durable as Lsn,
      runStart,
      outageMs,
      clock: this.clock,
      log: silentLog,
      send: (status) => this.sent.push(status),
      onCandidate: (isCandidate) => this.candidate.push(isCandidate),
    })
  }

  /** The session's part: what is to be sent goes out. */
  #progress(): readonly StandbyStatus[] {
    const news = this.acknowledger.progress(this.received as Lsn)
    if (!news) return []
    this.acknowledger.sent(news)
    return news.statuses
  }

  receive(bytes: bigint): readonly StandbyStatus[] {
    this.received += bytes
    return this.#progress()
  }

  store(upTo: bigint): readonly StandbyStatus[] {
    this.durable = upTo
    return this.#progress()
  }

  get status(): StandbyStatus {
    return this.acknowledger.status(this.received as Lsn)
  }

  ask(serverEnd = this.received): void {
    this.acknowledger.asked(serverEnd as Lsn, this.received as Lsn)
  }

  async pass(ms: number): Promise<void> {
    await this.clock.pass(ms)
  }
}

describe('where commits wait', () => {
  test('nothing is promised before the first byte is durable', () => {
    const stream = new Stream()
    assert.deepEqual(stream.status, quietStatus(1000n as Lsn))
    assert.deepEqual(stream.receive(500n), [])
    assert.deepEqual(stream.status, quietStatus(1500n as Lsn))
    assert.deepEqual(stream.candidate, [])
  })

  test('write and flush are what is durable, at once and in every status after', () => {
    const stream = new Stream()
    stream.receive(500n)
    assert.deepEqual(stream.store(1200n), [flushed(1200n)])
    assert.deepEqual(stream.candidate, [true])
    assert.deepEqual(stream.receive(500n), [], 'nothing new is durable')
    assert.deepEqual(stream.status, flushed(1200n), 'bytes in memory release no remote_write')
    assert.deepEqual(stream.store(2000n), [flushed(2000n)])
    assert.deepEqual(stream.candidate, [true])
  })

  test('what the archive had before is reported as the server repeats it, never ahead', () => {
    const stream = new Stream()
    stream.durable = 5000n
    assert.deepEqual(stream.receive(500n), [flushed(1500n)])
    assert.deepEqual(stream.receive(4000n), [flushed(5000n)])
    assert.deepEqual(stream.status, flushed(5000n))
  })

  test('nothing is ever taken back', () => {
    const stream = new Stream()
    stream.receive(500n)
    stream.store(1400n)
    assert.deepEqual(stream.store(1300n), [])
    assert.deepEqual(stream.status, flushed(1400n))
  })

  test('an acknowledgement that did not go out is made again', () => {
    const stream = new Stream()
    stream.received = 1500n
    stream.durable = 1200n
    assert.ok(stream.acknowledger.progress(1500n as Lsn))
    assert.deepEqual(stream.status, quietStatus(1500n as Lsn))
    assert.deepEqual(stream.receive(1n), [flushed(1200n)])
  })

  test('the end of the stream ends the candidacy and all timers', async () => {
    const stream = new Stream(1000)
    stream.receive(500n)
    stream.store(1200n)
    stream.acknowledger.close()
    await stream.pass(10_000)
    assert.deepEqual(stream.candidate, [true, false])
    assert.deepEqual(stream.sent, [])
  })
})

describe('an outage', () => {
  const outageMs = 10_000

  /** A stream with 200 durable bytes and 300 more that wait, since this instant. */
  async function waiting(ms: number | undefined = outageMs): Promise<Stream> {
    const stream = new Stream(ms)
    stream.receive(200n)
    stream.store(1200n)
    await stream.pass(60_000)
    stream.receive(300n)
    return stream
  }

  test('ends the candidacy when nothing has become durable for the time, and not a moment sooner', async () => {
    const stream = await waiting()
    await stream.pass(outageMs - 1)
    assert.deepEqual(stream.sent, [])
    assert.deepEqual(stream.status, flushed(1200n))
    await stream.pass(1)
    assert.deepEqual(stream.sent, [quietStatus(1500n as Lsn)])
    assert.deepEqual(stream.candidate, [true, false])
    assert.deepEqual(stream.status, quietStatus(1500n as Lsn))
    await stream.pass(10 * outageMs)
    assert.equal(stream.sent.length, 1, 'reported once')
  })

  test('is counted from the last byte that became durable', async () => {
    const stream = await waiting()
    await stream.pass(9000)
    stream.store(1300n)
    await stream.pass(outageMs - 1)
    assert.deepEqual(stream.sent, [])
    await stream.pass(1)
    assert.deepEqual(stream.sent, [quietStatus(1500n as Lsn)])
  })

  test('is seen also where all had become durable that was there when the waiting began', async () => {
    const stream = await waiting()
    await stream.pass(4000)
    stream.receive(100n)
    await stream.pass(1000)
    stream.store(1500n)
    await stream.pass(outageMs)
    assert.deepEqual(stream.sent, [quietStatus(1600n as Lsn)])
  })

  test('says what has been received by then', async () => {
    const stream = await waiting()
    await stream.pass(5000)
    stream.receive(1000n)
    await stream.pass(5000)
    assert.deepEqual(stream.sent, [quietStatus(2500n as Lsn)])
  })

  test('is none while nothing waits, or while something becomes durable', async () => {
    const stream = await waiting()
    for (let at = 1210n; at < 1500n; at += 10n) {
      await stream.pass(outageMs - 1)
      stream.store(at)
    }
    stream.store(1500n)
    await stream.pass(10 * outageMs)
    assert.deepEqual(stream.sent, [])
    assert.deepEqual(stream.candidate, [true])
  })

  test('is never seen where commits are to wait for ever', async () => {
    const stream = new Stream()
    stream.receive(200n)
    stream.store(1100n)
    await stream.pass(7 * 24 * 3600_000)
    assert.deepEqual(stream.sent, [])
    assert.deepEqual(stream.status, flushed(1100n))
  })

  test('is over when all is durable: nothing is promised before', async () => {
    const stream = await waiting()
    await stream.pass(outageMs)
    assert.deepEqual(stream.store(1400n), [])
    assert.deepEqual(stream.status, quietStatus(1500n as Lsn))
    assert.deepEqual(stream.store(1500n), [flushed(1500n)])
    assert.deepEqual(stream.candidate, [true, false, true])
    stream.receive(10n)
    await stream.pass(outageMs)
    assert.deepEqual(stream.candidate, [true, false, true, false], 'and the next one is seen')
  })

  test('is over also under a load that never lets the archive catch up to the last byte', async () => {
    const stream = await waiting()
    await stream.pass(outageMs)
    // The store is back: every put takes 100 ms, and meanwhile something new arrives each time.
    for (let step = 0; step < 20; step++) {
      const sentFrom = stream.received
      await stream.pass(50)
      stream.receive(100n)
      await stream.pass(50)
      stream.store(sentFrom)
    }
    assert.deepEqual(stream.candidate, [true, false, true])
    assert.deepEqual(stream.status, flushed(stream.durable))
  })

  test('is not over while commits would wait longer than they are to for a backlog', async () => {
    const stream = await waiting()
    await stream.pass(outageMs)
    // Each byte becomes durable 11 s after it arrived.
    for (let step = 0; step < 50; step++) {
      stream.receive(100n)
      stream.store(stream.received - 1100n > 1200n ? stream.received - 1100n : 1200n)
      await stream.pass(1000)
    }
    assert.deepEqual(stream.candidate, [true, false])
  })
})

describe('a server that shuts down while the storage is out', () => {
  /** Something waits, and the server has sent all it has. */
  function ending(): Stream {
    const stream = new Stream()
    stream.receive(200n)
    stream.store(1100n)
    return stream
  }

  async function pings(stream: Stream, count: number, everyMs: number, serverEnd?: bigint): Promise<void> {
    for (let ping = 0; ping < count; ping++) {
      stream.ask(serverEnd)
      await stream.pass(everyMs)
    }
  }

  test('is let go when it has asked again and again for half a second', async () => {
    const stream = ending()
    await pings(stream, 50, 10)
    assert.deepEqual(stream.sent, [], 'half a second is not over')
    stream.ask()
    assert.deepEqual(stream.sent, [quietStatus(1200n as Lsn)])
    assert.deepEqual(stream.candidate, [true, false])
    await pings(stream, 100, 10)
    assert.equal(stream.sent.length, 1)
  })

  test('is none that pings slowly, however often, or in a short burst', async () => {
    const stream = ending()
    await pings(stream, 1000, 100)
    await pings(stream, 40, 10)
    await stream.pass(100)
    await pings(stream, 40, 10)
    assert.deepEqual(stream.sent, [])
  })

  test('asks a tenth of a second apart at most', async () => {
    const stream = ending()
    await pings(stream, 5, 99)
    assert.deepEqual(stream.sent, [])
    await stream.pass(1)
    await pings(stream, 6, 99)
    stream.ask()
    assert.equal(stream.sent.length, 1)
  })

  test('is none while all is durable, or while it has more to send', async () => {
    const idle = ending()
    idle.store(1200n)
    await pings(idle, 200, 10)
    assert.deepEqual(idle.sent, [])
    const busy = ending()
    await pings(busy, 200, 10, 1201n)
    assert.deepEqual(busy.sent, [])
  })

  test('that goes on all the same is waited for again', async () => {
    const stream = ending()
    await pings(stream, 60, 10)
    assert.deepEqual(stream.candidate, [true, false])
    stream.receive(100n)
    stream.store(1200n)
    assert.deepEqual(stream.status, quietStatus(1300n as Lsn))
    stream.ask(1400n)
    assert.deepEqual(stream.candidate, [true, false, true])
    assert.deepEqual(stream.receive(1n), [flushed(1200n)])
  })
})

describe('by pulse', () => {
  test('the durable end is reported once, when it has moved, and taken back in the same write', () => {
    let durable = 1000n
    const acknowledger = new PulseAcknowledger(() => durable as Lsn, runStart)
    assert.equal(acknowledger.progress(5000n as Lsn), undefined)
    durable = 2000n
    const news = acknowledger.progress(5000n as Lsn)
    assert.deepEqual(news, { statuses: pulse(5000n as Lsn, 2000n as Lsn), durable: 2000n })
    assert.deepEqual(acknowledger.progress(5000n as Lsn), news, 'it did not go out')
    if (news) acknowledger.sent(news)
    assert.equal(acknowledger.progress(6000n as Lsn), undefined)
    assert.deepEqual(acknowledger.status(6000n as Lsn), quietStatus(6000n as Lsn))
  })

  test('what this stream has not brought again is not reported on it', () => {
    const acknowledger = new PulseAcknowledger(() => 3000n as Lsn, runStart)
    assert.equal(acknowledger.progress(2999n as Lsn), undefined)
    assert.equal(acknowledger.progress(3000n as Lsn)?.durable, 3000n)
  })

  test('a storm of pings changes nothing', () => {
    const acknowledger = new PulseAcknowledger(() => runStart, runStart)
    for (let ping = 0; ping < 1000; ping++) acknowledger.asked()
    acknowledger.close()
    assert.deepEqual(acknowledger.status(1500n as Lsn), quietStatus(1500n as Lsn))
  })
})
