/**
 * zstd by Node's own zlib: one frame with checksum and content size per segment.
 *
 * Level 1 is libzstd's with a window of 256 KiB instead of 512, a hash table of 2^12 entries instead of 2^14 (it stays
 * in the first-level cache) and matches of five bytes instead of seven: WAL repeats short things at short distances.
 * CPU-seconds per GB and MB per segment, with checksum and content size, output in blocks of 2 MB, lesser of two runs,
 * one at a time on a core of 2.5 GHz:
 *
 * | WAL of                    | pgbench    | rows of JSON | rows of text | full page images |
 * | this, 18 / 12 / 5         | 1.58 1.359 | 2.73 4.169   | 3.22 4.751   | 3.78 5.092       |
 * | libzstd's, 19 / 14 / 7    | 1.65 1.399 | 2.96 4.194   | 3.45 4.804   | 3.61 5.069       |
 * | 18 / 13 / 5               | 1.59 1.351 | 2.87 4.200   | 3.61 4.782   | 3.68 4.981       |
 * | 18 / 13 / 6               | 1.57 1.413 | 2.75 4.165   | 3.16 4.762   | 4.14 5.107       |
 * | 17 / 13 / 5               | 1.49 1.409 | 2.83 4.206   | 2.92 4.765   | 3.43 5.091       |
 *
 * Levels 2 and 3 cost 1.2 and 1.6 times as much for objects of the same size, so level 1 is the default. Of other ways
 * to call zstd (other segments, a busy machine, least of six runs; MB/s per core in the middle):
 *
 * | WAL of                           | pgbench         | its initial load | full page images | rows of JSON    |
 * | libzstd's level 1, no checksum   | 1.51  657 1.189 | 0.81 1236 0.470  | 4.51  211 6.022  | 3.57  273 5.727 |
 * | this, level 2                    | 1.80  539 1.231 | 0.96 1040 0.462  | 5.48  179 6.009  | 4.39  224 5.747 |
 * | this, level 3                    | 2.38  417 1.218 | 1.25  802 0.480  | 9.19  107 6.004  | 7.96  119 5.742 |
 * | this, level 7                    | 9.98  100 1.095 | 7.31  135 0.421  | 30.1   31 5.674  | 24.8   40 5.419 |
 * | zlib.zstdCompress, level 1       | 1.71  584 1.189 | 0.92 1086 0.470  | 5.49  170 6.022  | 4.44  224 5.727 |
 * | the same with one output buffer  | 1.55  644 1.189 | 0.85 1167 0.470  | 4.80  201 6.022  | 3.59  273 5.727 |
 * | @mongodb-js/zstd 1.2.2 (level 3) | 2.20  456 1.204 | 1.06  927 0.480  | 8.71  114 6.004  | 7.70  131 5.740 |
 *
 * Memory beside the segments' buffers over 120 segments, two at a time: this 10 MB, 14 of bytes that don't compress;
 * the same without freeing its output buffers at once 72 MB; zlib.zstdCompress 37 to 90 MB; @mongodb-js/zstd 86 MB.
 *
 * Pages of tables and indexes differ: streams are backups, and search for matches of seven bytes. CPU-seconds per GB
 * and ratio over pages of 17, in blocks of 64 MB, a core of 2.5 GHz (over all of pgbench's tables the smaller window
 * costs 6 % more bytes):
 *
 * | pages of                  | pgbench   | rows of jsonb | orders   | an index of integers |
 * | 18 / 12 / 7, this         | 1.58 15.9 | 2.46 5.0      | 3.86 2.9 | 4.45 2.5             |
 * | 17 / 12 / 7               | 1.51 15.9 | 2.46 5.0      | 3.69 2.9 | 4.56 2.5             |
 * | 18 / 12 / 5, as for WAL   | 1.64 15.5 | 2.77 5.0      | 4.46 2.9 | 5.00 2.6             |
 * | libzstd's, 19 / 14 / 7    | 1.69 16.0 | 2.68 5.4      | 4.42 2.9 | 5.04 2.5             |
 * | libzstd's level 3         | 2.49 15.0 | 4.81 5.8      | 8.34 3.0 | 9.58 2.7             |
 *
 * Decompression of segments of pgbench, in a process with four at a time that reads, checks and writes files (median of
 * four), and of one in a whole wal-fetch (median of twelve). One call needs the whole object and its content, and the size
 * in the frame's header; @mongodb-js/zstd takes 7 ms to load and writes no checksum, so it is used nowhere:
 *
 * |                                  | ms CPU a segment | peak MB | wal-fetch, ms CPU | peak MiB |
 * | streams, left to the collector   | 31.2             | 184     | 240               | 86       |
 * | this, in pieces that are freed   | 29.6             | 126     | 229 to 239        | 72       |
 * | @mongodb-js/zstd 1.2.2, one call | 26.8             | 225     | 226               | 90       |
 *
 * The calls alone take 0.98, 0.76 and 0.58 CPU-seconds per GB; zlib.zstdDecompress with one output buffer, freed, 0.70.
 *
 * Every segment gets a context of its own: `reset()` forgets level and checksum (Node 22.15 and 24.21).
 */
import { constants, createZstdCompress, createZstdDecompress, zstdCompressSync, type ZstdOptions } from 'node:zlib'
import { ByteReader } from '../../primitives/byte-reader.ts'
import { WalrxError } from '../../primitives/errors.ts'
import { codecSlack, type DecodedPiece, type DecodeOptions, type EncodedPiece, type WriteCodec } from '../codec.ts'
import { GeneratorDuplex } from '../generator-duplex.ts'
import { compressInPlace, outputChunkBytes } from '../in-place.ts'
import { decodeChunkBytes, piecesThroughZlib, throughZlib, undecodable } from '../zlib-stream.ts'
import { canDecodeInSync, piecesInSync } from '../zlib-sync.ts'
import { beginsZstdFrame, emptyFrameBytes, ZstdFrameScanner } from './zstd-frame.ts'

/** Smallest and largest level, as zstd counts them. */
export const zstdLevelMin = 1
export const zstdLevelMax = 22

/** Ours: about what libzstd calls 1. */
export const zstdLevelDefault = 1

/** Largest window that is written, log2 of bytes: 8 MiB, WAL-G's own default; readers allocate it. */
const windowLogMax = 23

/** Level 1, tuned for WAL and for pages (see the head of the file). */
const levelOneOfWal = {
  [constants.ZSTD_c_windowLog]: 18,
  [constants.ZSTD_c_hashLog]: 12,
  [constants.ZSTD_c_minMatch]: 5,
}
const levelOneOfPages = {
  [constants.ZSTD_c_windowLog]: 18,
  [constants.ZSTD_c_hashLog]: 12,
  [constants.ZSTD_c_minMatch]: 7,
}

/**
 * The zstd codec.
 * @param level {@link zstdLevelMin} to {@link zstdLevelMax}; checked by the caller
 */
export function zstdCodec(level: number = zstdLevelDefault): WriteCodec {
  return {
    method: 'zstd',
    extension: 'zst',
    begins: beginsZstdFrame,
    encoder: () => new GeneratorDuplex((source) => encode(level, source)),
    encodePieces: (source) => encodePieces(level, source),
    decoder: () => new GeneratorDuplex(decode),
    decodePieces,
    async encodeInPlace(buffer, length) {
      const written =
        length <= syncBytesMax && level <= syncLevelMax
          ? compressSmall(level, buffer, length)
          : await compressInPlace(createZstdCompress(writeOptions(level, length)), buffer, length)
      const scanner = new ZstdFrameScanner()
      const frame = scanner.scan(buffer.subarray(0, written))
      checkSingleFrame(scanner, written - frame)
      return frame
    },
  }
}

/**
 * Input that is compressed on the main thread, in bytes: 40 µs for 2 kB, 140 for 30 kB. The libuv pool takes 100 µs
 * more, and longer while its threads are busy. Commits wait for chunks of that size. Higher levels would block longer.
 */
const syncBytesMax = 32 * 1024
const syncLevelMax = 3

/** Compresses a small buffer in place. @returns the output's length in bytes */
function compressSmall(level: number, buffer: Buffer, length: number): number {
  const options = { ...writeOptions(level, length), chunkSize: length + codecSlack(length) }
  const output = zstdCompressSync(buffer.subarray(0, length), options)
  output.copy(buffer)
  return output.length
}

/** @param length of a segment, in bytes; undefined for a stream */
function writeOptions(level: number, length?: number): ZstdOptions {
  const params = {
    [constants.ZSTD_c_compressionLevel]: level,
    [constants.ZSTD_c_checksumFlag]: 1,
    ...(level === 1 ? (length === undefined ? levelOneOfPages : levelOneOfWal) : {}),
    // Levels from 20 on would take up to 128 MiB.
    ...(level >= 20 ? { [constants.ZSTD_c_windowLog]: windowLogMax } : {}),
  }
  return { chunkSize: outputChunkBytes, params, ...(length === undefined ? {} : { pledgedSrcSize: length }) }
}

/**
 * Node appends an empty second frame when the first one exactly fills an output buffer (it calls the finished encoder
 * once more; seen in 22.15 and 24.21). That frame is dropped; any other bytes after the frame are a defect.
 */
function checkSingleFrame(scanner: ZstdFrameScanner, extra: number): void {
  if (!scanner.isComplete || (extra !== 0 && extra !== emptyFrameBytes)) {
    throw new WalrxError('WALRX_INTERNAL', `zstd wrote ${extra} bytes after the end of its frame`)
  }
}

async function* encode(level: number, source: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array, undefined> {
  const frame = new FrameEnd()
  for await (const output of throughZlib(() => createZstdCompress(writeOptions(level)), source, 'input')) {
    const inFrame = frame.take(output)
    if (inFrame.length > 0) yield inFrame
  }
  frame.finish()
}

async function* encodePieces(
  level: number,
  source: AsyncIterable<Uint8Array>,
): AsyncGenerator<EncodedPiece, undefined> {
  const frame = new FrameEnd()
  const open = () => createZstdCompress(writeOptions(level))
  for await (const { bytes, free } of piecesThroughZlib(open, source, 'input', outputChunkBytes)) {
    yield { bytes: frame.take(bytes), free }
  }
  frame.finish()
}

/** Drops what comes after the frame; see {@link checkSingleFrame}. */
class FrameEnd {
  readonly #scanner = new ZstdFrameScanner()
  #extra = 0

  /** The bytes of the frame among these. */
  take(output: Uint8Array): Uint8Array {
    const inFrame = this.#scanner.scan(output)
    this.#extra += output.length - inFrame
    return output.subarray(0, inFrame)
  }

  finish(): void {
    checkSingleFrame(this.#scanner, this.#extra)
  }
}

const openDecompressor = () => createZstdDecompress({ chunkSize: decodeChunkBytes })

function decode(source: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array, undefined> {
  return decodeFrames(source, (frame) => throughZlib(openDecompressor, frame, 'zstd stream'))
}

function decodePieces(
  source: AsyncIterable<Uint8Array>,
  { inSync = false }: DecodeOptions = {},
): AsyncGenerator<DecodedPiece, undefined> {
  return decodeFrames(source, (frame) => {
    const engine = inSync ? openDecompressor() : undefined
    if (engine && canDecodeInSync(engine)) {
      return piecesInSync(engine, frame, decodeChunkBytes, (reason) => undecodable(reason, 'zstd stream'))
    }
    engine?.destroy()
    return piecesThroughZlib(openDecompressor, frame, 'zstd stream', decodeChunkBytes)
  })
}

/** Decodes any number of frames, also skippable ones, as WAL-G's reader does. */
async function* decodeFrames<T>(
  source: AsyncIterable<Uint8Array>,
  through: (frame: AsyncIterable<Uint8Array>) => AsyncGenerator<T, undefined>,
): AsyncGenerator<T, undefined> {
  const reader = new ByteReader(source, 'zstd stream')
  try {
    let frames = 0
    while (frames === 0 || (await reader.peek())) {
      const scanner = new ZstdFrameScanner()
      const frame = frameOf(reader, scanner)
      const head = await frame.next()
      if (scanner.isSkippable) {
        for await (const piece of frame) void piece
        continue
      }
      yield* through(prepend(head, frame))
      frames++
    }
  } finally {
    await reader.close()
  }
}

/**
 * The bytes of one frame. The first chunk has at least the magic number, so that `scanner` knows the kind.
 * @throws WALRX_OBJECT_DAMAGED when the source ends within the frame, or begins with something else
 */
async function* frameOf(reader: ByteReader, scanner: ZstdFrameScanner): AsyncGenerator<Uint8Array, undefined> {
  const magic = await reader.read(4)
  scanner.scan(magic)
  yield magic
  while (!scanner.isComplete) {
    const chunk = await reader.peek()
    if (!chunk) throw reader.cutShort()
    yield reader.take(scanner.scan(chunk))
  }
}

async function* prepend(
  head: IteratorResult<Uint8Array>,
  rest: AsyncIterable<Uint8Array>,
): AsyncGenerator<Uint8Array, undefined> {
  if (!head.done) yield head.value
  yield* rest
}
