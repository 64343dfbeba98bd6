/**
 * Headers of OpenPGP packets (RFC 9580, 4.2): one byte with the type, then the length of the body.
 *
 *     new format: 11tttttt, length of 1, 2 or 5 bytes; 224 to 254 is a partial length: the body goes on after 2^(n & 31) bytes,
 *                 with another length
 *     old format: 10ttttll, length of 1, 2 or 4 bytes; for ll = 3 the body has no length: it ends with what it lies in
 */
import type { ByteReader } from '../../primitives/byte-reader.ts'
import { WalrxError } from '../../primitives/errors.ts'

/** Types of packets that walrx knows by name (RFC 9580, 5). */
export const packetTypes = {
  publicKeySessionKey: 1,
  signature: 2,
  symmetricKeySessionKey: 3,
  onePassSignature: 4,
  compressed: 8,
  encryptedUnprotected: 9,
  marker: 10,
  literal: 11,
  encrypted: 18,
  aeadEncrypted: 20,
  padding: 21,
} as const

/** The length of a packet's body, or of the next part of it. */
export interface BodyLength {
  /** Infinity where the body ends with what it lies in. */
  readonly bytes: number
  /** True where another length follows after these bytes. */
  readonly isPartial: boolean
}

/** A packet's header. */
export interface PacketHeader extends BodyLength {
  /** See {@link packetTypes}. */
  readonly type: number
}

/**
 * Reads the header of the next packet; undefined at the end of the source.
 * @throws WALRX_OBJECT_DAMAGED for what is no header
 */
export async function readPacketHeader(reader: ByteReader): Promise<PacketHeader | undefined> {
  if (!(await reader.peek())) return undefined
  const at = reader.offset
  const tag = (await reader.read(1)).readUInt8()
  if (tag < 0x80) throw new WalrxError('WALRX_OBJECT_DAMAGED', `no OpenPGP packet begins at byte ${at}`)
  if (tag >= 0xc0) return { type: tag & 0x3f, ...(await readNewLength(reader)) }
  const type = (tag >> 2) & 0x0f
  const lengthBytes = 1 << (tag & 3)
  if (lengthBytes === 8) return { type, bytes: Infinity, isPartial: false }
  return { type, bytes: (await reader.read(lengthBytes)).readUIntBE(0, lengthBytes), isPartial: false }
}

async function readNewLength(reader: ByteReader): Promise<BodyLength> {
  const first = (await reader.read(1)).readUInt8()
  if (first < 192) return { bytes: first, isPartial: false }
  if (first < 224) return { bytes: ((first - 192) << 8) + (await reader.read(1)).readUInt8() + 192, isPartial: false }
  if (first < 255) return { bytes: 2 ** (first & 0x1f), isPartial: true }
  return { bytes: (await reader.read(4)).readUInt32BE(), isPartial: false }
}

/**
 * The body of a packet as it comes. When it ends, the reader stands after the packet.
 * @throws WALRX_OBJECT_DAMAGED where the source ends inside of it
 */
export async function* packetBody(reader: ByteReader, header: BodyLength): AsyncGenerator<Uint8Array, undefined> {
  for (let length = header; ; length = await readNewLength(reader)) {
    for (let left = length.bytes; left > 0;) {
      const chunk = await reader.peek()
      if (!chunk && left === Infinity) return
      if (!chunk) throw reader.cutShort()
      const taken = reader.take(Math.min(chunk.length, left))
      left -= taken.length
      yield taken
    }
    if (!length.isPartial) return
  }
}

/** A header with a length that is known: 6 bytes. */
export function packetHeader(type: number, bytes: number): Buffer {
  const header = Buffer.alloc(6)
  header[0] = 0xc0 | type
  header[1] = 0xff
  header.writeUInt32BE(bytes, 2)
  return header
}

/** Bytes of a part in a body of partial lengths, as a power of two. */
const partPower = 16
const partBytes = 2 ** partPower

/** Frames a body whose length is not known: parts of 64 KiB, then one with an ordinary length, which may be empty. */
export class PartialBody {
  readonly #reusesPart: boolean
  #part = Buffer.allocUnsafeSlow(1 + partBytes)
  #filled = 0

  /** @param reusesPart true where a part that came out is no longer needed when the next is asked for */
  constructor(reusesPart: boolean) {
    this.#reusesPart = reusesPart
  }

  /** The last part. */
  end(): Buffer {
    const length = Buffer.alloc(5, 0xff)
    length.writeUInt32BE(this.#filled, 1)
    return Buffer.concat([length, this.#part.subarray(1, 1 + this.#filled)])
  }

  /** The parts that these bytes complete, each with its length before it. */
  *push(bytes: Uint8Array): Generator<Buffer, undefined> {
    for (let at = 0; at < bytes.length;) {
      const piece = bytes.subarray(at, at + partBytes - this.#filled)
      this.#part.set(piece, 1 + this.#filled)
      this.#filled += piece.length
      at += piece.length
      if (this.#filled < partBytes) return
      const part = this.#part
      part[0] = 0xe0 | partPower
      if (!this.#reusesPart) this.#part = Buffer.allocUnsafeSlow(1 + partBytes)
      this.#filled = 0
      yield part
    }
  }
}
