/**
 * Headers of lz4 frames (LZ4 Frame Format 1.6.4): magic, FLG, BD, optional content size, optional dictionary id, header
 * checksum; then blocks, each after a u32 size (top bit set: stored uncompressed); a size of 0 ends them; then an
 * optional checksum of the content. All little-endian.
 */
import { WalrxError } from '../../primitives/errors.ts'
import type { ByteReader } from '../../primitives/byte-reader.ts'
import { xxHash32 } from './xxhash32.ts'

/** Set in a block's size field when the block is stored uncompressed. */
export const storedFlag = 0x80000000

/** Largest block of a frame by the code in BD: 64 KiB, 256 KiB, 1 MiB, 4 MiB. */
const blockBytesByCode: ReadonlyMap<number, number> = new Map([
  [4, 64 * 1024],
  [5, 256 * 1024],
  [6, 1024 * 1024],
  [7, 4 * 1024 * 1024],
])

const magic = 0x184d2204
const legacyMagic = 0x184c2102
const skippableMagicMin = 0x184d2a50
const skippableMagicMax = 0x184d2a5f

/** The content of a frame's header. */
export interface Lz4Frame {
  /** False when a block may refer to the 64 KiB of output before it. */
  readonly hasIndependentBlocks: boolean
  readonly hasBlockChecksums: boolean
  readonly hasContentChecksum: boolean
  readonly contentSize: number | undefined
  /** The most bytes of a decoded block. */
  readonly blockBytesMax: number
}

/**
 * The header that walrx writes: independent blocks, content checksum, no block checksums (pierrec/lz4 up to 4.1.21, in
 * WAL-G up to 3.0.8, checks those against the wrong bytes), no content size.
 * @param blockCode 4 to 7, see the table of block sizes
 */
export function encodeLz4Header(blockCode: number): Buffer {
  const header = Buffer.alloc(7)
  header.writeUInt32LE(magic, 0)
  header.writeUInt8(0x64, 4) // version 01, independent blocks, content checksum
  header.writeUInt8(blockCode << 4, 5)
  header.writeUInt8(headerChecksum(header.subarray(4, 6)), 6)
  return header
}

/** The code of the smallest block size of at least `length` bytes; 7 when none is that large. */
export function lz4BlockCode(length: number): number {
  for (const [code, bytes] of blockBytesByCode) if (length <= bytes) return code
  return 7
}

/** What a magic number begins; undefined for any other number. */
export function kindOfMagic(found: number): 'frame' | 'legacy' | 'skippable' | undefined {
  if (found === magic) return 'frame'
  if (found === legacyMagic) return 'legacy'
  return found >= skippableMagicMin && found <= skippableMagicMax ? 'skippable' : undefined
}

/** True for the first bytes of a frame, in whatever format. */
export function beginsLz4Frame(head: Buffer): boolean {
  return head.length >= 4 && kindOfMagic(head.readUInt32LE(0)) !== undefined
}

/**
 * Reads the rest of a frame's header, after its magic.
 * @throws WALRX_OBJECT_DAMAGED; WALRX_CODEC_UNSUPPORTED for dictionaries
 */
export async function readDescriptor(reader: ByteReader): Promise<Lz4Frame> {
  const start = await reader.read(2)
  const flags = start.readUInt8(0)
  const blockDescriptor = start.readUInt8(1)
  const sizeField = (flags & 0x08) !== 0 ? await reader.read(8) : Buffer.alloc(0)
  const dictionaryField = (flags & 0x01) !== 0 ? await reader.read(4) : Buffer.alloc(0)
  const checksum = (await reader.read(1)).readUInt8(0)
  const expected = headerChecksum(Buffer.concat([start, sizeField, dictionaryField]))
  if (checksum !== expected) throw damaged(`the header of an lz4 frame has checksum ${checksum} instead of ${expected}`)
  const blockBytesMax = blockBytesByCode.get(blockDescriptor >> 4)
  if (flags >> 6 !== 1 || (flags & 0x02) !== 0 || (blockDescriptor & 0x8f) !== 0 || blockBytesMax === undefined) {
    throw damaged(`an lz4 frame has the unknown descriptor ${start.toString('hex')}`)
  }
  if (dictionaryField.length > 0) {
    throw new WalrxError('WALRX_CODEC_UNSUPPORTED', `an lz4 frame needs dictionary ${dictionaryField.readUInt32LE(0)}`)
  }
  return {
    hasIndependentBlocks: (flags & 0x20) !== 0,
    hasBlockChecksums: (flags & 0x10) !== 0,
    hasContentChecksum: (flags & 0x04) !== 0,
    contentSize: sizeField.length > 0 ? Number(sizeField.readBigUInt64LE(0)) : undefined,
    blockBytesMax,
  }
}

function headerChecksum(descriptor: Buffer): number {
  return (xxHash32(descriptor) >>> 8) & 0xff
}

function damaged(message: string): WalrxError {
  return new WalrxError('WALRX_OBJECT_DAMAGED', message)
}
