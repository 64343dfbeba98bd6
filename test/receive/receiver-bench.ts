/** A receiver with everything around it in the hands of the test: server, store, clock and signals. */
import assert from 'node:assert/strict'
import { getEventListeners } from 'node:events'
import { after, before } from 'node:test'
import { type ErrorCode, WalrxError } from '../../src/primitives/errors.ts'
import { silentLog } from '../../src/observe/log.ts'
import { addBytes, type Lsn, type Timeline } from '../../src/postgres/lsn.ts'
import type { ReplicationServer, ReplicationSession } from '../../src/postgres/protocol/session.ts'
import { segmentNameAt } from '../../src/postgres/wal/wal-file.ts'
import { Receiver, type ReceiverOptions } from '../../src/receive/receiver.ts'
import { firstLsn, segmentSize, systemId, timelineOne } from '../faults/recorded-wal.ts'
import { VirtualClock } from '../harness/time/virtual-clock.ts'
import { copyBoth, keepaliveMessage, walMessage } from '../postgres/server-messages.ts'
import { FakeArchive, FakeSession, RecordingMeter, settle } from './fakes.ts'

/** A position in segments after the first recorded one: 1.5 is the middle of the second. */
export function at(segments: number): Lsn {
  return addBytes(firstLsn, Math.round(segments * segmentSize))
}

/** Name of the segment that is `index` after the first recorded one. */
export function nameOf(index: number, timeline: Timeline = 1): string {
  return segmentNameAt(timeline, at(index), segmentSize)
}

/** An error of that code. */
export const failure = (code: ErrorCode): WalrxError => new WalrxError(code, `a failure of the test (${code})`)

/** Fails the file when a rejection was left unhandled in any of its tests. */
export function refuseUnhandledRejections(): void {
  const unhandled: unknown[] = []
  const note = (reason: unknown) => unhandled.push(reason)
  before(() => process.on('unhandledRejection', note))
  after(() => {
    process.off('unhandledRejection', note)
    assert.deepEqual(unhandled, [])
  })
}

/** See the file's header. Every connect makes a new session, with the slot where the last one left it. */
export class ReceiverBench implements ReplicationServer {
  readonly clock = new VirtualClock()
  readonly archive = new FakeArchive()
  readonly meter = new RecordingMeter()
  readonly drain = new AbortController()
  readonly now = new AbortController()
  readonly receiver: Receiver
  readonly sessions: FakeSession[] = []
  /** What the next connects answer instead of a session. */
  refusals: Error[] = []
  /** Changes each new session before the receiver gets it. */
  prepare: (session: FakeSession) => void = () => {}
  slotLsn: Lsn | undefined = at(0)
  outcome: 'stopped' | WalrxError | undefined

  constructor(over: Partial<ReceiverOptions> = {}) {
    this.receiver = new Receiver({
      server: this,
      archive: this.archive,
      clock: this.clock,
      random: () => 0,
      log: silentLog,
      meter: this.meter,
      slot: 'walrx',
      allowStandby: false,
      memoryBytes: 5 * segmentSize,
      uploadConcurrency: 2,
      tailPace: { intervalMs: 0, bytesMax: 64 * 1024, isSynchronous: false },
      syncOutageMs: undefined,
      endpos: undefined,
      drainTimeoutMs: 30_000,
      ...over,
    })
  }

  async connect(
    _signal?: AbortSignal,
    judge?: (session: ReplicationSession) => Promise<void>,
  ): Promise<ReplicationSession> {
    const refusal = this.refusals.shift()
    if (refusal) throw refusal
    const session = new FakeSession(at(6.9), at(0))
    session.systemId = systemId
    const confirmed = this.sessions.at(-1)?.socket.statuses.findLast(({ flush }) => flush > 0n)?.flush
    if (confirmed !== undefined) this.slotLsn = confirmed
    if (this.slotLsn !== undefined) session.setSlot('walrx', this.slotLsn)
    this.prepare(session)
    this.sessions.push(session)
    try {
      await judge?.(session)
    } catch (error) {
      await session.close()
      throw error
    }
    return session
  }

  start(): this {
    this.receiver.run(this.drain.signal, this.now.signal).then(
      () => (this.outcome = 'stopped'),
      (error: unknown) => (this.outcome = error as WalrxError),
    )
    return this
  }

  /** Starts, and lets the first stream begin. */
  async streaming(): Promise<this> {
    this.start()
    await settle()
    await this.begin()
    return this
  }

  get session(): FakeSession {
    const session = this.sessions.at(-1)
    assert.ok(session, 'nobody has connected yet')
    return session
  }

  /** Code of the error that ended the receiver. */
  get code(): string | undefined {
    return this.outcome instanceof WalrxError ? this.outcome.code : this.outcome
  }

  get socket(): FakeSession['socket'] {
    return this.session.socket
  }

  get state(): string {
    return this.receiver.snapshot().state
  }

  /** The server accepts the newest connection's START_REPLICATION. */
  async begin(): Promise<void> {
    this.socket.deliver(copyBoth, keepaliveMessage(at(6.9)))
    await settle()
  }

  /** WAL of the first timeline, or another one, in messages of 128 KB. */
  async send(from: number, to: number, wal = timelineOne): Promise<void> {
    for (let lsn = at(from); lsn < at(to); lsn = addBytes(lsn, 131_072)) {
      const end = lsn + 131_072n < at(to) ? addBytes(lsn, 131_072) : at(to)
      this.socket.deliver(walMessage(lsn, wal.bytes.subarray(Number(lsn - firstLsn), Number(end - firstLsn))))
    }
    await settle()
  }

  async pass(ms: number): Promise<void> {
    await this.clock.pass(ms)
    await settle()
  }

  /** Nothing is left that could ever happen: no timer, no listener, no connection. */
  async assertNothingLeft(): Promise<void> {
    await assert.rejects(
      this.clock.run(
        () => false,
        () => false,
        0,
      ),
      /nothing will ever happen again/,
    )
    assert.ok(this.sessions.every(({ isClosed }) => isClosed))
    assert.deepEqual(
      [this.drain, this.now].map(({ signal }) => getEventListeners(signal, 'abort').length),
      [0, 0],
    )
    assert.equal(this.state, 'stopped')
  }
}
