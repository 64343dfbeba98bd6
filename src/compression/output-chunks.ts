/** The output buffers of the streams of node:zlib, freed explicitly. */

/**
 * The buffers that a stream of node:zlib writes its output to, one after the other, each handed out in several slices.
 * They are freed as soon as neither the stream nor its reader needs them: the garbage collector would let this memory
 * outside the heap grow by tens of megabytes.
 */
export class OutputChunks {
  readonly #chunkBytes: number
  /** Number of users of a buffer. */
  readonly #users = new Map<ArrayBufferLike, number>()
  #current: ArrayBufferLike | undefined

  /** @param chunkBytes the stream's chunkSize */
  constructor(chunkBytes: number) {
    this.#chunkBytes = chunkBytes
  }

  /** Registers a slice of output. Call the returned function when the slice is no longer needed. */
  hold({ buffer }: Buffer): () => void {
    if (this.#current !== buffer) {
      this.close()
      this.#current = buffer
      this.#users.set(buffer, 1)
    }
    this.#users.set(buffer, (this.#users.get(buffer) ?? 0) + 1)
    return () => this.#drop(buffer)
  }

  /** The stream no longer writes to its last buffer. */
  close(): void {
    if (this.#current) this.#drop(this.#current)
    this.#current = undefined
  }

  #drop(buffer: ArrayBufferLike): void {
    const users = (this.#users.get(buffer) ?? 0) - 1
    this.#users.set(buffer, users)
    if (users > 0) return
    this.#users.delete(buffer)
    // A buffer of this size is never from Node's shared pool.
    if (buffer instanceof ArrayBuffer && buffer.byteLength === this.#chunkBytes) buffer.transfer(0)
  }
}
