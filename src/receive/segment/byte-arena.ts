/**
 * Gives the memory of a buffer back to the system at once, instead of when the garbage is collected. Nobody may use the
 * buffer any more: it has no bytes then. It must be the only one in its ArrayBuffer (`allocUnsafeSlow`).
 */
export function freeBuffer(buffer: Buffer): void {
  if (buffer.buffer instanceof ArrayBuffer && buffer.byteLength === buffer.buffer.byteLength) buffer.buffer.transfer(0)
}

/**
 * A fixed block of memory, lent in ranges: first fit, freed ranges joined with their neighbours. For compressed
 * segments that wait for their upload; making a new Buffer for each would leave the garbage collector to decide how
 * much memory we use.
 */
export class ByteArena {
  #memory: Buffer
  /** Free ranges in order of offset; no two touch. */
  #free: { offset: number; length: number }[]
  readonly #lent = new Map<Buffer, { offset: number; length: number; memory: Buffer }>()

  /** True when something was stored since the last trim. */
  #isUsed = false
  /** True when something was stored in the present block. */
  #isTouched = false

  /** @param size bytes in all; they are reserved at once */
  constructor(size: number) {
    this.#memory = Buffer.allocUnsafeSlow(size)
    this.#free = size > 0 ? [{ offset: 0, length: size }] : []
  }

  /** Changes the size. What is lent stays valid until it is released, and counts beside the new size until then. */
  resize(size: number): void {
    if (size === this.#memory.length) return
    this.#memory = Buffer.allocUnsafeSlow(size)
    this.#free = size > 0 ? [{ offset: 0, length: size }] : []
  }

  /** Gives memory back that was used, and was not since the last time. It waits until nothing is lent. */
  trim(): void {
    if (this.#lent.size > 0) return
    if (!this.#isUsed && this.#isTouched) {
      const size = this.#memory.length
      freeBuffer(this.#memory)
      this.#memory = Buffer.allocUnsafeSlow(size)
      this.#isTouched = false
    }
    this.#isUsed = false
  }

  /** Bytes lent at this moment. */
  get used(): number {
    let used = 0
    for (const range of this.#lent.values()) used += range.length
    return used
  }

  /** A copy of `bytes` inside the arena, or undefined when no free range is long enough. */
  store(bytes: Uint8Array): Buffer | undefined {
    const range = this.#free.find((candidate) => candidate.length >= bytes.length)
    if (!range || bytes.length === 0) return undefined
    const lent = { offset: range.offset, length: bytes.length, memory: this.#memory }
    range.offset += bytes.length
    range.length -= bytes.length
    if (range.length === 0) this.#free = this.#free.filter((candidate) => candidate !== range)
    const bytesLent = this.#memory.subarray(lent.offset, lent.offset + lent.length)
    bytesLent.set(bytes)
    this.#isUsed = true
    this.#isTouched = true
    this.#lent.set(bytesLent, lent)
    return bytesLent
  }

  /** Gives a range back. Throws when it is not lent. */
  release(bytesLent: Buffer): void {
    const range = this.#lent.get(bytesLent)
    if (!range) throw new Error('a range of the arena was released that is not lent')
    this.#lent.delete(bytesLent)
    if (range.memory !== this.#memory) return
    const joined: { offset: number; length: number }[] = []
    const { length, offset } = range
    for (const next of [...this.#free, { offset, length }].sort((a, b) => a.offset - b.offset)) {
      const last = joined.at(-1)
      if (last && last.offset + last.length === next.offset) last.length += next.length
      else joined.push(next)
    }
    this.#free = joined
  }
}
