import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import type { Logger } from '../../../src/observe/log.ts'
import { addBytes, type Lsn, parseLsn } from '../../../src/postgres/lsn.ts'
import type { ReplicationSession } from '../../../src/postgres/protocol/session.ts'
import { TimelineChain } from '../../../src/postgres/wal/timeline-chain.ts'
import { WalrxError } from '../../../src/primitives/errors.ts'
import type { PreparedSource } from '../../../src/receive/source/prepared-source.ts'
import { SlotLagLimit, type SlotLagLimitOptions, slotProbeMs } from '../../../src/receive/slot/slot-lag-limit.ts'
import { VirtualClock } from '../../harness/time/virtual-clock.ts'
import { FakeSession, settle } from '../fakes.ts'

const MiB = 1024 * 1024
const start = parseLsn('0/5000000')
const never = new AbortController().signal

/** A position, so many megabytes after the slot's first one. */
const at = (megabytes: number): Lsn => addBytes(start, Math.round(megabytes * MiB))

/** A guard of a slot that may keep 8 MB, with server and clock in the test's hands. */
class Bench {
  readonly clock = new VirtualClock()
  readonly lines: string[] = []
  readonly lags: [number, boolean][] = []
  readonly sessions: FakeSession[] = []
  /** What the server has; undefined refuses connections. */
  server: { end: Lsn; slot: Lsn | undefined | 'unreadable' } | undefined
  dropFailures: Error[] = []
  /** Connections wait for it. */
  hold: Promise<void> | undefined
  connects = 0
  host = 'fake:5432'
  readonly guard: SlotLagLimit

  constructor(over: Partial<SlotLagLimitOptions> = {}) {
    const say = (level: string) => (message: string) => void this.lines.push(`${level} ${message}`)
    const log: Logger = { debug: () => {}, info: say('info'), warn: say('warn'), error: say('error'), child: () => log }
    this.guard = new SlotLagLimit({
      slot: 'walrx',
      server: { connect: (_signal, judge) => this.#connect(judge) },
      limitBytes: 8 * MiB,
      action: 'drop',
      clock: this.clock,
      random: () => 0,
      log,
      onLag: (lagBytes, isOver) => this.lags.push([lagBytes / MiB, isOver]),
      ...over,
    })
  }

  async #connect(judge?: (session: ReplicationSession) => Promise<void>): Promise<ReplicationSession> {
    this.connects++
    await this.hold
    if (!this.server) throw new WalrxError('WALRX_CONNECT_FAILED', 'nobody there (test)')
    const session = new FakeSession(this.server.end)
    session.host = this.host
    await judge?.(session)
    if (this.server.slot === 'unreadable') session.slots.set('walrx', { kind: 'unreadable' })
    else if (this.server.slot !== undefined) session.setSlot('walrx', this.server.slot)
    session.dropFailure = this.dropFailures.shift()
    this.sessions.push(session)
    return session
  }

  stream(slotRestart: Lsn | undefined, serverEnd: Lsn, startLsn = start): AbortSignal {
    const source: PreparedSource = {
      session: new FakeSession(serverEnd),
      systemId: 1n,
      segmentSize: MiB,
      walSenderTimeoutMs: 60_000,
      chain: new TimelineChain(1, []),
      serverEnd,
      slotRestart,
      slotState: 'found',
    }
    return this.guard.streamBegan(source, startLsn)
  }

  get drops(): number {
    return this.sessions.filter((session) => session.calls.includes('drop walrx')).length
  }

  async pass(ms: number): Promise<void> {
    await this.clock.pass(ms)
    await settle()
  }
}

describe('while WAL streams, the lag', () => {
  test('is the server’s end less the slot’s position, which moves by what is reported', () => {
    const bench = new Bench({ limitBytes: undefined })
    bench.stream(at(0), at(1))
    bench.guard.heard(at(3))
    bench.guard.reported(at(2))
    assert.deepEqual(bench.lags, [
      [1, false],
      [3, false],
      [1, false],
    ])
    bench.stream(undefined, at(3), at(1))
    assert.deepEqual(bench.lags.at(-1), [2, false], 'from the start where the slot cannot be read')
  })

  test('is warned of once for each time that it crosses half of the limit, and all of it', () => {
    const bench = new Bench({ action: 'warn' })
    const exceeded = bench.stream(at(0), at(3))
    for (const end of [4, 4.5, 5, 8, 8.5, 20]) bench.guard.heard(at(end))
    assert.deepEqual(bench.lines, [
      'warn the slot keeps more WAL than half of --max-slot-lag',
      'error the slot keeps more WAL than --max-slot-lag allows',
    ])
    assert.deepEqual(bench.lags.at(-1), [20, true])
    bench.guard.reported(at(13))
    bench.guard.heard(at(21.5))
    assert.equal(bench.lines.length, 2, 'it has hardly fallen below: that is the same time')
    bench.guard.reported(at(20))
    bench.guard.heard(at(29))
    assert.equal(bench.lines.length, 3)
    bench.guard.reported(at(29))
    bench.guard.heard(at(34))
    assert.equal(bench.lines.length, 4)
    assert.equal(exceeded.aborted, false, 'the slot is dropped only on demand')
  })

  test('above the limit ends the stream, with both sizes in the reason', () => {
    const bench = new Bench()
    const exceeded = bench.stream(at(0), at(8))
    assert.equal(exceeded.aborted, false)
    bench.guard.heard(addBytes(at(8), 1))
    assert.equal((exceeded.reason as WalrxError).code, 'WALRX_SLOT_OVER_BUDGET')
    assert.match(
      (exceeded.reason as WalrxError).message,
      /^slot "walrx" on fake:5432 keeps 8388609 bytes of WAL, --max-slot-lag is 8388608$/,
    )
  })
})

describe('a slot that is to be dropped', () => {
  test('may be held by a walsender that is about to end', async () => {
    const bench = new Bench()
    bench.server = { end: at(9), slot: at(0) }
    const active = new WalrxError('WALRX_SLOT_ACTIVE', 'is active (test)')
    bench.dropFailures = [active, active]
    const dropped = bench.guard.drop(never)
    await bench.pass(2_000)
    assert.equal(await dropped, true)
    assert.equal(bench.sessions.length, 3)
    assert.ok(bench.sessions.every(({ isClosed }) => isClosed))
    assert.deepEqual([bench.guard.takeDropped(), bench.guard.takeDropped()], [true, false])
  })

  test('and cannot be is reported, and left to the next stream', async () => {
    const bench = new Bench()
    assert.equal(await bench.guard.drop(never), false)
    assert.deepEqual(bench.lines, ['error the slot could not be dropped'])
    assert.equal(bench.guard.takeDropped(), false)
    bench.server = { end: at(9), slot: at(0) }
    bench.dropFailures = Array.from({ length: 100 }, () => new WalrxError('WALRX_SLOT_ACTIVE', 'is active (test)'))
    const dropped = bench.guard.drop(never)
    await bench.pass(60_000)
    assert.equal(await dropped, false)
  })

  test('is not dropped again where a new one begins above the limit: the last checkpoint is that old', async () => {
    const bench = new Bench()
    bench.server = { end: at(20), slot: at(0) }
    bench.stream(at(0), at(20))
    assert.equal(await bench.guard.drop(never), true)
    const exceeded = bench.stream(at(5), at(20))
    assert.equal(exceeded.aborted, false)
    assert.match(bench.lines.at(-1) ?? '', /since the last checkpoint alone is more than --max-slot-lag/)
    bench.guard.heard(at(27.9))
    assert.equal(exceeded.aborted, false)
    bench.guard.heard(at(28.1))
    assert.equal(exceeded.aborted, true, 'but it may not grow without end either')
  })

  test('is never moved back below its position by a report: it would keep too much again', () => {
    const source = { slotRestart: at(5) }
    assert.equal(new Bench().guard.floor(source), at(5))
    assert.equal(new Bench({ action: 'warn' }).guard.floor(source), undefined)
    assert.equal(new Bench({ limitBytes: undefined }).guard.floor(source), undefined)
  })
})

describe('while nothing streams', () => {
  test('the server is asked, and the slot dropped above the limit', async () => {
    const bench = new Bench()
    bench.stream(at(0), at(1))
    bench.guard.streamEnded()
    await bench.pass(slotProbeMs + 1)
    assert.equal(bench.sessions.length, 0, 'a server that is out is no reason to end')
    bench.server = { end: at(7), slot: at(0) }
    await bench.pass(slotProbeMs + 1)
    assert.deepEqual([bench.lags.at(-1), bench.drops], [[7, false], 0])
    bench.server = { end: at(9), slot: at(0) }
    await bench.pass(slotProbeMs + 1)
    assert.deepEqual([bench.lags.at(-1), bench.drops], [[0, false], 1])
    bench.server = { end: at(99), slot: undefined }
    await bench.pass(10 * slotProbeMs)
    assert.deepEqual([bench.lags.at(-1), bench.drops], [[0, false], 1])
    assert.ok(bench.sessions.every(({ isClosed }) => isClosed))
    bench.guard.stop()
  })

  test('only the host is asked that streamed last: our slot is there, and not on a former primary', async () => {
    const bench = new Bench()
    bench.stream(at(0), at(1))
    bench.guard.streamEnded()
    bench.host = 'former:5432'
    bench.server = { end: at(9), slot: at(0) }
    await bench.pass(3 * slotProbeMs)
    assert.deepEqual([bench.lags.at(-1), bench.sessions.length], [[1, false], 0])
    bench.guard.stop()
  })

  test('a slot that cannot be read is where it was last', async () => {
    const bench = new Bench()
    bench.stream(at(0), at(1))
    bench.guard.reported(at(2))
    bench.guard.streamEnded()
    bench.server = { end: at(9), slot: 'unreadable' }
    await bench.pass(slotProbeMs + 1)
    assert.deepEqual([bench.lags.at(-1), bench.drops], [[7, false], 0])
    bench.guard.stop()
  })

  test('nobody asks without a limit, while a stream flows, or after the end', async () => {
    const unlimited = new Bench({ limitBytes: undefined })
    unlimited.server = { end: at(9), slot: at(0) }
    unlimited.guard.streamEnded()
    await unlimited.pass(10 * slotProbeMs)
    const bench = new Bench()
    bench.server = { end: at(9), slot: at(0) }
    bench.guard.streamEnded()
    bench.stream(at(8), at(9))
    await bench.pass(10 * slotProbeMs)
    bench.guard.streamEnded()
    bench.guard.stop()
    bench.guard.streamEnded()
    await bench.pass(10 * slotProbeMs)
    assert.deepEqual([unlimited.sessions.length, bench.sessions.length], [0, 0])
  })

  test('a stream that begins and ends during a probe leaves one timer, which the end cancels', async () => {
    const bench = new Bench()
    bench.server = { end: at(1), slot: at(0) }
    bench.guard.streamEnded()
    const { promise, resolve } = Promise.withResolvers<void>()
    bench.hold = promise
    await bench.pass(slotProbeMs)
    assert.equal(bench.connects, 1)
    bench.stream(at(0), at(1))
    bench.guard.streamEnded()
    resolve()
    bench.hold = undefined
    await settle()
    await bench.pass(3 * slotProbeMs + 1)
    assert.equal(bench.connects, 4, 'one probe for each period')
    bench.guard.stop()
    await assert.rejects(
      bench.clock.run(
        () => false,
        () => false,
        0,
      ),
      /nothing will ever happen again/,
    )
  })

  test('a stream that begins during a probe and lasts is not disturbed by it', async () => {
    const bench = new Bench()
    bench.server = { end: at(1), slot: at(0) }
    bench.guard.streamEnded()
    const { promise, resolve } = Promise.withResolvers<void>()
    bench.hold = promise
    await bench.pass(slotProbeMs)
    bench.stream(at(0), at(1))
    resolve()
    await settle()
    await bench.pass(3 * slotProbeMs)
    assert.equal(bench.connects, 1)
    bench.guard.streamEnded()
    await bench.pass(slotProbeMs)
    assert.equal(bench.connects, 2)
    bench.guard.stop()
  })
})
