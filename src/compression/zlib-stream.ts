/** Decodes with the streams of node:zlib, but refuses bytes after the end, which those ignore. */
import { once } from 'node:events'
import { WalrxError } from '../primitives/errors.ts'
import type { DecodedPiece } from './codec.ts'
import type { ZlibStream } from './in-place.ts'
import { OutputChunks } from './output-chunks.ts'

/** Size of the buffers that decoders write to, in bytes: one trip to the libuv pool for each. */
export const decodeChunkBytes = 512 * 1024

/**
 * Passes `source` through a stream of node:zlib. Input is taken only as fast as output is.
 * @param open makes the stream, once the first output is asked for; it is destroyed in any case
 * @param what names the bytes in messages: `brotli stream`
 * @throws WALRX_OBJECT_DAMAGED when zlib finds the bytes damaged or truncated, or when bytes follow after the end
 * (Node's own streams drop them silently); errors of the source unchanged
 */
export async function* throughZlib(
  open: () => ZlibStream,
  source: AsyncIterable<Uint8Array>,
  what: string,
): AsyncGenerator<Buffer, undefined> {
  const engine = open()
  const feed = new Feed(engine, source)
  try {
    for await (const output of engine) yield output as Buffer
  } catch (error) {
    throw feed.error ?? undecodable(error, what)
  } finally {
    engine.destroy()
  }
  await feed.expectEnd(what)
}

/**
 * As {@link throughZlib}, in pieces that the reader frees. The stream decodes the next piece while one is being used.
 * @param chunkBytes the stream's chunkSize
 */
export async function* piecesThroughZlib(
  open: () => ZlibStream,
  source: AsyncIterable<Uint8Array>,
  what: string,
  chunkBytes: number,
): AsyncGenerator<DecodedPiece, undefined> {
  const engine = open()
  const feed = new Feed(engine, source)
  try {
    yield* piecesOf(engine, chunkBytes)
  } catch (error) {
    throw feed.error ?? undecodable(error, what)
  } finally {
    engine.destroy()
  }
  await feed.expectEnd(what)
}

/** The output of a stream, one chunk ahead of its reader. It uses events: the stream's iterator would join chunks. */
async function* piecesOf(engine: ZlibStream, chunkBytes: number): AsyncGenerator<DecodedPiece, undefined> {
  const chunks = new OutputChunks(chunkBytes)
  const queue: DecodedPiece[] = []
  let wake = () => {}
  let isOver = false
  let failure: Error | undefined
  engine.on('data', (bytes: Buffer) => {
    queue.push({ bytes, free: chunks.hold(bytes) })
    engine.pause()
    wake()
  })
  engine.once('error', (error: Error) => {
    failure = error
    wake()
  })
  engine.once('close', () => {
    isOver = true
    wake()
  })
  for (;;) {
    const piece = queue.shift()
    if (piece) {
      if (queue.length === 0) engine.resume()
      yield piece
    } else if (failure) throw failure
    else if (isOver) break
    else
      await new Promise<void>((resolve) => {
        wake = resolve
      })
  }
  chunks.close()
}

/** Writes a source into a stream of node:zlib, while another caller reads its output. */
class Feed {
  /** Bytes handed to the stream. */
  bytes = 0
  /** True when the source has ended and the stream has taken all of it. */
  isWhole = false
  /** The error of the source. */
  error: Error | undefined
  /** Resolves, never rejects, once the source is no longer read. */
  readonly finished: Promise<void>
  readonly #engine: ZlibStream

  constructor(engine: ZlibStream, source: AsyncIterable<Uint8Array>) {
    this.#engine = engine
    this.finished = this.#run(source)
  }

  /** Throws the source's error, or WALRX_OBJECT_DAMAGED when the stream ended before the source. */
  async expectEnd(what: string): Promise<void> {
    await this.finished
    if (this.error) throw this.error
    const { bytesWritten } = this.#engine
    if (bytesWritten !== this.bytes || !this.isWhole) {
      throw new WalrxError('WALRX_OBJECT_DAMAGED', `bytes follow after the end of the ${what} at byte ${bytesWritten}`)
    }
  }

  async #run(source: AsyncIterable<Uint8Array>): Promise<void> {
    const closed = once(this.#engine, 'close').catch(() => undefined)
    try {
      for await (const chunk of source) {
        if (this.#engine.destroyed) return
        this.bytes += chunk.length
        // A stream that has reached its end no longer calls back for a write, so its close must be enough.
        await Promise.race([this.#write(chunk), closed])
      }
      this.isWhole = true
      if (!this.#engine.destroyed) this.#engine.end()
    } catch (error) {
      this.error = error as Error
      this.#engine.destroy(this.error)
    }
  }

  /** Resolves when the stream has taken the chunk, or failed: its reader gets the error. */
  #write(chunk: Uint8Array): Promise<void> {
    return new Promise((resolve) => {
      this.#engine.write(chunk, () => resolve())
    })
  }
}

/** zstd's codes for valid frames that need more than a reader must support. */
const unsupportedCodes: ReadonlySet<string> = new Set([
  'ZSTD_error_frameParameter_windowTooLarge',
  'ZSTD_error_dictionary_wrong',
])

/** The error of bytes that zlib does not decode: WALRX_OBJECT_DAMAGED, or WALRX_CODEC_UNSUPPORTED. @param what names the bytes */
export function undecodable(error: unknown, what: string): WalrxError {
  const { code = '', message } = error as NodeJS.ErrnoException
  if (unsupportedCodes.has(code)) {
    return new WalrxError('WALRX_CODEC_UNSUPPORTED', `the ${what} cannot be decoded: ${message}`, { cause: error })
  }
  if (code === 'Z_BUF_ERROR') {
    return new WalrxError('WALRX_OBJECT_DAMAGED', `the ${what} is incomplete`, { cause: error })
  }
  return new WalrxError('WALRX_OBJECT_DAMAGED', `the ${what} cannot be decoded: ${message}`, { cause: error })
}
