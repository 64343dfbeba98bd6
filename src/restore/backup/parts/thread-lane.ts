/**
 * A lane on a thread of its own: decoding, checks and writing of a part fill one core, and a restore has as many lanes as
 * the machine has cores. Storage and keys stay on the main thread, and so does what decides which entry goes where.
 */
import module from 'node:module'
import { Worker } from 'node:worker_threads'
import type { HandedObject } from '../../../walg/stored/handed-object.ts'
import { WalrxError } from '../../../primitives/errors.ts'
import type { ChunkBuffers } from '../../../storage/storage.ts'
import type { FilePlace, PlacingSink, RestoreSink } from '../restore-sink.ts'
import { type Lane, type OpenLane, ownThreadLane } from './lane.ts'
import { type FromLane, type LaneData, receivedError, type SentError, sentError, type ToLane } from './lane-messages.ts'
import type { EntryHead, EntryHost, EntryPlan, EntryResult, PartSum } from './part-reading.ts'

/** Bytes that go over at once. */
const bufferBytes = 512 * 1024
/** Buffers that a lane has: one is read into while the thread uses the other ones. */
const buffersMax = 4

/**
 * Lanes with threads of their own. A thread takes as long to start as the documents of a backup to read, so some can be started
 * before that.
 */
export class ThreadLanes {
  readonly #fsync: boolean
  /** Nothing is read by these yet. */
  readonly #started: ThreadLane[]

  /**
   * @param fsync false leaves it to the operating system when files reach the disk
   * @param count of the threads that start at once; further ones start when they are needed
   */
  constructor(fsync: boolean, count = 0) {
    this.#fsync = fsync
    this.#started = Array.from({ length: count }, () => new ThreadLane(fsync))
  }

  /** Opens a lane into a sink; one that does all by itself gets a lane on this thread. */
  readonly open: OpenLane = (sink) => {
    if (!isPlacing(sink)) return ownThreadLane(sink)
    return (this.#started.shift() ?? new ThreadLane(this.#fsync)).into(sink)
  }

  /** Ends the threads that no lane was opened with. */
  async drop(): Promise<void> {
    await Promise.all(this.#started.splice(0).map((lane) => lane.drop()))
  }
}

function isPlacing(sink: RestoreSink): sink is PlacingSink {
  return sink.place !== undefined
}

/** A part on its way. */
interface Reading {
  readonly host: EntryHost
  readonly read: PromiseWithResolvers<PartSum>
}

/** See the file's header. */
export class ThreadLane implements Lane {
  /** For the storage; see {@link ChunkBuffers}. */
  readonly buffers: ChunkBuffers
  #sink: PlacingSink | undefined
  readonly #worker: Worker
  readonly #pool = new BufferPool()
  /** Errors of this thread that are on their way through the other one. */
  readonly #errors: unknown[] = []
  readonly #ended = Promise.withResolvers<void>()
  #reading: Reading | undefined
  /** Of the files that are being written. */
  #places: FilePlace[] = []
  /** Why the thread is gone. */
  #failure: Error | undefined

  constructor(fsync: boolean) {
    this.buffers = this.#pool
    const cacheDirectory = module.getCompileCacheDir()
    const workerData: LaneData = { fsync, cacheDirectory }
    // The file lies beside this one, compiled or not.
    const file = new URL(import.meta.url.replace(/thread-lane(\.[jt]s)(\?.*)?$/, 'lane-thread$1'))
    // Its heap holds only small objects, and it needs none of the settings, among which there may be keys.
    this.#worker = new Worker(file, { env: {}, workerData, resourceLimits: { maxYoungGenerationSizeMb: 2 } })
    this.#worker.on('message', (message: FromLane) => this.#onMessage(message))
    this.#worker.on('error', (error) => this.#onGone(error))
    this.#worker.on('exit', (status) => this.#onGone(gone(status)))
    this.#ended.promise.catch(() => {})
  }

  /** Where its files go. */
  into(sink: PlacingSink): this {
    this.#sink = sink
    return this
  }

  async read(part: HandedObject, host: EntryHost): Promise<PartSum> {
    if (this.#failure) {
      // The thread has died between two parts: nobody takes this one.
      part.handing.opens?.fill(0)
      await part.close().catch(() => {})
      throw this.#failure
    }
    const reading: Reading = { host, read: Promise.withResolvers() }
    this.#reading = reading
    reading.read.promise.catch(() => {})
    const { handing } = part
    this.#send({ kind: 'part', handing }, handing.opens ? [handing.opens.buffer] : [])
    const pumped = this.#pump(part, reading)
    try {
      return await reading.read.promise
    } finally {
      this.#reading = undefined
      this.#released()
      this.#pool.giveUp()
      await part.close().catch(() => {})
      await pumped
      this.#pool.begin()
    }
  }

  async end(): Promise<void> {
    if (this.#failure) throw this.#failure
    this.#send({ kind: 'end' })
    try {
      await this.#ended.promise
    } finally {
      await this.#worker.terminate()
    }
  }

  async drop(): Promise<void> {
    await this.#worker.terminate()
  }

  /** Passes the bytes on. Never rejects: what the source throws goes the same way. */
  async #pump(part: HandedObject, reading: Reading): Promise<void> {
    const chunks = part.bytes[Symbol.asyncIterator]()
    /** What comes in small chunks goes over together. */
    let target: Buffer<ArrayBuffer> | undefined
    let filled = 0
    try {
      for (;;) {
        if ((!target && !(await this.#pool.hasRoom())) || this.#reading !== reading) return
        const result = await chunks.next()
        if (result.done === true) break
        const chunk = result.value
        const own = this.#pool.owned(chunk)
        if (own) {
          this.#sendBytes(own, chunk.length)
          continue
        }
        for (let at = 0; at < chunk.length;) {
          target ??= await this.#pool.free()
          if (!target || this.#reading !== reading) return
          const copied = Math.min(target.length - filled, chunk.length - at)
          target.set(chunk.subarray(at, at + copied), filled)
          at += copied
          filled += copied
          if (filled < target.length) continue
          this.#sendBytes(target, filled)
          target = undefined
          filled = 0
        }
      }
      if (this.#reading !== reading) return
      if (target) this.#sendBytes(target, filled)
      this.#send({ kind: 'end of bytes' })
    } catch (error) {
      if (this.#reading === reading) this.#send({ kind: 'no more bytes', error: this.#sent(error) })
    }
  }

  #onMessage(message: FromLane): void {
    switch (message.kind) {
      case 'used':
        return this.#pool.returned(message.buffer)
      case 'entries':
        return void this.#onEntries(message)
      case 'read':
        return void this.#onRead(message)
      case 'not read':
        return this.#reading?.read.reject(this.#received(message.error))
      case 'ended':
        return this.#ended.resolve()
      case 'not ended':
        return this.#ended.reject(this.#received(message.error))
      default:
        message satisfies never
    }
  }

  async #onEntries({ before, entries }: FromLane & { readonly kind: 'entries' }): Promise<void> {
    const reading = this.#reading
    if (!reading) return
    try {
      await this.#onBefore(reading.host, before)
      const plans: EntryPlan[] = []
      for (const entry of entries) {
        const plan = await this.#planned(reading, entry, plans.length === 0)
        if (!plan) break
        plans.push(plan)
        // Its file is written here: before the next one.
        if (plan.kind === 'keep') break
      }
      this.#send({ kind: 'plans', plans })
    } catch (error) {
      this.#send({ kind: 'no plan', error: this.#sent(error) })
    }
  }

  /** The plan for an entry; undefined for one that is not the first, and of which the lane should ask again. */
  async #planned(reading: Reading, entry: EntryHead, isFirst: boolean): Promise<EntryPlan | undefined> {
    try {
      return await this.#placed(reading, await reading.host.plan(entry), isFirst)
    } catch (error) {
      // What is wrong with an entry is said after what is wrong with those before it.
      if (isFirst) throw error
      return undefined
    }
  }

  async #placed(reading: Reading, plan: EntryPlan, isFirst: boolean): Promise<EntryPlan | undefined> {
    if (plan.kind !== 'write' && plan.kind !== 'change') return plan
    const { path } = plan.place
    if (!this.#sink) throw new WalrxError('WALRX_INTERNAL', `a lane without a sink got ${path}`)
    // Who has places must not wait for others: two lanes could wait for each other, and one for itself.
    const place = await this.#sink.place(path, isFirst)
    if (!place) return undefined
    // Meanwhile the thread may have gone.
    if (this.#reading !== reading) place.release()
    else this.#places.push(place)
    return { ...plan, place: { ...plan.place, full: place.full } }
  }

  async #onRead({ before, sum }: FromLane & { readonly kind: 'read' }): Promise<void> {
    const reading = this.#reading
    if (!reading) return
    try {
      await this.#onBefore(reading.host, before)
      reading.read.resolve(sum)
    } catch (error) {
      reading.read.reject(error)
    }
  }

  async #onBefore(host: EntryHost, before: readonly EntryResult[]): Promise<void> {
    this.#released()
    for (const result of before) await host.done(result)
  }

  #released(): void {
    for (const place of this.#places.splice(0)) place.release()
  }

  #onGone(error: Error): void {
    this.#failure ??= error
    this.#reading?.read.reject(this.#failure)
    this.#ended.reject(this.#failure)
  }

  #send(message: ToLane, transfer: readonly ArrayBuffer[] = []): void {
    this.#worker.postMessage(message, transfer)
  }

  #sendBytes({ buffer }: Buffer<ArrayBuffer>, length: number): void {
    this.#send({ kind: 'bytes', buffer, length }, [buffer])
  }

  #sent(error: unknown): SentError {
    return sentError(error, this.#errors.push(error) - 1)
  }

  #received(error: SentError): Error {
    return receivedError(error, error.id === undefined ? undefined : this.#errors[error.id])
  }
}

function gone(status: number): Error {
  return new WalrxError('WALRX_INTERNAL', `a thread of the restore has ended with status ${status}`)
}

/** The buffers of a lane. They change owners with what is in them, and come back. */
class BufferPool implements ChunkBuffers {
  readonly #spare: Buffer<ArrayBuffer>[] = []
  /** Given to the storage. */
  readonly #taken = new Set<ArrayBufferLike>()
  #made = 0
  #isOver = false
  #wake: (() => void) | undefined

  take(): Buffer {
    const buffer = this.#spare.pop() ?? this.#make()
    this.#taken.add(buffer.buffer)
    return buffer
  }

  /** The chunk's memory, where it is from {@link take}. */
  owned({ buffer }: Uint8Array): Buffer<ArrayBuffer> | undefined {
    return this.#taken.delete(buffer) ? Buffer.from(buffer as ArrayBuffer) : undefined
  }

  /** Resolves when there is a buffer: false when there will be none. */
  async hasRoom(): Promise<boolean> {
    while (!this.#isOver && this.#spare.length === 0 && this.#made >= buffersMax) {
      await new Promise<void>((resolve) => {
        this.#wake = resolve
      })
    }
    return !this.#isOver
  }

  /** A buffer, when there is one; undefined when there will be none. */
  async free(): Promise<Buffer<ArrayBuffer> | undefined> {
    return (await this.hasRoom()) ? (this.#spare.pop() ?? this.#make()) : undefined
  }

  returned(memory: ArrayBuffer): void {
    if (this.#spare.length < buffersMax) this.#spare.push(Buffer.from(memory))
    this.#wake?.()
  }

  /** Nobody waits for a buffer any more. */
  giveUp(): void {
    this.#isOver = true
    this.#wake?.()
  }

  /** A part begins: what was not given back is lost. */
  begin(): void {
    this.#isOver = false
    this.#made = this.#spare.length
    this.#taken.clear()
  }

  #make(): Buffer<ArrayBuffer> {
    this.#made++
    return Buffer.allocUnsafeSlow(bufferBytes)
  }
}
