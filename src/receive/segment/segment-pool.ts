/**
 * The fixed set of segment buffers: the bound on memory, and the point where back-pressure starts. A buffer is made
 * when it is first needed and stays, so memory grows to the bound once, unless somebody trims the pool.
 */
import { encodeSlack } from '../../walg/stored/stored-form.ts'
import { freeBuffer } from './byte-arena.ts'

/** Buffers of one segment each (plus the codec's slack), lent and given back. */
export class SegmentPool {
  readonly segmentSize: number
  #capacity: number
  readonly #free: Buffer[] = []
  readonly #lent = new Set<Buffer>()
  /** The fewest free buffers that were there since the last trim: so many were of no use. */
  #unused = 0
  #onFree: () => void = () => {}

  /**
   * @param segmentSize bytes of one segment
   * @param capacity number of buffers
   */
  constructor(segmentSize: number, capacity: number) {
    this.segmentSize = segmentSize
    this.#capacity = capacity
  }

  /** Number of buffers, lent ones included. */
  get capacity(): number {
    return this.#capacity
  }

  /** Buffers that can be taken now. */
  get free(): number {
    return Math.max(0, this.#capacity - this.#lent.size)
  }

  /** Changes the number of buffers. Those that are lent beyond it are freed as they come back. */
  resize(capacity: number): void {
    this.#capacity = capacity
    this.#free.length = Math.min(this.#free.length, this.free)
    this.#unused = Math.min(this.#unused, this.#free.length)
    if (this.free > 0) this.#onFree()
  }

  /** A buffer with undefined content, or undefined when all are lent. */
  take(): Buffer | undefined {
    if (this.free === 0) return undefined
    const size = this.segmentSize + encodeSlack(this.segmentSize)
    const buffer = this.#free.pop() ?? Buffer.allocUnsafeSlow(size)
    this.#unused = Math.min(this.#unused, this.#free.length)
    this.#lent.add(buffer)
    return buffer
  }

  /** Frees the buffers that were not needed since the last time. They are made again when they are. */
  trim(): void {
    for (const buffer of this.#free.splice(0, this.#unused)) freeBuffer(buffer)
    this.#unused = this.#free.length
  }

  /** Gives a buffer back. Throws when it was not lent: given back twice, a segment would overwrite another. */
  give(buffer: Buffer): void {
    if (!this.#lent.delete(buffer)) throw new Error('a segment buffer was given back that is not lent')
    if (this.#free.length + this.#lent.size < this.#capacity) this.#free.push(buffer)
    if (this.free > 0) this.#onFree()
  }

  /** Gives lent buffers up for good: who has them may still use them, and new ones are made in their place. */
  forgetLent(): void {
    this.#lent.clear()
    this.#onFree()
  }

  /** Registers the one listener that is called after each buffer that comes back. */
  onFree(listener: () => void): void {
    this.#onFree = listener
  }
}
