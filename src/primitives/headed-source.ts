/** A source of bytes whose beginning can be looked at before it is read. */
export class HeadedSource implements AsyncIterable<Uint8Array> {
  readonly #source: AsyncIterator<Uint8Array>
  readonly #seen: Uint8Array[] = []
  #seenBytes = 0
  #isEnded = false
  #isClosed = false

  constructor(source: AsyncIterable<Uint8Array>) {
    this.#source = source[Symbol.asyncIterator]()
  }

  /** The first `count` bytes, or all that there are. To be called before anything is read. */
  async head(count: number): Promise<Buffer> {
    while (this.#seenBytes < count && !this.#isEnded) {
      const { done, value } = await this.#source.next()
      this.#isEnded = done === true
      if (done) break
      // Who gave the chunk may use it again for the next.
      this.#seen.push(Buffer.from(value))
      this.#seenBytes += value.length
    }
    return Buffer.concat(this.#seen, Math.min(count, this.#seenBytes))
  }

  /** Whether {@link head} has seen the end: then nothing follows what it has answered, unless that was cut to its count. */
  get isEnded(): boolean {
    return this.#isEnded
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<Uint8Array, undefined> {
    try {
      for (let chunk = this.#seen.shift(); chunk; chunk = this.#seen.shift()) yield chunk
      while (!this.#isEnded) {
        const { done, value } = await this.#source.next()
        this.#isEnded = done === true
        if (done) return
        yield value
      }
    } finally {
      await this.close()
    }
  }

  /** Frees the source. */
  async close(): Promise<void> {
    if (this.#isClosed) return
    this.#isClosed = true
    await this.#source.return?.()
  }
}
