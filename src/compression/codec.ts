/**
 * The contract of a compression codec. Every codec writes exactly one frame, member or stream per object,
 * nothing before or after it. WAL-RUS reads the first frame only and drops the rest without an error; WAL-G's lz4 and
 * brotli readers reject bytes after the first one.
 */
import type { Duplex } from 'node:stream'

/** Methods that walrx writes (`WALG_COMPRESSION_METHOD`). */
export type WriteMethod = 'zstd' | 'lz4' | 'brotli' | 'lzma' | 'none'

/** Methods that walrx reads: those of WAL-G and WAL-RUS. */
export type ReadMethod = WriteMethod | 'gzip'

/**
 * Free bytes that {@link SegmentEncoder.encodeInPlace} needs after the data: what the worst codec adds to `size` bytes that do
 * not compress. That is lzma, which cannot store them as they are; see lzma.ts. lz4's bound is n/255 + 16. Headers of frames
 * and blocks are within the 64 KiB.
 */
export function codecSlack(size: number): number {
  return Math.ceil(size / 32) + 64 * 1024
}

/** Compresses whole segments inside their own buffer, so that a segment never costs more memory than its buffer. */
export interface SegmentEncoder {
  /** Extension of the objects, without the dot; empty for none. */
  readonly extension: string
  /**
   * Compresses `buffer[0, length)` into one frame that replaces it: afterwards the frame is `buffer[0, result)`. The
   * work is done in the libuv pool in blocks of about a megabyte, or on the main thread where the pool would take
   * longer. Besides the buffer it needs about `codecSlack` plus the codec's own context. Calls on different buffers
   * run in parallel.
   * @param buffer at least `length + codecSlack(length)` bytes long; contents beyond `length` are overwritten
   * @returns the frame's length in bytes
   */
  encodeInPlace(buffer: Buffer, length: number): Promise<number>
}

/** Some decoded bytes. */
export interface DecodedPiece {
  readonly bytes: Uint8Array
  /** Frees or reuses the memory of the bytes at once. Call it once, when they are no longer needed. */
  free(): void
}

/** Some encoded bytes, in the same way. */
export type EncodedPiece = DecodedPiece

/** Options of {@link Codec.decodePieces}. */
export interface DecodeOptions {
  /** True for a thread that does nothing else: it decodes by itself where the codec can, and blocks meanwhile. */
  readonly inSync?: boolean
}

/** One codec, as streams. */
export interface Codec {
  readonly method: ReadMethod
  /** Extension of its objects, without the dot; empty for none. */
  readonly extension: string
  /** True for what one of its objects can begin with; undefined where anything can. */
  readonly begins?: (head: Buffer) => boolean
  /**
   * Of a codec without a mark: what the first bytes of an object decode to, as far as they go; empty for what does not decode.
   */
  readonly beginning?: (head: Buffer) => Promise<Buffer>
  /** A stream that decodes one object; it fails on damage, on truncation, and on bytes after the end. */
  decoder(): Duplex
  /**
   * The same for gigabytes: in pieces that the reader frees, because garbage collection would take more time than
   * decoding. Pieces that are never freed are left to the garbage collector.
   */
  decodePieces?(source: AsyncIterable<Uint8Array>, options?: DecodeOptions): AsyncGenerator<DecodedPiece, undefined>
}

/** A codec that walrx also writes with. */
export interface WriteCodec extends Codec, SegmentEncoder {
  readonly method: WriteMethod
  /** A stream that encodes into exactly one frame. */
  encoder(): Duplex
  /**
   * The same in pieces that the reader frees, where it makes other bytes of them: it would leave twice as much to the garbage
   * collector. Chunks of the source may be reused once the next one is asked for.
   */
  encodePieces?(source: AsyncIterable<Uint8Array>): AsyncGenerator<EncodedPiece, undefined>
}
