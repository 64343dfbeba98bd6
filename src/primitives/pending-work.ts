/**
 * Work whose end nobody waits for at once, so that the next piece is read while the last one is written. How much of it
 * there may be is bounded, in bytes and in number, and its first failure is not lost.
 */

/** How much work may be under way at a time. */
export interface WorkBounds {
  readonly bytesMax: number
  readonly countMax: number
}

/** See the file's header. */
export class PendingWork {
  readonly #bounds: WorkBounds
  readonly #onFailure: (error: unknown) => void
  #bytes = 0
  #count = 0
  #failure: { readonly error: unknown } | undefined
  #wake: (() => void)[] = []

  /** @param onFailure called with the first failure, once */
  constructor(bounds: WorkBounds, onFailure: (error: unknown) => void) {
    this.#bounds = bounds
    this.#onFailure = onFailure
  }

  /**
   * Takes work over that has begun. Resolves when there is room for more.
   * @param bytes that it holds in memory
   * @param ended called when the work has ended, however: what it holds may be freed
   * @throws the first failure of any work so far
   */
  async add(work: Promise<unknown>, bytes: number, ended?: () => void): Promise<void> {
    this.#bytes += bytes
    this.#count++
    const end = () => {
      this.#bytes -= bytes
      this.#count--
      ended?.()
      for (const wake of this.#wake.splice(0)) wake()
    }
    work.then(end, (error: unknown) => {
      const isFirst = !this.#failure
      this.#failure ??= { error }
      end()
      if (isFirst) this.#onFailure(error)
    })
    while (this.#bytes > this.#bounds.bytesMax || this.#count > this.#bounds.countMax) await this.#change()
    this.#refuse()
  }

  /** Resolves when all work has ended. Throws its first failure. */
  async settled(): Promise<void> {
    while (this.#count > 0) await this.#change()
    this.#refuse()
  }

  #refuse(): void {
    if (this.#failure) throw this.#failure.error
  }

  #change(): Promise<void> {
    return new Promise((resolve) => this.#wake.push(resolve))
  }
}
