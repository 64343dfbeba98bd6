/** A stream session with everything around it that outlives a connection, on a virtual clock. */
import assert from 'node:assert/strict'
import { silentLog } from '../../../src/observe/log.ts'
import { addBytes, type Lsn, toLsn } from '../../../src/postgres/lsn.ts'
import { segmentNameAt } from '../../../src/postgres/wal/wal-file.ts'
import { streamTimings } from '../../../src/receive/stream/stream-timings.ts'
import { PulseAcknowledger } from '../../../src/receive/stream/acknowledger.ts'
import { ByteArena } from '../../../src/receive/segment/byte-arena.ts'
import { SegmentAssembler } from '../../../src/receive/segment/segment-assembler.ts'
import { SegmentPool } from '../../../src/receive/segment/segment-pool.ts'
import { type SessionEnd, StreamSession } from '../../../src/receive/stream/stream-session.ts'
import { UploadQueue } from '../../../src/receive/segment/upload-queue.ts'
import { VirtualClock } from '../../harness/time/virtual-clock.ts'
import { FakeSocket } from '../../postgres/fake-socket.ts'
import { copyBoth, walMessage } from '../../postgres/server-messages.ts'
import { FakeArchive, RecordingMeter, settle, uncheckedSegments } from '../fakes.ts'

/** Small segments: what a session does has nothing to do with their size. */
export const segmentSize = 16 * 1024
/** Where the run begins. */
export const start = toLsn(5n * BigInt(segmentSize))

/** One connection after the other, over the same pool, assembler and queue. Puts wait for the test. */
export class SessionBench {
  readonly clock = new VirtualClock()
  readonly archive = new FakeArchive()
  readonly meter = new RecordingMeter()
  readonly pool: SegmentPool
  readonly arena: ByteArena
  readonly queue: UploadQueue
  readonly assembler: SegmentAssembler
  readonly timings: ReturnType<typeof streamTimings>
  readonly reported: Lsn[] = []
  readonly slot: string | undefined
  serverEnds: Lsn[] = []
  progress = 0
  socket = new FakeSocket()
  session: StreamSession
  outcome: SessionEnd | Error | undefined

  constructor(
    options: { walSenderTimeoutMs?: number; buffers?: number; arenaBytes?: number; slot?: string | undefined } = {},
  ) {
    this.pool = new SegmentPool(segmentSize, options.buffers ?? 3)
    this.arena = new ByteArena(options.arenaBytes ?? 0)
    this.queue = new UploadQueue({
      archive: this.archive,
      pool: this.pool,
      arena: this.arena,
      uploadsMax: 2,
      encodersMax: 2,
      clock: this.clock,
      random: () => 0,
      log: silentLog,
      meter: this.meter,
      segments: uncheckedSegments(this.archive, segmentSize),
    })
    this.assembler = new SegmentAssembler(this.pool, (segment) => this.queue.pushSegment(segment))
    this.timings = streamTimings(options.walSenderTimeoutMs ?? 60_000)
    this.archive.isManual = true
    this.slot = 'slot' in options ? options.slot : 'walrx'
    this.queue.startRun(start)
    this.session = this.connect()
  }

  /** Opens a stream on a new connection, from the segment that is being assembled. */
  connect(): StreamSession {
    this.assembler.begin(1, this.assembler.segmentStart === 0n ? start : this.assembler.segmentStart)
    this.socket = new FakeSocket()
    this.outcome = undefined
    this.session = new StreamSession({
      host: 'fake:5432',
      socket: this.socket,
      assembler: this.assembler,
      queue: this.queue,
      pool: this.pool,
      clock: this.clock,
      timings: this.timings,
      meter: this.meter,
      acknowledger: new PulseAcknowledger(() => this.queue.durableLsn, this.queue.runStart),
      onReceived: () => {},
      onServerEnd: (lsn) => this.serverEnds.push(lsn),
      onReported: (lsn) => this.reported.push(lsn),
      onProgress: () => this.progress++,
    })
    const ended = this.session.run({ slot: this.slot, timeline: 1, startLsn: this.assembler.segmentStart })
    ended.then(
      (end) => (this.outcome = end),
      (error: unknown) => (this.outcome = error as Error),
    )
    return this.session
  }

  async begin(): Promise<void> {
    this.socket.deliver(copyBoth)
    await settle()
  }

  /** The server sends the next bytes, in messages of 8 KB. */
  async send(bytes: number): Promise<void> {
    for (let sent = 0; sent < bytes; sent += 8192) {
      const piece = Buffer.alloc(Math.min(8192, bytes - sent), 1)
      this.socket.deliver(walMessage(this.#sendLsn, piece))
      this.#sendLsn = addBytes(this.#sendLsn, piece.length)
    }
    await settle()
  }

  #sendLsn = start

  async pass(ms: number): Promise<void> {
    await this.clock.pass(ms)
    await settle()
  }

  /** Lets the put of a segment succeed. */
  async archived(index: number): Promise<void> {
    const name = segmentNameAt(1, end(index), segmentSize)
    const put = this.archive.pending.find((pending) => pending.name === name)
    assert.ok(put, `${name} is not under way`)
    put.succeed()
    await settle()
  }
}

/** Position of the first byte of the segment that is `index` after the run's first. */
export function end(index: number): Lsn {
  return addBytes(start, index * segmentSize)
}
