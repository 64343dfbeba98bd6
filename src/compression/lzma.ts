/**
 * LZMA_alone (`.lzma`): WAL-G writes it with ulikunitz/xz, WAL-RUS with liblzma. A header of 13 bytes (properties, u32 size of
 * the dictionary, u64 size of the content, all ones for "unknown"), then one stream, with an end marker where the size is
 * unknown. There is no checksum: what is changed in an object may decode to something else.
 *
 * The streams of `@napi-rs/lzma` (lzma-rust2) work on threads of their own. Measured on 100 MB of WAL, beside what Node takes:
 * 12.7 CPU-seconds per GB and 97 MB/s to read. Their reader takes input ahead and does not say where its stream ended, so bytes
 * after the end are found only where they are more than it takes ahead.
 *
 * Written with preset 0, a dictionary of 256 KiB: 38 CPU-seconds per GB, zstd's level 1 takes 1.6. Presets 1, 3 and 6 take 66,
 * 121 and 237, for objects from 2 % smaller to 1 % larger. Random bytes take 150, and grow by 1.5 %; bytes made to mispredict
 * nearly every bit by 2.5 %.
 */
import { ByteReader } from '../primitives/byte-reader.ts'
import { WalrxError } from '../primitives/errors.ts'
import { release } from '../primitives/release.ts'
import type { DecodedPiece, WriteCodec } from './codec.ts'
import { GeneratorDuplex } from './generator-duplex.ts'
import { PrefixWriter } from './in-place.ts'

const preset = 0

/** Bytes that are handed to the library at a time: it holds up to sixteen of such pieces. */
const pieceBytes = 16 * 1024

const headerBytes = 13

/** Largest dictionary that a reader allocates, in bytes. WAL-G writes with 8 MiB, the largest preset of liblzma with 64. */
const dictionaryBytesMax = 128 * 1024 * 1024

/** The lzma codec; it has no levels. */
export const lzmaCodec: WriteCodec = {
  method: 'lzma',
  extension: 'lzma',
  begins: beginsLzma,
  encoder: () => new GeneratorDuplex(encode),
  decoder: () => new GeneratorDuplex(decode),
  decodePieces,
  encodeInPlace,
}

/**
 * True for a header: three properties in a byte below 225, a dictionary of 2^n or 2^n + 2^(n-1) bytes, as liblzma demands it of
 * a file without a magic number, and a size that is unknown or below 256 TiB.
 */
function beginsLzma(head: Buffer): boolean {
  if (head.length < headerBytes || head.readUInt8(0) >= 225) return false
  const bits = head.readUInt32LE(1).toString(2)
  return /^11?0{11,}$/.test(bits) && /^(f{16}|.{12}0000)$/.test(head.toString('hex', 5, headerBytes))
}

/**
 * Loads the library with the first object: an unused codec costs nothing.
 * @throws WALRX_CODEC_UNSUPPORTED where npm has not installed its native part
 */
async function library(): Promise<typeof import('@napi-rs/lzma/lzma')> {
  try {
    return await import('@napi-rs/lzma/lzma')
  } catch (error) {
    const machine = `${process.platform}-${process.arch}, Node ${process.versions.node}`
    throw new WalrxError('WALRX_CODEC_UNSUPPORTED', `the library for lzma is not installed (${machine})`, {
      cause: error,
      hint: 'install walrx with Node 22.20, 24.12 or later: npm leaves the library out on an older one',
    })
  }
}

/** A part of the source as the library takes it: what it is given it reads at any time later, so it gets copies. */
type Piece = (bytesMax: number) => Promise<Uint8Array | undefined>

async function* encode(source: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array, undefined> {
  const { compressStream } = await library()
  const reader = new ByteReader(source, 'input')
  const feed = new Feed((bytesMax) => copyOfNext(reader, bytesMax))
  try {
    yield* feed.through((input) => compressStream(input, { preset }))
  } finally {
    await reader.close()
  }
}

async function encodeInPlace(buffer: Buffer, length: number): Promise<number> {
  const { compressStream } = await library()
  const writer = new PrefixWriter(buffer)
  let offset = 0
  const feed = new Feed((bytesMax) => {
    const piece = Buffer.from(buffer.subarray(offset, Math.min(length, offset + bytesMax)))
    offset += piece.length
    writer.consume(offset)
    return Promise.resolve(piece.length > 0 ? piece : undefined)
  })
  for await (const output of feed.through((input) => compressStream(input, { preset }))) {
    writer.write(output, () => release(output))
  }
  return writer.finish()
}

async function* decode(source: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array, undefined> {
  for await (const { bytes } of decodePieces(source)) yield bytes
}

async function* decodePieces(source: AsyncIterable<Uint8Array>): AsyncGenerator<DecodedPiece, undefined> {
  const { decompressStream } = await library()
  const reader = new ByteReader(source, 'lzma stream')
  try {
    const header = checkedHeader(await reader.read(headerBytes))
    let isFirst = true
    const feed = new Feed((bytesMax) => {
      if (!isFirst) return copyOfNext(reader, bytesMax)
      isFirst = false
      return Promise.resolve(header)
    })
    for await (const bytes of feed.through(decompressStream, damaged)) yield { bytes, free: () => release(bytes) }
    await reader.expectEnd()
  } finally {
    await reader.close()
  }
}

/** @throws WALRX_OBJECT_DAMAGED, and WALRX_CODEC_UNSUPPORTED for a dictionary that takes too much memory */
function checkedHeader(header: Buffer): Buffer {
  const properties = header.readUInt8(0)
  const dictionaryBytes = header.readUInt32LE(1)
  if (properties >= 225) {
    throw new WalrxError('WALRX_OBJECT_DAMAGED', `not an lzma stream: its properties are ${properties}, above 224`)
  }
  if (dictionaryBytes > dictionaryBytesMax) {
    throw new WalrxError(
      'WALRX_CODEC_UNSUPPORTED',
      `the lzma stream needs a dictionary of ${dictionaryBytes} bytes, more than ${dictionaryBytesMax}`,
    )
  }
  return header
}

function damaged(error: unknown): WalrxError {
  const message = `the lzma stream cannot be decoded: ${(error as Error).message}`
  return new WalrxError('WALRX_OBJECT_DAMAGED', message, { cause: error })
}

async function copyOfNext(reader: ByteReader, bytesMax: number): Promise<Uint8Array | undefined> {
  const chunk = await reader.peek()
  return chunk && Buffer.from(reader.take(Math.min(chunk.length, bytesMax)))
}

/** Feeds a stream of the library. */
class Feed {
  /** The error of the source. */
  #error: unknown
  readonly #next: Piece
  /** The piece that the library waits for. */
  #pulling: Promise<void> = Promise.resolve()
  #isOver = false

  constructor(next: Piece) {
    this.#next = next
  }

  /**
   * Passes the source through a stream. Afterwards nothing is taken of the source any more.
   * @param open makes the stream that reads its input
   * @param reasonOf what to throw for an error of the stream
   * @throws errors of the source unchanged
   */
  async *through(
    open: (input: ReadableStream<Uint8Array>) => ReadableStream<Buffer>,
    reasonOf: (error: unknown) => unknown = (error) => error,
  ): AsyncGenerator<Buffer, undefined> {
    const input = new ReadableStream<Uint8Array>(
      { pull: (controller) => (this.#pulling = this.#supply(controller)) },
      { highWaterMark: 0 },
    )
    const output = open(input).getReader()
    try {
      for (;;) {
        const { done, value } = await output.read()
        if (done) break
        yield value
      }
    } catch (error) {
      throw this.#error ?? reasonOf(error)
    } finally {
      this.#isOver = true
      await output.cancel().catch(() => {})
      await this.#pulling
    }
  }

  async #supply(controller: ReadableStreamDefaultController<Uint8Array>): Promise<void> {
    try {
      const piece = this.#isOver ? undefined : await this.#next(pieceBytes)
      if (piece) controller.enqueue(piece)
      else controller.close()
    } catch (error) {
      this.#error = error
      controller.error(error)
    }
  }
}
