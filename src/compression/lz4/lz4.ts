/**
 * lz4 frames around the block functions of `lz4-napi` (lz4_flex), which run in the libuv pool. Its own frame functions
 * handle only whole objects. Block by block, both directions need memory for one block only; walrx computes the
 * checksums itself.
 *
 * Written: one frame of independent blocks of 256 KiB (64 KiB for small input), with a content checksum. WAL-G's blocks
 * have 4 MiB. Measured on WAL of pgbench and others: with 1 MiB the objects are 0.1 to 0.3 % larger than with 4 MiB,
 * with 256 KiB 0.2 to 1.4 %, with 64 KiB 0.9 to 6 %, at the same CPU time. The native module has an allocator of its
 * own that gives little back: over 120 segments, two at a time, it took 12 MB beside the segments' buffers with 256
 * KiB, 30 with 1 MiB and 90 with 4 MiB; of incompressible bytes 125, 300 and 980 MB. Read: one frame of any block size,
 * linked or independent, after skippable ones.
 */
import { WalrxError } from '../../primitives/errors.ts'
import { ByteReader } from '../../primitives/byte-reader.ts'
import type { WriteCodec } from '../codec.ts'
import { GeneratorDuplex } from '../generator-duplex.ts'
import { PrefixWriter } from '../in-place.ts'
import { beginsLz4Frame, encodeLz4Header, lz4BlockCode, type Lz4Frame, readLz4Header, storedFlag } from './lz4-frame.ts'
import { XxHash32, xxHash32 } from './xxhash32.ts'

/** How far back a linked block may refer, in bytes. */
const historyBytes = 64 * 1024

/** Input per written block, in bytes: a block size of the format. */
const blockBytes = 256 * 1024

/** The functions of `lz4-napi` in use. For both, a block comes after the u32 length of its decoded bytes. */
interface Lz4Native {
  compress(data: Uint8Array): Promise<Buffer>
  uncompress(data: Uint8Array, dictionary?: Uint8Array): Promise<Buffer>
}

/** Loads the native module with the first block: an unused codec costs nothing. */
async function native(): Promise<Lz4Native> {
  const module: Lz4Native = await import('lz4-napi')
  return module
}

/** The lz4 codec; it has no levels. */
export function lz4Codec(): WriteCodec {
  return {
    method: 'lz4',
    extension: 'lz4',
    begins: beginsLz4Frame,
    encoder: () => new GeneratorDuplex(encode),
    decoder: () => new GeneratorDuplex(decode),
    encodeInPlace,
  }
}

async function encodeInPlace(buffer: Buffer, length: number): Promise<number> {
  const lz4 = await native()
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
  const lz4 = await native()
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

/** Frees what the native module has allocated (a tenth more than the input) now instead of at some later collection. */
function release(block: Buffer): void {
  if (block.buffer instanceof ArrayBuffer && block.buffer.byteLength === block.length) block.buffer.transfer(0)
}

async function* decode(source: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array, undefined> {
  const reader = new ByteReader(source, 'lz4 stream')
  try {
    const frame = await readLz4Header(reader)
    const checksum = frame.hasContentChecksum ? new XxHash32() : undefined
    let size = 0
    for await (const block of blocks(reader, frame)) {
      checksum?.update(block)
      size += block.length
      yield block
    }
    if (checksum) checkSum('content', (await reader.read(4)).readUInt32LE(0), checksum.digest())
    if (frame.contentSize !== undefined && frame.contentSize !== size) {
      throw damaged(`the lz4 stream decodes to ${size} bytes instead of the ${frame.contentSize} in its header`)
    }
    await reader.expectEnd()
  } finally {
    await reader.close()
  }
}

/** The decoded blocks, up to and without the end mark. */
async function* blocks(reader: ByteReader, frame: Lz4Frame): AsyncGenerator<Buffer, undefined> {
  const lz4 = await native()
  let history: Buffer = Buffer.alloc(0)
  for (;;) {
    const header = (await reader.read(4)).readUInt32LE(0)
    if (header === 0) return
    const isRaw = header >= storedFlag
    const stored = isRaw ? header - storedFlag : header
    if (stored > frame.blockBytesMax) {
      throw damaged(`an lz4 block has ${stored} bytes in a frame of ${frame.blockBytesMax} byte blocks`)
    }
    // Space in front for the length that the native function needs: an upper bound is enough.
    const block = await reader.readInto(Buffer.allocUnsafe(4 + stored), 4)
    if (frame.hasBlockChecksums) checkSum('block', (await reader.read(4)).readUInt32LE(0), xxHash32(block.subarray(4)))
    block.writeUInt32LE(frame.blockBytesMax, 0)
    const decoded = isRaw ? block.subarray(4) : await decodeBlock(lz4, block, history)
    if (!frame.hasIndependentBlocks) history = tail(history, decoded)
    yield decoded
  }
}

async function decodeBlock(lz4: Lz4Native, block: Buffer, history: Buffer): Promise<Buffer> {
  try {
    return await (history.length > 0 ? lz4.uncompress(block, history) : lz4.uncompress(block))
  } catch (error) {
    throw damaged(`an lz4 block cannot be decoded: ${(error as Error).message}`, error)
  }
}

/** A copy of the last {@link historyBytes} decoded bytes: the blocks belong to the reader. */
function tail(history: Buffer, decoded: Buffer): Buffer {
  const kept = decoded.length >= historyBytes ? 0 : Math.min(history.length, historyBytes - decoded.length)
  const fresh = decoded.subarray(Math.max(0, decoded.length - historyBytes))
  return Buffer.concat([history.subarray(history.length - kept), fresh])
}

function checkSum(of: string, stored: number, computed: number): void {
  if (stored === computed) return
  const hex = (value: number) => `0x${value.toString(16).padStart(8, '0')}`
  throw damaged(`an lz4 ${of} has checksum ${hex(computed)} instead of ${hex(stored)}`)
}

function damaged(message: string, cause?: unknown): WalrxError {
  return new WalrxError('WALRX_OBJECT_DAMAGED', message, cause === undefined ? {} : { cause })
}
