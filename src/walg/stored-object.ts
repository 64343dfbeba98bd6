/** Objects as what they decode to, streaming: nothing is held whole. */
import { Readable } from 'node:stream'
import type { Codec, DecodedPiece } from '../compression/codec.ts'
import { hasCode, WalrxError } from '../primitives/errors.ts'

/**
 * Decodes the bytes of an object.
 * @param key names it in errors
 * @throws while iterating: what the source throws as it is; WALRX_OBJECT_DAMAGED for what does not decode,
 * WALRX_CODEC_UNSUPPORTED for what asks for more than walrx can
 */
export async function* decoded(
  encoded: AsyncIterable<Uint8Array>,
  codec: Codec,
  key: string,
): AsyncGenerator<Uint8Array, undefined> {
  try {
    // Bytes that are stored as they are need no stream to go through.
    yield* codec.method === 'none' ? encoded : throughDecoder(encoded, codec)
  } catch (error) {
    throw withKey(error, key)
  }
}

async function* throughDecoder(
  encoded: AsyncIterable<Uint8Array>,
  codec: Codec,
): AsyncGenerator<Uint8Array, undefined> {
  const source = Readable.from(encoded, { objectMode: false })
  const decoder = codec.decoder()
  source.once('error', (error) => decoder.destroy(error))
  source.pipe(decoder)
  try {
    for await (const chunk of decoder) yield chunk as Uint8Array
  } finally {
    source.destroy()
    decoder.destroy()
  }
}

/**
 * The same in pieces that the reader frees.
 * @throws as {@link decoded}
 */
export async function* decodedPieces(
  encoded: AsyncIterable<Uint8Array>,
  codec: Codec,
  key: string,
): AsyncGenerator<DecodedPiece, undefined> {
  if (!codec.decodePieces) {
    for await (const bytes of decoded(encoded, codec, key)) yield { bytes, free: () => {} }
    return
  }
  try {
    yield* codec.decodePieces(encoded)
  } catch (error) {
    throw withKey(error, key)
  }
}

/** A codec doesn't know what it decodes: puts the key before its message. Other errors are no fault of the object's. */
function withKey(error: unknown, key: string): unknown {
  if (!hasCode(error, 'WALRX_OBJECT_DAMAGED') && !hasCode(error, 'WALRX_CODEC_UNSUPPORTED')) return error
  return new WalrxError(error.code, `${key}: ${error.message}`, { cause: error })
}

/** All of a body, copied into memory: for what is small, or a segment. Throws what the body throws. */
export async function collected(body: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const pieces: Buffer[] = []
  for await (const piece of body) pieces.push(Buffer.from(piece))
  return Buffer.concat(pieces)
}

/** Bytes in memory as a source. */
export async function* once(bytes: Uint8Array): AsyncGenerator<Uint8Array, undefined> {
  await Promise.resolve()
  yield bytes
}

/** How two byte streams compare. */
export interface Comparison {
  readonly equal: boolean
  /** Where they first differ, or where the shorter one ends. */
  readonly offset: number
  /** Bytes of each, counted to the end. */
  readonly leftBytes: number
  readonly rightBytes: number
}

/** Compares two streams piece by piece; both are read to their ends, for the lengths, and freed in any case. */
export async function compareStreams(
  left: AsyncIterable<Uint8Array>,
  right: AsyncIterable<Uint8Array>,
): Promise<Comparison> {
  const ours = new Pieces(left)
  const theirs = new Pieces(right)
  let offset = 0
  try {
    for (;;) {
      const [a, b] = await Promise.all([ours.peek(), theirs.peek()])
      const length = Math.min(a.length, b.length)
      const equal = firstDifference(a, b, length)
      ours.skip(equal)
      theirs.skip(equal)
      offset += equal
      if (length > 0 && equal === length) continue
      const isEnd = a.length === 0 && b.length === 0
      return { equal: isEnd, offset, leftBytes: await ours.count(), rightBytes: await theirs.count() }
    }
  } finally {
    await Promise.all([ours.close(), theirs.close()])
  }
}

/** Index of the first byte that differs within the first `length` ones; `length` when none does. */
export function firstDifference(a: Buffer, b: Buffer, length: number): number {
  if (a.compare(b, 0, length, 0, length) === 0) return length
  let at = 0
  while (a[at] === b[at]) at++
  return at
}

/** A source of chunks that can be looked at before they are taken. */
class Pieces {
  readonly #source: AsyncIterator<Uint8Array>
  #piece: Buffer = Buffer.alloc(0)
  #taken = 0

  constructor(source: AsyncIterable<Uint8Array>) {
    this.#source = source[Symbol.asyncIterator]()
  }

  /** The next bytes; none only at the end. */
  async peek(): Promise<Buffer> {
    while (this.#piece.length === 0) {
      const { done, value } = await this.#source.next()
      if (done) break
      this.#piece = Buffer.from(value.buffer, value.byteOffset, value.length)
    }
    return this.#piece
  }

  skip(count: number): void {
    this.#piece = this.#piece.subarray(count)
    this.#taken += count
  }

  /** Reads to the end; the number of bytes in all. */
  async count(): Promise<number> {
    for (let piece = await this.peek(); piece.length > 0; piece = await this.peek()) this.skip(piece.length)
    return this.#taken
  }

  async close(): Promise<void> {
    await this.#source.return?.()
  }
}
