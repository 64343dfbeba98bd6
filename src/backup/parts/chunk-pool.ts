/** A fixed number of buffers for what has been received and not compressed yet: the bound on a backup's memory. */
export class ChunkPool {
  readonly chunkBytes: number
  readonly #free: Buffer[]
  readonly #waiting: ((chunk: Buffer) => void)[] = []

  /**
   * @param chunkBytes size of each buffer
   * @param count number of buffers; each writer may hold one that it fills, so there must be more than writers
   */
  constructor(chunkBytes: number, count: number) {
    this.chunkBytes = chunkBytes
    this.#free = Array.from({ length: count }, () => Buffer.allocUnsafeSlow(chunkBytes))
  }

  /** A buffer with undefined content, or undefined when all are in use. */
  take(): Buffer | undefined {
    return this.#free.pop()
  }

  /** A buffer as soon as there is one; who waited first gets it first. */
  async taken(): Promise<Buffer> {
    return this.take() ?? new Promise((resolve) => this.#waiting.push(resolve))
  }

  /** Gives a buffer back. */
  give(chunk: Buffer): void {
    const next = this.#waiting.shift()
    if (next) next(chunk)
    else this.#free.push(chunk)
  }
}
