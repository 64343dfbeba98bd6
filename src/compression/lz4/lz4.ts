/**
 * lz4 frames around the block functions of `lz4-napi` (lz4_flex), which run in the libuv pool. Its own frame functions
 * handle only whole objects. Block by block, both directions need memory for one block only; walrx computes the
 * checksums itself.
 *
 * Written: one frame of independent blocks of 256 KiB (64 KiB for small input), with a content checksum. WAL-G's blocks
 * have 4 MiB. Measured on WAL of pgbench and others: with 1 MiB the objects are 0.1 to 0.3 % larger than with 4 MiB,
 * with 256 KiB 0.2 to 1.4 %, with 64 KiB 0.9 to 6 %, at the same CPU time. The native module has an allocator of its
 * own that gives little back: over 120 segments, two at a time, it took 12 MB beside the segments' buffers with 256
 * KiB, 30 with 1 MiB and 90 with 4 MiB; of incompressible bytes 125, 300 and 980 MB. Read: see lz4-decode.ts.
 */
import { ByteReader } from '../../primitives/byte-reader.ts'
import { release } from '../../primitives/release.ts'
import type { WriteCodec } from '../codec.ts'
import { GeneratorDuplex } from '../generator-duplex.ts'
import { PrefixWriter } from '../in-place.ts'
import { decodeLz4 } from './lz4-decode.ts'
import { beginsLz4Frame, encodeLz4Header, lz4BlockCode, storedFlag } from './lz4-frame.ts'
import { lz4Native } from './lz4-native.ts'
import { XxHash32 } from './xxhash32.ts'

/** Input per written block, in bytes: a block size of the format. */
const blockBytes = 256 * 1024

/** The lz4 codec; it has no levels. */
export function lz4Codec(): WriteCodec {
  return {
    method: 'lz4',
    extension: 'lz4',
    begins: beginsLz4Frame,
    encoder: () => new GeneratorDuplex(encode),
    decoder: () => new GeneratorDuplex(decodeLz4),
    encodeInPlace,
  }
}

async function encodeInPlace(buffer: Buffer, length: number): Promise<number> {
  const lz4 = await lz4Native()
  const writer = new PrefixWriter(buffer)
  const checksum = new XxHash32()
  writer.write(encodeLz4Header(lz4BlockCode(Math.min(length, blockBytes))))
  for (let offset = 0; offset < length; offset += blockBytes) {
    const piece = buffer.subarray(offset, Math.min(length, offset + blockBytes))
    const compressing = lz4.compress(piece)
    checksum.update(piece)
    const block = await compressing
    writer.write(blockHeader(piece, block))
    if (isStored(piece, block)) {
      release(block)
      writer.writeInput(offset, offset + piece.length)
    } else {
      writer.write(block.subarray(4), () => release(block))
      writer.consume(offset + piece.length)
    }
  }
  writer.write(trailer(checksum))
  return writer.finish()
}

async function* encode(source: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array, undefined> {
  const reader = new ByteReader(source, 'input')
  const lz4 = await lz4Native()
  const checksum = new XxHash32()
  let piece = await readUpTo(reader, blockBytes)
  yield encodeLz4Header(lz4BlockCode(piece.length))
  while (piece.length > 0) {
    const block = await lz4.compress(piece)
    checksum.update(piece)
    yield blockHeader(piece, block)
    yield blockBody(piece, block)
    piece = piece.length < blockBytes ? Buffer.alloc(0) : await readUpTo(reader, blockBytes)
  }
  yield trailer(checksum)
}

/** A copy of the next bytes of a source, fewer than `count` only at its end. A source may reuse its chunks. */
async function readUpTo(reader: ByteReader, count: number): Promise<Buffer> {
  const buffer = Buffer.allocUnsafeSlow(count)
  let filled = 0
  while (filled < count) {
    const chunk = await reader.peek()
    if (!chunk) break
    const piece = reader.take(Math.min(chunk.length, count - filled))
    buffer.set(piece, filled)
    filled += piece.length
  }
  return buffer.subarray(0, filled)
}

/** Stores an incompressible block uncompressed. The native block begins with a length that the frame does not have. */
const isStored = (piece: Uint8Array, block: Buffer): boolean => block.length - 4 >= piece.length

function blockHeader(piece: Uint8Array, block: Buffer): Buffer {
  const header = Buffer.alloc(4)
  header.writeUInt32LE(isStored(piece, block) ? (piece.length | storedFlag) >>> 0 : block.length - 4)
  return header
}

function blockBody(piece: Uint8Array, block: Buffer): Uint8Array {
  return isStored(piece, block) ? piece : block.subarray(4)
}

/** The end mark and the content checksum. */
function trailer(checksum: XxHash32): Buffer {
  const bytes = Buffer.alloc(8)
  bytes.writeUInt32LE(checksum.digest(), 4)
  return bytes
}
