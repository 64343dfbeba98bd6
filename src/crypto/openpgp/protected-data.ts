/**
 * Integrity-protected data of version 1 (RFC 9580, 5.13.1), which every OpenPGP program reads:
 *
 *     body  := version 1, plain text encrypted in CFB with an initial vector of zeros
 *     plain := one block of random bytes, its last two bytes again, packets, 0xD3 0x14, SHA-1 of all before it
 */
import { setImmediate } from 'node:timers/promises'
import {
  type Cipheriv,
  createCipheriv,
  createDecipheriv,
  createHash,
  randomFillSync,
  timingSafeEqual,
} from 'node:crypto'
import { ByteReader } from '../../primitives/byte-reader.ts'
import { WalrxError } from '../../primitives/errors.ts'
import { turnBytes, type SessionCipher } from './session-cipher.ts'

/** Bytes of the packet at the end, with the SHA-1. */
export const checkBytes = 22

const checkHeader = Buffer.from([0xd3, 0x14])

/** Bytes that are decrypted at a time. */
const sliceBytes = 64 * 1024

/** Encrypts the plain text of one object. */
export class ProtectedWriter {
  readonly #cipher: Cipheriv
  readonly #hash = createHash('sha1')
  /** The encrypted bytes that come first: a block and two bytes. */
  readonly beginning: Buffer

  constructor({ blockBytes, node }: SessionCipher, key: Uint8Array) {
    this.#cipher = createCipheriv(node, key, Buffer.alloc(blockBytes))
    const random = randomFillSync(Buffer.alloc(blockBytes))
    this.beginning = this.encrypt(Buffer.concat([random, random.subarray(-2)]))
  }

  /** Encrypts the next bytes; the result has as many. */
  encrypt(plain: Uint8Array): Buffer {
    this.#hash.update(plain)
    return this.#cipher.update(plain)
  }

  /** The encrypted bytes that come last: {@link checkBytes}. */
  end(): Buffer {
    const check = this.#hash.update(checkHeader).digest()
    return Buffer.concat([this.#cipher.update(checkHeader), this.#cipher.update(check), this.#cipher.final()])
  }
}

/**
 * The packets inside of the data. Whatever is in the last 64 KiB comes out only after the check, so that no object passes as
 * complete before it; smaller ones come out only when they are checked.
 * @param body what follows after the version
 * @throws while iterating: WALRX_OBJECT_DAMAGED for bytes that are changed or missing
 */
export async function* openProtected(
  body: AsyncIterable<Uint8Array>,
  { blockBytes, node }: SessionCipher,
  key: Uint8Array,
): AsyncGenerator<Uint8Array, undefined> {
  const reader = new ByteReader(body, 'encrypted data')
  const decipher = createDecipheriv(node, key, Buffer.alloc(blockBytes))
  const hash = createHash('sha1')
  hash.update(decipher.update(await reader.read(blockBytes + 2)))
  const slice = Buffer.allocUnsafeSlow(sliceBytes)
  let held = Buffer.alloc(0)
  for (let turn = sliceBytes; ; turn += sliceBytes) {
    const length = await reader.readUpTo(slice)
    const plain = decipher.update(slice.subarray(0, length))
    if (length < sliceBytes) {
      const rest = Buffer.concat([held, plain])
      if (rest.length < checkBytes) throw reader.cutShort()
      const packets = rest.subarray(0, -checkBytes)
      const check = Buffer.concat([checkHeader, hash.update(packets).update(checkHeader).digest()])
      if (!timingSafeEqual(check, rest.subarray(-checkBytes))) throw changed()
      if (packets.length > 0) yield packets
      return
    }
    if (held.length > 0) {
      hash.update(held)
      yield held
    }
    held = plain
    if (turn % turnBytes === 0) await setImmediate()
  }
}

function changed(): WalrxError {
  return new WalrxError(
    'WALRX_OBJECT_DAMAGED',
    'the encrypted object is changed: the SHA-1 at its end is not that of its content',
  )
}
