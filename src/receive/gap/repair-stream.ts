/**
 * One stream of WAL that is only to be archived: without a slot, never acknowledged, up to a given position. It borrows
 * the buffers of a run that is settled.
 */
import { availableParallelism } from 'node:os'
import type { Logger } from '../../observe/log.ts'
import type { Lsn, Timeline } from '../../postgres/lsn.ts'
import type { ReplicationSession } from '../../postgres/protocol/session.ts'
import { segmentNameAt } from '../../postgres/wal/wal-file.ts'
import { walMagic } from '../../postgres/wal/wal-page.ts'
import { SegmentArchiver, type SegmentArchiverOptions, type SegmentObserver } from '../../walg/wal/segment-archiver.ts'
import type { Clock } from '../../primitives/clock.ts'
import { hasCode, toWalrxError, WalrxError } from '../../primitives/errors.ts'
import { orAborted } from '../../primitives/wait.ts'
import { streamTimings } from '../stream/stream-timings.ts'
import { PulseAcknowledger } from '../stream/acknowledger.ts'
import { ByteArena } from '../segment/byte-arena.ts'
import type { ReceiveArchive, ReceiveMeter } from '../ports.ts'
import { SegmentAssembler } from '../segment/segment-assembler.ts'
import type { SegmentPool } from '../segment/segment-pool.ts'
import { StreamSession } from '../stream/stream-session.ts'
import { preloadTail } from '../tail/leftover-tails.ts'
import { UploadQueue } from '../segment/upload-queue.ts'

/** Whole segments of one timeline: `startLsn` inclusive, `endLsn` exclusive. */
export interface RepairRange {
  readonly timeline: Timeline
  readonly startLsn: Lsn
  readonly endLsn: Lsn
}

/** What a repair has at hand, whichever host it is from. */
export interface RepairMeans {
  readonly archive: ReceiveArchive
  /** Nothing of it is lent. */
  readonly pool: SegmentPool
  readonly uploadConcurrency: number
  readonly clock: Clock
  /** Random number in [0, 1) for back-off jitter. */
  readonly random: () => number
  readonly log: Logger
  readonly meter: ReceiveMeter
  /** Looks at every segment before it is compressed; default nobody. */
  readonly onSegment?: SegmentObserver | undefined
  /** Settles before a segment is stored; default at once. */
  readonly beforeStore?: SegmentArchiverOptions['beforeStore']
}

/** What {@link RepairStream} needs. */
export interface RepairStreamOptions extends RepairMeans {
  readonly session: ReplicationSession
  readonly walSenderTimeoutMs: number
  readonly systemId: bigint
  readonly segmentSize: number
}

/** How it ended. */
export interface RepairEnd {
  /** Everything from the start up to here is archived. */
  readonly reached: Lsn
  /** Why not all of it; undefined when the end was reached. */
  readonly error: WalrxError | undefined
}

/** See the file's header. Runs once. */
export class RepairStream {
  readonly #options: RepairStreamOptions
  readonly #queue: UploadQueue
  readonly #assembler: SegmentAssembler

  constructor(options: RepairStreamOptions) {
    const { pool, session } = options
    const magic = walMagic(session.serverVersion)
    this.#options = options
    this.#queue = new UploadQueue({
      ...options,
      // Segments wait in their own buffers: a repair need not be fast.
      arena: new ByteArena(0),
      uploadsMax: options.uploadConcurrency,
      encodersMax: Math.min(4, availableParallelism()),
      segments: new SegmentArchiver({ ...options, magic: () => magic }),
    })
    this.#assembler = new SegmentAssembler(pool, (segment) => this.#queue.pushSegment(segment))
  }

  /**
   * Archives the whole segments of the range. What the archive has of the first one already is compared.
   * @throws the signal's reason, and what no other host would change
   */
  async run(range: RepairRange, signal: AbortSignal): Promise<RepairEnd> {
    const { pool } = this.#options
    let error: WalrxError | undefined
    try {
      error = await this.#receive(range, signal)
      const rest = this.#assembler.takePartial()
      if (rest) pool.give(rest.buffer)
      await orAborted(this.#queue.drained(), signal)
    } catch (failure) {
      this.#queue.destroy()
      pool.forgetLent()
      signal.throwIfAborted()
      error = toWalrxError(failure)
      if (!isOfHost(error)) throw error
    }
    return { reached: this.#queue.durableLsn, error }
  }

  /** Returns what ended the stream early. */
  async #receive({ endLsn, startLsn, timeline }: RepairRange, signal: AbortSignal): Promise<WalrxError | undefined> {
    const { archive, clock, log, meter, pool, segmentSize, session, walSenderTimeoutMs } = this.#options
    const [queue, assembler] = [this.#queue, this.#assembler]
    await archive.lookAhead(segmentNameAt(timeline, startLsn, segmentSize), { signal })
    queue.startRun(startLsn)
    await preloadTail({ timeline, startLsn, archive, pool, assembler, log, signal })
    assembler.begin(timeline, startLsn)
    const done = new AbortController()
    const stream: StreamSession = new StreamSession({
      host: session.host,
      socket: session.takeOver(),
      assembler,
      queue,
      pool,
      clock,
      meter,
      timings: streamTimings(walSenderTimeoutMs),
      acknowledger: new PulseAcknowledger(() => startLsn, startLsn),
      onReceived: () => {
        if (assembler.nextLsn < endLsn) return
        // At once: what follows may be beyond the place where the timeline ended.
        stream.stopReading()
        done.abort()
      },
      onServerEnd: () => {},
      onReported: () => {},
      onProgress: () => {},
    })
    try {
      const running = stream.run({ timeline, startLsn, slot: undefined })
      const end = await orAborted(running, done.signal, queue.failed, signal)
      return new WalrxError('WALRX_CONNECTION_LOST', `the stream from ${session.host} ended early: ${end.kind}`)
    } catch (error) {
      if (queue.failed.aborted) throw toWalrxError(queue.failed.reason)
      signal.throwIfAborted()
      if (done.signal.aborted) return undefined
      if (hasCode(error, 'WALRX_ARCHIVE_CONFLICT')) throw error
      return toWalrxError(error)
    } finally {
      stream.stopReading()
      stream.destroy()
    }
  }
}

/** True for a failure of the host alone: it sent different WAL, or the connection broke. */
function isOfHost(error: WalrxError): boolean {
  return error.code !== 'WALRX_INTERNAL' && !error.code.startsWith('WALRX_STORAGE_')
}
