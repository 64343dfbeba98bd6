/** What the streams of node:zlib write to, freed by hand. */

/**
 * The buffers that a stream of node:zlib writes its output to, one after the other, each handed out in several slices. They are
 * freed as soon as neither the stream nor its reader needs them: they are memory outside the heap, which the
 * collector lets grow by tens of megabytes.
 */
export class OutputChunks {
  readonly #chunkBytes: number
  /** How many still need a buffer. */
  readonly #users = new Map<ArrayBufferLike, number>()
  #current: ArrayBufferLike | undefined

  /** @param chunkBytes the stream's chunkSize */
  constructor(chunkBytes: number) {
    this.#chunkBytes = chunkBytes
  }

  /** Notes a slice of output. The function that it returns says that the slice is not needed any more. */
  hold({ buffer }: Buffer): () => void {
    if (this.#current !== buffer) {
      this.close()
      this.#current = buffer
      this.#users.set(buffer, 1)
    }
    this.#users.set(buffer, (this.#users.get(buffer) ?? 0) + 1)
    return () => this.#drop(buffer)
  }

  /** Says that the stream doesn't write to its last buffer any more. */
  close(): void {
    if (this.#current) this.#drop(this.#current)
    this.#current = undefined
  }

  #drop(buffer: ArrayBufferLike): void {
    const users = (this.#users.get(buffer) ?? 0) - 1
    this.#users.set(buffer, users)
    if (users > 0) return
    this.#users.delete(buffer)
    // A buffer of this size is never Node's shared pool.
    if (buffer instanceof ArrayBuffer && buffer.byteLength === this.#chunkBytes) buffer.transfer(0)
  }
}
