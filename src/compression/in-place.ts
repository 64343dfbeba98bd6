/**
 * Compressing a segment inside its own buffer. The input is fed in pieces to one streaming context; what comes out is
 * copied over the part of the buffer that has been consumed already. Output that is ahead of the consumed input (that
 * of the first piece, and of data that doesn't compress) waits in memory of its own, at most about one piece.
 */
import type { Transform } from 'node:stream'
import type { Zlib } from 'node:zlib'
import { WalrxError } from '../primitives/errors.ts'

/**
 * Input per trip to the libuv pool, in bytes. Measured: 1, 2, 4 and 8 MiB cost the same within the noise; 16 KiB output
 * pieces, Node's default, cost a quarter more. The smaller the piece, the less can be ahead.
 */
export const pieceBytes = 2 * 1024 * 1024

/** Size of the buffers that Node's codecs write their output to, in bytes. */
export const outputChunkBytes = 256 * 1024

/** A stream of node:zlib. */
export type ZlibStream = Transform & Zlib

/** Writes output over the consumed prefix of a buffer that still holds input behind it. */
export class PrefixWriter {
  readonly #buffer: Buffer
  readonly #ahead: Buffer[] = []
  #consumed = 0
  #written = 0

  constructor(buffer: Buffer) {
    this.#buffer = buffer
  }

  /** Takes a piece of output, which the caller may free at once: what doesn't fit yet is kept as a copy. */
  write(output: Uint8Array): void {
    // While anything is ahead there is no room, so the order stays.
    const fits = this.#place(output)
    if (fits < output.length) this.#ahead.push(Buffer.from(output.subarray(fits)))
  }

  /** Says that the input before this offset is not needed any more. */
  consume(offset: number): void {
    this.#consumed = offset
    for (let first = this.#ahead[0]; first; first = this.#ahead[0]) {
      const fits = this.#place(first)
      if (fits < first.length) {
        this.#ahead[0] = first.subarray(fits)
        return
      }
      this.#ahead.shift()
    }
  }

  /**
   * Ends the output: nothing of the input is needed any more.
   * @returns its length in bytes
   * @throws WALRX_INTERNAL when the buffer is too small for it
   */
  finish(): number {
    this.consume(this.#buffer.length)
    if (this.#ahead.length > 0) {
      throw new WalrxError(
        'WALRX_INTERNAL',
        `a buffer of ${this.#buffer.length} bytes has no room for its compressed form`,
      )
    }
    return this.#written
  }

  #place(output: Uint8Array): number {
    const fits = Math.min(output.length, this.#consumed - this.#written)
    if (fits <= 0) return 0
    this.#buffer.set(fits < output.length ? output.subarray(0, fits) : output, this.#written)
    this.#written += fits
    return fits
  }
}

/**
 * Runs `buffer[0, length)` through a fresh compressor of node:zlib, which is closed in any case, and leaves the output
 * at the start of the buffer.
 * @returns the output's length in bytes
 */
export async function compressInPlace(compressor: ZlibStream, buffer: Buffer, length: number): Promise<number> {
  const writer = new PrefixWriter(buffer)
  const { promise, resolve, reject } = Promise.withResolvers<undefined>()
  let chunk: ArrayBufferLike | undefined
  compressor.on('data', (output: Buffer) => {
    writer.write(output)
    if (chunk !== output.buffer) release(chunk)
    chunk = output.buffer
  })
  const feed = (offset: number) => {
    writer.consume(offset)
    const end = Math.min(length, offset + pieceBytes)
    if (end === length) compressor.end(buffer.subarray(offset, end))
    else compressor.write(buffer.subarray(offset, end), (error) => error ?? feed(end))
  }
  compressor.once('error', reject)
  compressor.once('close', () => resolve(undefined))
  feed(0)
  try {
    await promise
  } finally {
    compressor.destroy()
  }
  release(chunk)
  return writer.finish()
}

/**
 * Frees an output buffer now instead of at some later collection: they are memory outside the heap, which the collector
 * lets grow by tens of megabytes.
 */
function release(chunk: ArrayBufferLike | undefined): void {
  // Buffers of this size are never slices of Node's shared pool.
  if (chunk instanceof ArrayBuffer && chunk.byteLength === outputChunkBytes) chunk.transfer(0)
}
