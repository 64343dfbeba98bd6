/** Makes a duplex stream of a function over chunks, for codecs that are written as generators. */
import { Duplex } from 'node:stream'
import { WalrxError } from '../primitives/errors.ts'

/** Transforms the written chunks into the read ones. It takes its input only as fast as its output is taken. */
export type ChunkTransform = (source: AsyncIterable<Uint8Array>) => AsyncGenerator<Uint8Array, undefined>

/** A waiting `next()` of the transform's source. */
interface Demand {
  readonly resolve: (result: IteratorResult<Uint8Array>) => void
  readonly reject: (error: Error) => void
}

/**
 * Node's `Duplex.from` does this only in object mode: it holds up to sixteen chunks of any size on either side. This
 * class holds one chunk of input, and stops the generator at the first chunk of output that isn't taken.
 */
export class GeneratorDuplex extends Duplex {
  readonly #output: AsyncGenerator<Uint8Array, undefined>
  #input: { chunk: Uint8Array; done: (error?: Error) => void } | undefined
  #inputEnded = false
  #demand: Demand | undefined
  #isPulling = false
  /** Set by a `_read` that came while a chunk was being pushed. */
  #isWanted = false

  constructor(transform: ChunkTransform) {
    super()
    this.#output = transform({ [Symbol.asyncIterator]: () => ({ next: () => this.#next() }) })
  }

  override _write(chunk: Uint8Array, _encoding: string, done: (error?: Error) => void): void {
    this.#input = { chunk, done }
    this.#supply()
  }

  override _final(done: (error?: Error) => void): void {
    this.#inputEnded = true
    this.#supply()
    done()
  }

  override _read(): void {
    this.#isWanted = true
    if (!this.#isPulling) void this.#pull()
  }

  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    // The generator sees the end of its source as an error, so that its `finally` blocks run.
    this.#demand?.reject(error ?? new WalrxError('WALRX_INTERNAL', 'the stream was destroyed'))
    this.#demand = undefined
    this.#output.return(undefined).catch(() => undefined)
    done(error)
  }

  #next(): Promise<IteratorResult<Uint8Array>> {
    return new Promise((resolve, reject) => {
      if (this.destroyed) {
        reject(this.errored ?? new WalrxError('WALRX_INTERNAL', 'the stream was destroyed'))
        return
      }
      this.#demand = { resolve, reject }
      this.#supply()
    })
  }

  /** Gives a waiting chunk to a waiting `next()`. */
  #supply(): void {
    const demand = this.#demand
    const input = this.#input
    if (!demand || (!input && !this.#inputEnded)) return
    this.#demand = undefined
    this.#input = undefined
    demand.resolve(input ? { done: false, value: input.chunk } : { done: true, value: undefined })
    input?.done()
  }

  async #pull(): Promise<void> {
    this.#isPulling = true
    try {
      for (;;) {
        const result = await this.#output.next()
        if (this.destroyed) return
        if (result.done) {
          this.push(null)
          return
        }
        this.#isWanted = false
        if (result.value.length > 0 && !this.push(result.value) && !this.#isWanted) return
      }
    } catch (error) {
      this.destroy(error as Error)
    } finally {
      this.#isPulling = false
    }
  }
}
