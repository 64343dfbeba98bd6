/**
 * Uploads in parallel, completion in order. Segments enter in WAL order; each is checked, compressed inside its own
 * buffer, put into the archive and retried until it is there. The durable end moves only over the unbroken run from
 * the first one on: a segment that is durable after one that is not counts for nothing yet.
 *
 * A job's steps: waiting (for its turn) -> encoding -> uploading -> durable; its buffer goes back to the pool as soon
 * as the compressed bytes have a place of their own.
 */
import { type Clock } from '../../primitives/clock.ts'
import { toWalrxError, WalrxError } from '../../primitives/errors.ts'
import type { Logger } from '../../observe/log.ts'
import { addBytes, formatLsn, type Lsn } from '../../postgres/lsn.ts'
import { partialName, segmentNameAt } from '../../postgres/wal/wal-file.ts'
import { type SegmentArchiver, storedAheadMax } from '../../walg/wal/segment-archiver.ts'
import type { ReceiveMeter, SegmentSink } from '../ports.ts'
import { untilStored } from '../until-stored.ts'
import type { ByteArena } from './byte-arena.ts'
import type { ReceivedSegment } from './segment-assembler.ts'
import type { SegmentPool } from './segment-pool.ts'

/** What the queue needs. */
export interface UploadQueueOptions {
  readonly archive: Pick<SegmentSink, 'archivePartial'>
  /** Checks, encodes and stores whole segments. */
  readonly segments: Pick<SegmentArchiver, 'encode' | 'store'>
  readonly pool: SegmentPool
  /** Where compressed segments wait for their upload. */
  readonly arena: ByteArena
  /** Puts under way at once. */
  readonly uploadsMax: number
  /** Segments compressed at once. */
  readonly encodersMax: number
  readonly clock: Clock
  readonly random: () => number
  readonly log: Logger
  readonly meter: ReceiveMeter
  /**
   * Called when a file is durable. `isKept` is true where nothing else of its segment is needed any more: for a partial
   * when this call has created it. One that was there may be replaced by a receiver that looked before it was this long.
   */
  readonly onArchived?: (file: { readonly startLsn: Lsn; readonly isKept: boolean }) => void
}

interface Job {
  readonly name: string
  readonly startLsn: Lsn
  readonly endLsn: Lsn
  readonly kind: 'segment' | 'partial'
  /** Clock time at which the last byte had arrived. */
  readonly receivedAtMs: number
  segment: ReceivedSegment | undefined
  step: 'waiting' | 'encoding' | 'uploading' | 'durable'
}

/** Jobs that may be started ahead of the oldest unfinished one, as a multiple of the parallel uploads. */
const windowFactor = 4

/** How many segments before the newest archived one a hole may lie that a killed receiver, or an archive_command, left. */
export function holeWindow(uploadsMax: number): number {
  return Math.max(uploadWindow(uploadsMax), storedAheadMax)
}

/** How many segments from the oldest unfinished one on are started: later ones wait. */
export function uploadWindow(uploadsMax: number): number {
  return windowFactor * uploadsMax
}

/** See the file's header. */
export class UploadQueue {
  readonly #options: UploadQueueOptions
  readonly #jobs: Job[] = []
  readonly #abort = new AbortController()
  #encoding = 0
  #uploading = 0
  #durableLsn = 0n as Lsn
  #runStart = 0n as Lsn
  /** Where the next whole segment must begin. */
  #runEnd = 0n as Lsn
  #onDurable: () => void = () => {}
  #waiters: { resolve: () => void; reject: (error: unknown) => void }[] = []
  readonly #uploadWaiters: (() => void)[] = []

  constructor(options: UploadQueueOptions) {
    this.#options = options
  }

  /** End of the unbroken durable run: the most that may ever be reported as flushed. */
  get durableLsn(): Lsn {
    return this.#durableLsn
  }

  /** Aborts when a job failed for good (the archive contradicts what the server sent), or at {@link destroy}. */
  get failed(): AbortSignal {
    return this.#abort.signal
  }

  /** Segments and partials that are not durable yet. */
  get length(): number {
    return this.#jobs.length
  }

  /** Calls the listener of {@link onDurable}: something beside the queue moved the durable end. */
  announce(): void {
    this.#onDurable()
  }

  /** Registers the one listener that is called whenever the durable end has moved. */
  onDurable(listener: () => void): void {
    this.#onDurable = listener
  }

  /**
   * A new run begins at `lsn`: everything before it is not the queue's concern. Only while nothing is queued, for a
   * job from before would continue the wrong run.
   */
  startRun(lsn: Lsn): void {
    if (this.#jobs.length > 0) throw new Error(`a run cannot start while ${this.#jobs.length} uploads are unfinished`)
    this.#durableLsn = lsn
    this.#runStart = lsn
    this.#runEnd = lsn
  }

  /** Where the present run began. */
  get runStart(): Lsn {
    return this.#runStart
  }

  /** Queues a whole segment, the next one in WAL order. */
  pushSegment(segment: ReceivedSegment): void {
    if (segment.startLsn !== this.#runEnd) {
      throw new Error(`segment at ${formatLsn(segment.startLsn)} queued, the run ends at ${formatLsn(this.#runEnd)}`)
    }
    this.#runEnd = addBytes(segment.startLsn, segment.length)
    this.#push(segment, 'segment')
  }

  /** Queues the unfinished last segment of a timeline, to be archived as `.partial`. */
  pushPartial(segment: ReceivedSegment): void {
    this.#push(segment, 'partial')
  }

  /** Resolves when everything queued is durable; rejects when a job failed for good, or after {@link destroy}. */
  drained(): Promise<void> {
    if (this.failed.aborted) return Promise.reject(this.failed.reason as Error)
    if (this.#jobs.length === 0) return Promise.resolve()
    return new Promise((resolve, reject) => this.#waiters.push({ resolve, reject }))
  }

  /** Gives up what is not durable. The buffers are not given back: the pool dies with the queue. */
  destroy(): void {
    if (this.failed.aborted) return
    this.#abort.abort(new WalrxError('WALRX_DRAIN_INCOMPLETE', `${this.#jobs.length} files were not archived yet`))
    this.#settleWaiters()
  }

  #push(segment: ReceivedSegment, kind: Job['kind']): void {
    const { pool, clock } = this.#options
    const segmentName = segmentNameAt(segment.timeline, segment.startLsn, pool.segmentSize)
    const name = kind === 'partial' ? partialName(segmentName) : segmentName
    const endLsn = addBytes(segment.startLsn, segment.length)
    this.#jobs.push({
      name,
      startLsn: segment.startLsn,
      endLsn,
      kind,
      segment,
      step: 'waiting',
      receivedAtMs: clock.now(),
    })
    this.#startWaiting()
  }

  /** Starts as many jobs as limits allow, oldest first. */
  #startWaiting(): void {
    const window = uploadWindow(this.#options.uploadsMax)
    for (const job of this.#jobs.slice(0, window)) {
      if (this.#encoding >= this.#options.encodersMax || this.failed.aborted) return
      if (job.step !== 'waiting') continue
      job.step = 'encoding'
      this.#encoding++
      this.#run(job).catch((error: unknown) => this.fail(toWalrxError(error)))
    }
  }

  async #run(job: Job): Promise<void> {
    let body: EncodedBody | undefined
    try {
      body = job.kind === 'segment' ? await this.#encode(job) : undefined
    } finally {
      this.#encoding--
    }
    this.#startWaiting()
    await this.#uploadTurn(job)
    job.step = 'uploading'
    const outcome = await this.#uploadUntilDone(job, body)
    this.#uploading--
    // Not when it failed: a request that was given up may still be reading these bytes.
    body?.release()
    this.#releaseBuffer(job)
    job.step = 'durable'
    this.#options.onArchived?.({ startLsn: job.startLsn, isKept: job.kind === 'segment' || outcome === 'created' })
    this.#advance()
    this.#wakeUploads()
    this.#startWaiting()
  }

  /** Checks and compresses; the compressed bytes move to the arena when they fit, so that the buffer is free again. */
  async #encode(job: Job): Promise<EncodedBody> {
    const { arena, pool, segments } = this.#options
    const segment = job.segment
    if (!segment) throw new Error(`${job.name} has no buffer`)
    const inPlace = await segments.encode(segment)
    const compacted = inPlace.length <= pool.segmentSize / 2 ? arena.store(inPlace) : undefined
    if (!compacted) return { bytes: inPlace, release: () => {} }
    this.#releaseBuffer(job)
    return { bytes: compacted, release: () => arena.release(compacted) }
  }

  #releaseBuffer(job: Job): void {
    const buffer = job.segment?.buffer
    // First: the pool's listener may fill the buffer again before give() returns.
    job.segment = undefined
    if (buffer) this.#options.pool.give(buffer)
  }

  /**
   * Waits for its turn to be put. The first segment of a run goes alone: only then does the archive
   * show after a crash where the run began, and so which of its segments are missing.
   */
  async #uploadTurn(job: Job): Promise<void> {
    const mayGo = () => job === this.#jobs[0] || this.#durableLsn > this.#runStart
    while (this.#uploading >= this.#options.uploadsMax || !mayGo()) {
      await new Promise<void>((resolve) => this.#uploadWaiters.push(resolve))
    }
    this.#uploading++
  }

  /** Lets all that wait look again, in the order in which they came. */
  #wakeUploads(): void {
    for (const wake of this.#uploadWaiters.splice(0)) wake()
  }

  async #uploadUntilDone(job: Job, body: EncodedBody | undefined): Promise<string> {
    const { clock, random, log, meter } = this.#options
    let startedMs = 0
    const put = () => {
      startedMs = clock.now()
      return this.#upload(job, body)
    }
    const outcome = await untilStored(put, {
      clock,
      random,
      firstMs: 200,
      maxMs: 10_000,
      signal: this.#abort.signal,
      onFailure: ({ message }, attempt) => {
        meter.uploadFailed()
        log.error('could not archive, trying again', { file: job.name, attempt, error: message })
      },
    })
    const durationMs = clock.now() - startedMs
    meter.uploaded(body?.bytes.length ?? 0, durationMs, clock.now() - job.receivedAtMs)
    log.info('archived', { file: job.name, outcome, bytes: body?.bytes.length, durationMs })
    return outcome
  }

  async #upload(job: Job, body: EncodedBody | undefined): Promise<string> {
    const { archive, segments } = this.#options
    const signal = this.#abort.signal
    if (body) return segments.store(job.name, body.bytes, { signal })
    const segment = job.segment
    if (!segment) throw new Error(`${job.name}.partial has no buffer`)
    return archive.archivePartial(
      job.name.slice(0, 24),
      segment.buffer.subarray(0, this.#options.pool.segmentSize),
      segment.length,
      { signal },
    )
  }

  /** Moves the durable end over the finished jobs at the head of the queue. */
  #advance(): void {
    let moved = false
    for (let head = this.#jobs[0]; head?.step === 'durable'; head = this.#jobs[0]) {
      this.#jobs.shift()
      if (head.kind === 'segment' && head.endLsn > this.#durableLsn) {
        this.#durableLsn = head.endLsn
        moved = true
      }
    }
    if (moved) this.#onDurable()
    if (this.#jobs.length === 0) this.#settleWaiters()
  }

  /** Ends the queue: the archive contradicts what the server sent. */
  fail(error: WalrxError): void {
    if (this.failed.aborted) return
    this.#options.log.error('archiving stopped', { error: error.message, durable: formatLsn(this.#durableLsn) })
    this.#abort.abort(error)
    this.#settleWaiters()
  }

  #settleWaiters(): void {
    for (const waiter of this.#waiters.splice(0)) {
      if (this.failed.aborted) waiter.reject(this.failed.reason)
      else waiter.resolve()
    }
  }
}

interface EncodedBody {
  readonly bytes: Buffer
  release(): void
}
