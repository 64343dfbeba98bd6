/**
 * Decodes everything that an lz4 program writes: any number of frames, one after the other, skippable ones between them
 * (LZ4 Frame Format 1.6.4, "Frame Concatenation"); blocks of any size, linked or independent, with any of the checksums;
 * and the legacy format: a magic, then blocks of 8 MiB of content, each after its u32 size, up to the end or to the magic
 * of the next frame. A legacy frame has neither end mark nor checksum, so one that is cut between two blocks decodes to
 * less without an error.
 */
import { ByteReader } from '../../primitives/byte-reader.ts'
import { WalrxError } from '../../primitives/errors.ts'
import { kindOfMagic, type Lz4Frame, readDescriptor, storedFlag } from './lz4-frame.ts'
import { type Lz4Native, lz4Native } from './lz4-native.ts'
import { XxHash32, xxHash32 } from './xxhash32.ts'

/** How far back a linked block may refer, in bytes. */
const historyBytes = 64 * 1024

/** Content of a legacy block, in bytes, and the most that it is compressed to (LZ4_COMPRESSBOUND). */
const legacyBlockBytes = 8 * 1024 * 1024
const legacyStoredMax = legacyBlockBytes + Math.floor(legacyBlockBytes / 255) + 16

/**
 * Decodes one object.
 * @throws while iterating: WALRX_OBJECT_DAMAGED; WALRX_CODEC_UNSUPPORTED for a frame that needs a dictionary
 */
export async function* decodeLz4(source: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array, undefined> {
  const reader = new ByteReader(source, 'lz4 stream')
  try {
    let frames = 0
    let magic: number | undefined = (await reader.read(4)).readUInt32LE(0)
    while (magic !== undefined) {
      const kind = kindOfMagic(magic)
      if (kind === 'skippable') await reader.skip((await reader.read(4)).readUInt32LE(0))
      else if (kind === undefined) throw frames === 0 ? noFrame(magic) : reader.trailing(4)
      else frames++
      if (kind === 'frame') yield* frameContent(reader)
      magic = kind === 'legacy' ? yield* legacyContent(reader) : await nextField(reader)
    }
    if (frames === 0) throw reader.cutShort()
  } finally {
    await reader.close()
  }
}

/** The next four bytes; undefined at the end of the object. */
async function nextField(reader: ByteReader): Promise<number | undefined> {
  const field = Buffer.alloc(4)
  const bytes = await reader.readUpTo(field)
  if (bytes === 0) return undefined
  if (bytes < 4) throw reader.trailing(bytes)
  return field.readUInt32LE(0)
}

/** The content of a frame after its magic. */
async function* frameContent(reader: ByteReader): AsyncGenerator<Uint8Array, undefined> {
  const frame = await readDescriptor(reader)
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
}

/** The decoded blocks, up to and without the end mark. */
async function* blocks(reader: ByteReader, frame: Lz4Frame): AsyncGenerator<Buffer, undefined> {
  const lz4 = await lz4Native()
  let history: Buffer = Buffer.alloc(0)
  for (;;) {
    const header = (await reader.read(4)).readUInt32LE(0)
    if (header === 0) return
    const isRaw = header >= storedFlag
    const stored = isRaw ? header - storedFlag : header
    if (stored > frame.blockBytesMax) {
      throw damaged(`an lz4 block has ${stored} bytes in a frame of ${frame.blockBytesMax} byte blocks`)
    }
    const block = await readBlock(reader, stored, frame.blockBytesMax)
    if (frame.hasBlockChecksums) checkSum('block', (await reader.read(4)).readUInt32LE(0), xxHash32(block.subarray(4)))
    const decoded = isRaw ? block.subarray(4) : await decodeBlock(lz4, block, history)
    if (!frame.hasIndependentBlocks) history = tail(history, decoded)
    yield decoded
  }
}

/** The content of a legacy frame after its magic. @returns the magic of the next frame; undefined at the end */
async function* legacyContent(reader: ByteReader): AsyncGenerator<Uint8Array, number | undefined> {
  const lz4 = await lz4Native()
  const none = Buffer.alloc(0)
  for (;;) {
    const stored = await nextField(reader)
    if (stored === undefined || kindOfMagic(stored) !== undefined) return stored
    if (stored === 0 || stored > legacyStoredMax) {
      throw damaged(`an lz4 block of the legacy format has ${stored} bytes, not 1 to ${legacyStoredMax}`)
    }
    yield await decodeBlock(lz4, await readBlock(reader, stored, legacyBlockBytes), none)
  }
}

/** Reads a block after the length that the native function needs, for which an upper bound is enough. */
async function readBlock(reader: ByteReader, stored: number, decodedMax: number): Promise<Buffer> {
  const block = await reader.readInto(Buffer.allocUnsafe(4 + stored), 4)
  block.writeUInt32LE(decodedMax, 0)
  return block
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
  if (stored !== computed) throw damaged(`an lz4 ${of} has checksum ${hex(computed)} instead of ${hex(stored)}`)
}

function noFrame(magic: number): WalrxError {
  return damaged(`not an lz4 frame: it begins with ${hex(magic)} instead of 0x184d2204`)
}

const hex = (value: number): string => `0x${value.toString(16).padStart(8, '0')}`

function damaged(message: string, cause?: unknown): WalrxError {
  return new WalrxError('WALRX_OBJECT_DAMAGED', message, cause === undefined ? {} : { cause })
}
