/**
 * Where the content of an object is written, piece by piece, while another reads the encoded bytes. A piece is taken when the
 * encoder has done with the one before: then the memory of that one may be used again.
 */
import { once } from 'node:events'
import type { Duplex } from 'node:stream'
import { WalrxError } from '../../primitives/errors.ts'

/** See the file's header. */
export interface ContentInput {
  /** Resolves when the piece is taken. After a failure it may never resolve: the reader of the output has the error. */
  write(bytes: Uint8Array): Promise<void>
  /** The content is whole. Harmless after {@link ContentInput.destroy}. */
  end(): void
  /** Gives the object up: the reader of the output gets the error, or one of its own. Resolves when nothing is taken any more. */
  destroy(error?: Error): Promise<void>
  /** Calls a listener with a failure of the encoder that the reader of the output need not notice. */
  onError(listener: (error: Error) => void): void
}

/** The content for a codec that is a stream. */
export class StreamInput implements ContentInput {
  readonly #stream: Duplex

  constructor(stream: Duplex) {
    this.#stream = stream
  }

  write(bytes: Uint8Array): Promise<void> {
    return new Promise((resolve) => {
      this.#stream.write(bytes, () => resolve())
    })
  }

  end(): void {
    if (!this.#stream.destroyed) this.#stream.end()
  }

  async destroy(error?: Error): Promise<void> {
    if (this.#stream.destroyed) return
    this.#stream.destroy(error)
    await once(this.#stream, 'close').catch(() => {})
  }

  onError(listener: (error: Error) => void): void {
    this.#stream.on('error', listener)
  }
}

/** The content for generators, which iterate over it: one piece at a time, and none is copied. */
export class PieceInput implements ContentInput, AsyncIterable<Uint8Array> {
  #waiting: { readonly bytes: Uint8Array; readonly taken: () => void } | undefined
  #demand: { resolve(result: IteratorResult<Uint8Array>): void; reject(error: Error): void } | undefined
  #isEnded = false
  #error: Error | undefined

  write(bytes: Uint8Array): Promise<void> {
    return new Promise((resolve) => {
      this.#waiting = { bytes, taken: resolve }
      this.#supply()
    })
  }

  end(): void {
    this.#isEnded = true
    this.#supply()
  }

  destroy(error?: Error): Promise<void> {
    this.#error ??= error ?? new WalrxError('WALRX_INTERNAL', 'the content of the object was given up')
    this.#supply()
    return Promise.resolve()
  }

  /** There is none: who iterates throws. */
  onError(): void {}

  [Symbol.asyncIterator](): AsyncIterator<Uint8Array> {
    return { next: () => this.#next() }
  }

  #next(): Promise<IteratorResult<Uint8Array>> {
    return new Promise((resolve, reject) => {
      this.#demand = { resolve, reject }
      this.#supply()
    })
  }

  #supply(): void {
    const demand = this.#demand
    if (!demand) return
    if (this.#error) demand.reject(this.#error)
    else if (this.#waiting) {
      demand.resolve({ done: false, value: this.#waiting.bytes })
      this.#waiting.taken()
      this.#waiting = undefined
    } else if (this.#isEnded) demand.resolve({ done: true, value: undefined })
    else return
    this.#demand = undefined
  }
}
