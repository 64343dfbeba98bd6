/** Objects as what they decode to, streaming: nothing is held whole. */
import { Readable } from 'node:stream'
import type { Codec } from '../compression/codec.ts'
import { toWalrxError, WalrxError } from '../primitives/errors.ts'

/**
 * Decodes the bytes of an object.
 * @param key names it in errors
 * @throws while iterating: what the source throws as it is, WALRX_OBJECT_DAMAGED for what does not decode
 */
export async function* decoded(
  encoded: AsyncIterable<Uint8Array>,
  codec: Codec,
  key: string,
): AsyncGenerator<Uint8Array, undefined> {
  const source = Readable.from(encoded, { objectMode: false })
  const decoder = codec.decoder()
  let sourceError: unknown
  source.once('error', (error) => {
    sourceError = error
    decoder.destroy(error)
  })
  source.pipe(decoder)
  try {
    for await (const chunk of decoder) yield chunk as Uint8Array
  } catch (error) {
    if (sourceError !== undefined) throw sourceError as Error
    throw damaged(error, key)
  } finally {
    source.destroy()
    decoder.destroy()
  }
}

function damaged(error: unknown, key: string): WalrxError {
  const { message } = toWalrxError(error)
  return new WalrxError('WALRX_OBJECT_DAMAGED', `${key} does not decode: ${message}`, { cause: error })
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
}

/** Compares two streams piece by piece, and ends both as soon as they differ. */
export async function compareStreams(a: AsyncIterable<Uint8Array>, b: AsyncIterable<Uint8Array>): Promise<Comparison> {
  const left = a[Symbol.asyncIterator]()
  const right = b[Symbol.asyncIterator]()
  let offset = 0
  let inLeft = Buffer.alloc(0)
  let inRight = Buffer.alloc(0)
  try {
    for (;;) {
      if (inLeft.length === 0) inLeft = await nextPiece(left)
      if (inRight.length === 0) inRight = await nextPiece(right)
      const length = Math.min(inLeft.length, inRight.length)
      if (length === 0) return { equal: inLeft.length === inRight.length, offset }
      if (inLeft.compare(inRight, 0, length, 0, length) !== 0) {
        while (inLeft[0] === inRight[0]) {
          inLeft = inLeft.subarray(1)
          inRight = inRight.subarray(1)
          offset++
        }
        return { equal: false, offset }
      }
      offset += length
      inLeft = inLeft.subarray(length)
      inRight = inRight.subarray(length)
    }
  } finally {
    await left.return?.()
    await right.return?.()
  }
}

/** The next bytes, none at the end. */
async function nextPiece(source: AsyncIterator<Uint8Array>): Promise<Buffer<ArrayBuffer>> {
  for (;;) {
    const { done, value } = await source.next()
    if (done) return Buffer.alloc(0)
    if (value.length > 0) return Buffer.from(value.buffer as ArrayBuffer, value.byteOffset, value.length)
  }
}
