/** Reads a stream of chunks byte by byte, for the parsers of frames and headers. */
import { WalrxError } from './errors.ts'

/** A cursor over chunks. Use it from one place at a time, and {@link ByteReader.close} it in any case. */
export class ByteReader {
  readonly #source: AsyncIterator<Uint8Array>
  readonly #what: string
  #chunk: Uint8Array = new Uint8Array(0)
  #offset = 0

  /** @param what names the bytes in messages: `lz4 stream` */
  constructor(source: AsyncIterable<Uint8Array>, what: string) {
    this.#source = source[Symbol.asyncIterator]()
    this.#what = what
  }

  /** Bytes taken so far. */
  get offset(): number {
    return this.#offset
  }

  /** The next bytes as they come, not taken yet; undefined at the end of the source. Never empty. */
  async peek(): Promise<Uint8Array | undefined> {
    while (this.#chunk.length === 0) {
      const result = await this.#source.next()
      if (result.done) return undefined
      this.#chunk = result.value
    }
    return this.#chunk
  }

  /** Takes `count` bytes of the result of {@link ByteReader.peek}. */
  take(count: number): Uint8Array {
    const taken = this.#chunk.subarray(0, count)
    this.#chunk = this.#chunk.subarray(count)
    this.#offset += taken.length
    return taken
  }

  /**
   * Takes exactly `target.length - start` bytes into `target` from `start` on.
   * @throws WALRX_OBJECT_DAMAGED when the source ends earlier
   */
  async readInto(target: Buffer, start = 0): Promise<Buffer> {
    let filled = start
    while (filled < target.length) {
      const chunk = await this.peek()
      if (!chunk) throw this.cutShort()
      const piece = this.take(Math.min(chunk.length, target.length - filled))
      target.set(piece, filled)
      filled += piece.length
    }
    return target
  }

  /** Fills `target`, or takes what is left where that is less. @returns the bytes taken */
  async readUpTo(target: Buffer): Promise<number> {
    let filled = 0
    while (filled < target.length) {
      const chunk = await this.peek()
      if (!chunk) break
      const piece = this.take(Math.min(chunk.length, target.length - filled))
      target.set(piece, filled)
      filled += piece.length
    }
    return filled
  }

  /** Takes exactly `count` bytes: for small fields. Throws as {@link ByteReader.readInto} does. */
  read(count: number): Promise<Buffer> {
    return this.readInto(Buffer.alloc(count))
  }

  /** Skips `count` bytes. Throws as {@link ByteReader.readInto} does. */
  async skip(count: number): Promise<void> {
    for (let left = count; left > 0;) {
      const chunk = await this.peek()
      if (!chunk) throw this.cutShort()
      left -= this.take(Math.min(chunk.length, left)).length
    }
  }

  /** Takes what is left, as it comes. */
  async *rest(): AsyncGenerator<Uint8Array, undefined> {
    for (let chunk = await this.peek(); chunk; chunk = await this.peek()) yield this.take(chunk.length)
  }

  /** Throws WALRX_OBJECT_DAMAGED when bytes are left. */
  async expectEnd(): Promise<void> {
    if (await this.peek()) throw this.trailing()
  }

  /** The error of a source that goes on after its end, which is here, or `taken` bytes before. */
  trailing(taken = 0): WalrxError {
    const end = this.#offset - taken
    return new WalrxError('WALRX_OBJECT_DAMAGED', `bytes follow after the end of the ${this.#what} at byte ${end}`)
  }

  /** The error of a source that ends too early. */
  cutShort(): WalrxError {
    return new WalrxError(
      'WALRX_OBJECT_DAMAGED',
      `the ${this.#what} is incomplete: it ends after ${this.#offset} bytes`,
    )
  }

  /** Frees the source. */
  async close(): Promise<void> {
    await this.#source.return?.()
  }
}
