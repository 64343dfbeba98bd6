/** A source of bytes whose beginning can be looked at before it is read, and that can be freed at any time. */
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
      // Who gave the last chunk may use it again for the next: one that is still to be read is copied before.
      const last = this.#seen.pop()
      if (last) this.#seen.push(Buffer.from(last))
      const { done, value } = await this.#next()
      if (done) break
      this.#seen.push(value)
      this.#seenBytes += value.length
    }
    const [first, second] = this.#seen
    if (first && !second) return Buffer.from(first.buffer, first.byteOffset, Math.min(count, first.length))
    return Buffer.concat(this.#seen, Math.min(count, this.#seenBytes))
  }

  /** Whether {@link head} has seen the end: then nothing follows what it has answered, unless that was cut to its count. */
  get isEnded(): boolean {
    return this.#isEnded
  }

  /** Not a generator: what frees the source must not wait for a read. */
  [Symbol.asyncIterator](): AsyncIterator<Uint8Array> {
    return {
      next: () => {
        const value = this.#seen.shift()
        return value ? Promise.resolve({ done: false, value }) : this.#next()
      },
      return: async () => {
        await this.close()
        return { done: true, value: undefined }
      },
    }
  }

  async #next(): Promise<IteratorResult<Uint8Array>> {
    if (this.#isEnded) return { done: true, value: undefined }
    const result = await this.#source.next()
    this.#isEnded = result.done === true
    return result
  }

  /**
   * Frees the source, also while it is read. Generators and streams may stand between it and its reader, which would free
   * it only when a read that waits has come to its end.
   */
  async close(): Promise<void> {
    if (this.#isClosed) return
    this.#isClosed = true
    await this.#source.return?.()
  }
}
