/**
 * Compresses a segment inside its own buffer. One streaming context gets the input in blocks, and its output is copied
 * over the consumed input. Output that is ahead of the consumed input (of the first block, and of incompressible data)
 * waits in its own buffer, at most about one block.
 */
import type { Transform } from 'node:stream'
import type { Zlib } from 'node:zlib'
import { WalrxError } from '../primitives/errors.ts'
import { OutputChunks } from './output-chunks.ts'

/**
 * Input per trip to the libuv pool, in bytes. Measured: 1, 2, 4 and 8 MiB cost the same within the noise; 16 KiB output
 * blocks, Node's default, cost a quarter more. The smaller the block, the less output can wait.
 */
export const pieceBytes = 2 * 1024 * 1024

/** Size of the buffers that Node's codecs write their output to, in bytes. */
export const outputChunkBytes = 256 * 1024

/** A stream of node:zlib. */
export type ZlibStream = Transform & Zlib

/** Output that waits for free space. */
interface Ahead {
  bytes: Uint8Array
  readonly placed: () => void
}

const nothing = () => {}

/** Writes output over the consumed prefix of a buffer that still holds input after it. */
export class PrefixWriter {
  readonly #buffer: Buffer
  readonly #ahead: Ahead[] = []
  #consumed = 0
  #written = 0

  constructor(buffer: Buffer) {
    this.#buffer = buffer
  }

  /**
   * Takes a block of output. It must not change before `placed` is called: at once where there is space, else when
   * enough input has been consumed.
   */
  write(bytes: Uint8Array, placed: () => void = nothing): void {
    this.#ahead.push({ bytes, placed })
    this.#place()
  }

  /** The input before this offset is no longer needed. */
  consume(offset: number): void {
    this.#consumed = offset
    this.#place()
  }

  /**
   * Takes input from `start` on, where {@link PrefixWriter.consume} has come to, up to `end` as output, and consumes
   * it. It is moved within the buffer; only bytes that would overwrite the following input wait as a copy.
   */
  writeInput(start: number, end: number): void {
    // After the waiting output. Where that reaches beyond this input, there is no space to move it to.
    const target = this.#ahead.reduce((sum, { bytes }) => sum + bytes.length, this.#written)
    const fits = Math.max(0, Math.min(end - start, end - target))
    const rest = Buffer.from(this.#buffer.subarray(start + fits, end))
    if (fits > 0) {
      this.#buffer.copyWithin(target, start, start + fits)
      this.consume(target)
      this.#written += fits
    }
    if (rest.length > 0) this.#ahead.push({ bytes: rest, placed: nothing })
    this.consume(end)
  }

  /**
   * Ends the output: the input is no longer needed.
   * @returns its length in bytes
   * @throws WALRX_INTERNAL when the buffer is too small for it
   */
  finish(): number {
    this.consume(this.#buffer.length)
    if (this.#ahead.length > 0) {
      const message = `a buffer of ${this.#buffer.length} bytes is too small for its compressed form`
      throw new WalrxError('WALRX_INTERNAL', message)
    }
    return this.#written
  }

  #place(): void {
    for (let first = this.#ahead[0]; first; first = this.#ahead[0]) {
      const { bytes } = first
      const fits = Math.min(bytes.length, this.#consumed - this.#written)
      this.#buffer.set(bytes.subarray(0, fits), this.#written)
      this.#written += fits
      if (fits < bytes.length) {
        first.bytes = bytes.subarray(fits)
        return
      }
      this.#ahead.shift()
      first.placed()
    }
  }
}

/**
 * Runs `buffer[0, length)` through a fresh compressor of node:zlib, which is closed in any case, and leaves the output
 * at the start of the buffer.
 * @returns the output's length in bytes
 */
export async function compressInPlace(compressor: ZlibStream, buffer: Buffer, length: number): Promise<number> {
  const writer = new PrefixWriter(buffer)
  const chunks = new OutputChunks(outputChunkBytes)
  const { promise, resolve, reject } = Promise.withResolvers<undefined>()
  compressor.on('data', (output: Buffer) => writer.write(output, chunks.hold(output)))
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
  const written = writer.finish()
  chunks.close()
  return written
}
