/**
 * The fixed set of segment buffers: the bound on memory, and the point where back-pressure starts. A buffer is made
 * when it is first needed and stays, so memory grows to the bound once; only a smaller bound frees buffers.
 */
import { encodeSlack } from '../../walg/stored/stored-form.ts'

/** Buffers of one segment each (plus the codec's slack), lent and given back. */
export class SegmentPool {
  readonly segmentSize: number
  #capacity: number
  readonly #free: Buffer[] = []
  readonly #lent = new Set<Buffer>()
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
    if (this.free > 0) this.#onFree()
  }

  /** A buffer with undefined content, or undefined when all are lent. */
  take(): Buffer | undefined {
    if (this.free === 0) return undefined
    const size = this.segmentSize + encodeSlack(this.segmentSize)
    const buffer = this.#free.pop() ?? Buffer.allocUnsafeSlow(size)
    this.#lent.add(buffer)
    return buffer
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
