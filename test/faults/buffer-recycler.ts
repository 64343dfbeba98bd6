/**
 * Large buffers that are used again from schedule to schedule. Each receiver of a schedule makes its own pool, megabytes
 * that the collector would have to find again: a third of the time of all schedules. What is lent is spoiled first, a byte here
 * and there, so that nobody who reads memory that he has not written finds good WAL of an earlier schedule in it.
 */

/** Smaller ones are not worth it. */
const bytesMin = 32 * 1024
/** Every so manieth byte of what is lent is spoiled, */
const spoiledEvery = 256
/** with this: no zero, which a segment may end with. */
const filler = 0xee

/** See the file's header. One for each thread. */
export class BufferRecycler {
  readonly #free = new Map<number, Buffer[]>()
  #lent: Buffer[] = []

  /** From now on `Buffer.allocUnsafeSlow` lends; returns what ends that. */
  install(): () => void {
    const honest = Object.getOwnPropertyDescriptor(Buffer, 'allocUnsafeSlow') as PropertyDescriptor
    const allocate = Buffer.allocUnsafeSlow.bind(Buffer)
    Buffer.allocUnsafeSlow = (size) => (size < bytesMin ? allocate(size) : this.#take(size, allocate))
    return () => Object.defineProperty(Buffer, 'allocUnsafeSlow', honest)
  }

  /** How many of a size were lent since {@link takeBack}. */
  lentOf(size: number): number {
    return this.#lent.filter(({ length }) => length === size).length
  }

  /** Takes back all that was lent: a schedule is over, and nothing of it runs any more. */
  takeBack(): void {
    for (const buffer of this.#lent) this.#freeOf(buffer.length).push(buffer)
    this.#lent = []
  }

  #take(size: number, allocate: typeof Buffer.allocUnsafeSlow): Buffer<ArrayBuffer> {
    const buffer = (this.#freeOf(size).pop() ?? allocate(size)) as Buffer<ArrayBuffer>
    this.#lent.push(buffer)
    for (let at = 0; at < size; at += spoiledEvery) buffer[at] = filler
    return buffer
  }

  #freeOf(size: number): Buffer[] {
    const free = this.#free.get(size) ?? []
    this.#free.set(size, free)
    return free
  }
}
