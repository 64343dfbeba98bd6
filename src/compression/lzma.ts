/**
 * LZMA_alone (`.lzma`), for reading only: WAL-G writes it with ulikunitz/xz and WAL-RUS with liblzma. It is a 13-byte
 * header (properties, u32 dictionary size, u64 size that is all ones for "unknown") and a stream with an end marker.
 * `@napi-rs/lzma` (lzma-rs) decodes a whole object at once in the libuv pool, so the object and its content are in
 * memory together. It checks the end marker and that no bytes follow it. With a size in the header it stops there
 * instead and ignores further bytes, so such objects, which neither tool writes, are refused.
 */
import { WalrxError } from '../primitives/errors.ts'
import type { Codec } from './codec.ts'
import { GeneratorDuplex } from './generator-duplex.ts'

/** Largest object that is decoded, in bytes: an incompressible segment of 1 GB. */
const objectBytesMax = 1.1 * 1024 ** 3

const sizeOffset = 5
const unknownSize = 0xffffffffffffffffn

/** The lzma codec. */
export const lzmaCodec: Codec = {
  method: 'lzma',
  extension: 'lzma',
  // Properties of a byte below 225, and of the size of the dictionary and of the content some bytes that are 0 or 0xff.
  begins: (head) => head.length >= 13 && (head[0] ?? 255) < 225 && /^(ff){8}$|0000$/.test(head.toString('hex', 5, 13)),
  decoder: () => new GeneratorDuplex(decode),
}

async function* decode(source: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array, undefined> {
  const chunks: Uint8Array[] = []
  let size = 0
  for await (const chunk of source) {
    size += chunk.length
    if (size > objectBytesMax) {
      throw new WalrxError('WALRX_CODEC_UNSUPPORTED', `the lzma stream has more than ${objectBytesMax} bytes`)
    }
    chunks.push(chunk)
  }
  // Loaded on demand: an unused codec costs nothing.
  const { decompress } = await import('@napi-rs/lzma/lzma')
  const object = Buffer.concat(chunks)
  chunks.length = 0
  if (size >= sizeOffset + 8 && object.readBigUInt64LE(sizeOffset) !== unknownSize) {
    throw new WalrxError('WALRX_CODEC_UNSUPPORTED', 'the lzma stream has a size in its header instead of an end marker')
  }
  try {
    yield await decompress(object)
  } catch (error) {
    const message = `the lzma stream of ${size} bytes cannot be decoded: ${(error as Error).message}`
    throw new WalrxError('WALRX_OBJECT_DAMAGED', message, { cause: error })
  }
}
