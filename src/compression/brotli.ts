/** brotli by Node's zlib: one stream per object. */
import { type BrotliOptions, constants, createBrotliCompress, createBrotliDecompress } from 'node:zlib'
import type { WriteCodec } from './codec.ts'
import { GeneratorDuplex } from './generator-duplex.ts'
import { compressInPlace, outputChunkBytes } from './in-place.ts'
import { decodeChunkBytes, piecesThroughZlib, throughZlib } from './zlib-stream.ts'

/** Smallest and largest quality. */
export const brotliLevelMin = 0
export const brotliLevelMax = 11

/** What WAL-G writes with. */
export const brotliLevelDefault = 3

/**
 * log2 of the window in bytes: 256 KiB. Measured on WAL of pgbench against 20 and 22, brotli's default: objects 0.4 to
 * 1.8 % smaller, and over 120 segments, two at a time, 9 MB beside the segments' buffers instead of 26 and 48.
 */
const windowLog = 18

/**
 * The brotli codec.
 * @param level quality, {@link brotliLevelMin} to {@link brotliLevelMax}; checked by the caller
 */
export function brotliCodec(level: number = brotliLevelDefault): WriteCodec {
  return {
    method: 'brotli',
    extension: 'br',
    encoder: () =>
      new GeneratorDuplex((source) => throughZlib(() => createBrotliCompress(writeOptions(level)), source, 'input')),
    encodePieces: (source) =>
      piecesThroughZlib(() => createBrotliCompress(writeOptions(level)), source, 'input', outputChunkBytes),
    beginning,
    decoder: () => new GeneratorDuplex(decode),
    decodePieces: (source) => piecesThroughZlib(openDecompressor, source, 'brotli stream', decodeChunkBytes),
    encodeInPlace: (buffer, length) =>
      compressInPlace(createBrotliCompress(writeOptions(level, length)), buffer, length),
  }
}

function writeOptions(level: number, length = 0): BrotliOptions {
  return {
    chunkSize: outputChunkBytes,
    params: {
      [constants.BROTLI_PARAM_QUALITY]: level,
      [constants.BROTLI_PARAM_LGWIN]: windowLog,
      [constants.BROTLI_PARAM_SIZE_HINT]: length,
    },
  }
}

/** The decoder gives out what it has when it has no more input. */
async function beginning(head: Buffer): Promise<Buffer> {
  const engine = createBrotliDecompress({ chunkSize: 16 * 1024, finishFlush: constants.BROTLI_OPERATION_FLUSH })
  const { promise, resolve } = Promise.withResolvers<Buffer>()
  engine.once('data', resolve)
  engine.once('error', () => resolve(Buffer.alloc(0)))
  engine.once('end', () => resolve(Buffer.alloc(0)))
  engine.end(head)
  try {
    return await promise
  } finally {
    engine.destroy()
  }
}

const openDecompressor = () => createBrotliDecompress({ chunkSize: decodeChunkBytes })

function decode(source: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array, undefined> {
  return throughZlib(openDecompressor, source, 'brotli stream')
}
