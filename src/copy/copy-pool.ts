/** Work side by side, bounded in number and in bytes; the first failure ends all of it. */

/** Options of {@link CopyPool}. */
export interface CopyPoolOptions {
  /** How much is under way at a time. */
  readonly parallelMax: number
  /** Bytes in memory of all that is under way. Work that needs more than these runs alone. */
  readonly bytesMax: number
  /** Ends everything. */
  readonly signal: AbortSignal
}

/** Work that has begun. */
export interface BegunWork {
  /** Resolves when it is done; throws what it threw. */
  readonly done: Promise<void>
}

/** See the file's header. */
export class CopyPool implements Disposable {
  readonly #options: CopyPoolOptions
  readonly #stop = new AbortController()
  readonly #onAbort: () => void
  readonly #running = new Set<Promise<void>>()
  #bytes = 0
  #failure: { readonly error: unknown } | undefined

  constructor(options: CopyPoolOptions) {
    this.#options = options
    this.#onAbort = () => this.#stop.abort(options.signal.reason)
    options.signal.addEventListener('abort', this.#onAbort, { once: true })
    if (options.signal.aborted) this.#onAbort()
  }

  /** Aborts at the first failure, and with the caller's. */
  get signal(): AbortSignal {
    return this.#stop.signal
  }

  /**
   * Begins work when there is room for it.
   * @param bytes that it holds in memory
   * @throws what other work has thrown before
   */
  async begin(bytes: number, work: (signal: AbortSignal) => Promise<void>): Promise<BegunWork> {
    while (!this.#hasRoom(bytes)) await Promise.race(this.#running).catch(() => {})
    this.#throwFailure()
    this.#stop.signal.throwIfAborted()
    this.#bytes += bytes
    const done = work(this.#stop.signal)
      .catch((error: unknown) => {
        this.#failure ??= { error }
        this.#stop.abort(error)
        throw error
      })
      .finally(() => {
        this.#bytes -= bytes
        this.#running.delete(done)
      })
    done.catch(() => {})
    this.#running.add(done)
    return { done }
  }

  /** Waits for all that has begun. Throws the first failure. */
  async settle(): Promise<void> {
    while (this.#running.size > 0) await Promise.allSettled(this.#running)
    this.#throwFailure()
    this.#stop.signal.throwIfAborted()
  }

  /** Ends what still runs. */
  [Symbol.dispose](): void {
    this.#options.signal.removeEventListener('abort', this.#onAbort)
    this.#stop.abort()
  }

  #hasRoom(bytes: number): boolean {
    const { bytesMax, parallelMax } = this.#options
    if (this.#failure || this.#running.size === 0) return true
    return this.#running.size < parallelMax && this.#bytes + bytes <= bytesMax
  }

  #throwFailure(): void {
    if (this.#failure) throw this.#failure.error
  }
}
