/**
 * DARE 2.0, the format of github.com/minio/sio, in which WAL-G encrypts with a key of 32 bytes (DARE.md and dare.go there):
 *
 *     stream  := package+                     no package for no content
 *     package := header payload tag
 *     header  := version (1 byte, 0x20)
 *                cipher (1): 0 AES-256-GCM, 1 ChaCha20-Poly1305
 *                length of the payload - 1 (2, little-endian)
 *                nonce (12): random, the same in each package of a stream, but for the top bit of its first byte:
 *                1 in the last package, 0 in all others
 *     payload := 1 to 65536 bytes; exactly 65536 in each package but the last
 *     tag     := 16 bytes, over the payload and over version, cipher and length
 *
 * Package number i, from 0, is encrypted with the nonce in its header, whose last 4 bytes are XORed with i, little-endian. So no
 * package can be changed, dropped, repeated or moved, and the end cannot be cut off or continued.
 *
 * sio writes AES-256-GCM where the CPU has instructions for it, else ChaCha20-Poly1305, and reads both. Here AES-256-GCM is
 * written. DARE 1.0 has no mark of the end, and no WAL-G has written it: sio has written 2.0 since 2018, and WAL-G has
 * encrypted with it since 2019. It is refused by its name.
 */
import {
  type CipherGCM,
  type CipherGCMTypes,
  createCipheriv,
  createDecipheriv,
  type DecipherGCM,
  type KeyObject,
  randomBytes,
} from 'node:crypto'
import { setImmediate } from 'node:timers/promises'
import type { ByteReader } from '../../primitives/byte-reader.ts'
import { WalrxError } from '../../primitives/errors.ts'

/** Bytes of a package's header. */
export const headerBytes = 16

/** Bytes of content in each package but the last. */
export const payloadBytes = 65536

const tagBytes = 16
const packageBytes = headerBytes + payloadBytes + tagBytes
const nonceBytes = 12
const version10 = 0x10
const version20 = 0x20
const finalBit = 0x80

/** Content that is encrypted or decrypted without a pause, in bytes: half a millisecond. */
const turnBytes = 16 * payloadBytes

/** The ciphers by their numbers. Node's types have no ChaCha20-Poly1305 of their own: it takes the same calls. */
const ciphers = ['aes-256-gcm', 'chacha20-poly1305' as CipherGCMTypes] as const

/** The number of a cipher in a header. */
export type DareCipher = 0 | 1

/** How a stream is encrypted; for tests, which compare with what sio writes. */
export interface DareOptions {
  readonly cipher?: DareCipher
  /** 12 bytes; its top bit does not count. */
  readonly nonce?: Buffer
}

/** True where a stream may begin with these bytes: {@link headerBytes} of them. */
export function beginsDare(header: Buffer): boolean {
  if (header.length < headerBytes || (header[1] ?? 2) >= ciphers.length) return false
  if (header[0] === version10) return header.readUInt32LE(4) === 0
  return header[0] === version20 && (isFinal(header) || payloadLength(header) === payloadBytes)
}

/** Bytes of a stream with `size` bytes of content. */
export function dareBytes(size: number): number {
  return size + Math.ceil(size / payloadBytes) * (headerBytes + tagBytes)
}

/** The content of a stream, which ends with the source. Throws as {@link Crypter.decrypt} does. */
export async function* openDare(reader: ByteReader, key: KeyObject): AsyncGenerator<Buffer, undefined> {
  const buffer = Buffer.allocUnsafeSlow(packageBytes)
  const header = buffer.subarray(0, headerBytes)
  const first = Buffer.alloc(headerBytes)
  let isLast = false
  for (let index = 0; !isLast; index++) {
    if (!(await reader.peek())) throw reader.cutShort()
    await reader.readInto(header)
    if (index === 0) header.copy(first)
    isLast = checkHeader(header, first, reader.offset - headerBytes)
    const size = payloadLength(header)
    await reader.readInto(buffer.subarray(0, headerBytes + size + tagBytes), headerBytes)
    const content = openPackage(buffer, size, index, key)
    if (!content) throw changed(`package ${index} ends wrong`, reader.offset)
    yield content
    if (((index + 1) * payloadBytes) % turnBytes === 0) await setImmediate()
  }
  await reader.expectEnd()
}

/** Encrypts content as a stream. Throws WALRX_INTERNAL for none: that would look like a stream that is cut. */
export async function* sealDare(
  content: AsyncIterable<Uint8Array>,
  key: KeyObject,
  options: DareOptions = {},
): AsyncGenerator<Buffer, undefined> {
  const stream = new DareSeal(key, options)
  const payload = Buffer.allocUnsafeSlow(payloadBytes)
  let filled = 0
  for await (const piece of content) {
    for (let at = 0; at < piece.length;) {
      // Not before there is more: the last package has a mark.
      if (filled === payloadBytes) {
        yield stream.seal(payload, false)
        filled = 0
        if (stream.isTurnOver) await setImmediate()
      }
      const bytes = piece.subarray(at, at + payloadBytes - filled)
      payload.set(bytes, filled)
      filled += bytes.length
      at += bytes.length
    }
  }
  if (filled === 0) throw noContent()
  yield stream.seal(payload.subarray(0, filled), true)
}

/**
 * Encrypts `buffer[0, length)` in its own buffer, as a stream in `buffer[start, start + dareBytes(length))`. It goes from the last
 * package to the first: each moves towards the end, where nothing is left to be read. Throws as {@link sealDare} does.
 */
export async function sealDareInPlace(buffer: Buffer, length: number, start: number, key: KeyObject): Promise<void> {
  if (length === 0) throw noContent()
  const count = Math.ceil(length / payloadBytes)
  const stream = new DareSeal(key, {})
  for (let index = count - 1; index >= 0; index--) {
    const at = index * payloadBytes
    const content = buffer.subarray(at, Math.min(length, at + payloadBytes))
    stream.sealInto(buffer.subarray(start + index * packageBytes), content, index, index === count - 1)
    if (stream.isTurnOver) await setImmediate()
  }
}

/** Encrypts the packages of one stream. */
class DareSeal {
  readonly #key: KeyObject
  readonly #cipher: DareCipher
  readonly #nonce: Buffer
  #sealed = 0

  constructor(key: KeyObject, { cipher = 0, nonce = randomBytes(nonceBytes) }: DareOptions) {
    this.#key = key
    this.#cipher = cipher
    this.#nonce = nonce
  }

  /** True once for each {@link turnBytes}. */
  get isTurnOver(): boolean {
    return (this.#sealed * payloadBytes) % turnBytes === 0
  }

  /** The next package. */
  seal(payload: Buffer, isLast: boolean): Buffer {
    const output = Buffer.allocUnsafeSlow(headerBytes + payload.length + tagBytes)
    this.sealInto(output, payload, this.#sealed, isLast)
    return output
  }

  /** Writes package number `index` to the beginning of `output`, which may overlap the payload. */
  sealInto(output: Buffer, payload: Buffer, index: number, isLast: boolean): void {
    const header = Buffer.alloc(headerBytes)
    header[0] = version20
    header[1] = this.#cipher
    header.writeUInt16LE(payload.length - 1, 2)
    this.#nonce.copy(header, 4)
    header[4] = ((header[4] ?? 0) & ~finalBit) | (isLast ? finalBit : 0)
    const name = ciphers[this.#cipher] as CipherGCMTypes
    const cipher: CipherGCM = createCipheriv(name, this.#key, packageNonce(header, index), { authTagLength: tagBytes })
    cipher.setAAD(header.subarray(0, 4))
    const encrypted = cipher.update(payload)
    cipher.final()
    header.copy(output)
    encrypted.copy(output, headerBytes)
    cipher.getAuthTag().copy(output, headerBytes + encrypted.length)
    this.#sealed++
  }
}

/**
 * True for the header of the last package.
 * @param first header of the stream
 * @param offset of the header, for messages
 */
function checkHeader(header: Buffer, first: Buffer, offset: number): boolean {
  if (header[0] === version10) {
    throw new WalrxError('WALRX_CODEC_UNSUPPORTED', 'is encrypted in DARE 1.0, which has no mark of its end', {
      hint: 'no WAL-G has written DARE 1.0: find out where the object comes from',
    })
  }
  if (header[0] !== version20 || header[1] !== first[1] || (header[1] ?? 2) >= ciphers.length) {
    throw changed('a package begins wrong', offset)
  }
  const isLast = isFinal(header)
  if (!isLast && payloadLength(header) !== payloadBytes) throw changed('a package is too short', offset)
  const [nonce, other] = [Buffer.from(header.subarray(4)), Buffer.from(first.subarray(4))]
  for (const each of [nonce, other]) each[0] = (each[0] ?? 0) | finalBit
  if (!nonce.equals(other)) throw changed('a package is of another object', offset)
  return isLast
}

/** The content of a package; undefined where it is not authentic. */
function openPackage(buffer: Buffer, size: number, index: number, key: KeyObject): Buffer | undefined {
  const end = headerBytes + size
  const name = ciphers[buffer[1] as DareCipher] as CipherGCMTypes
  const nonce = packageNonce(buffer, index)
  const decipher: DecipherGCM = createDecipheriv(name, key, nonce, { authTagLength: tagBytes })
  decipher.setAAD(buffer.subarray(0, 4))
  decipher.setAuthTag(buffer.subarray(end, end + tagBytes))
  const content = decipher.update(buffer.subarray(headerBytes, end))
  try {
    decipher.final()
  } catch {
    return undefined
  }
  return content
}

function packageNonce(header: Buffer, index: number): Buffer {
  const nonce = Buffer.from(header.subarray(4, headerBytes))
  nonce.writeUInt32LE((nonce.readUInt32LE(8) ^ index) >>> 0, 8)
  return nonce
}

function isFinal(header: Buffer): boolean {
  return ((header[4] ?? 0) & finalBit) !== 0
}

function payloadLength(header: Buffer): number {
  return header.readUInt16LE(2) + 1
}

function changed(what: string, offset: number): WalrxError {
  return new WalrxError('WALRX_OBJECT_DAMAGED', `the encrypted object is changed: ${what} at byte ${offset}`)
}

function noContent(): WalrxError {
  return new WalrxError('WALRX_INTERNAL', "an object without content has no form that AWS KMS's envelope could prove")
}
