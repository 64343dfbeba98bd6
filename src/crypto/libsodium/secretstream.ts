/**
 * libsodium's secretstream (crypto_secretstream_xchacha20poly1305) in WAL-G's chunks (internal/crypto/libsodium/writer.go):
 *
 *     object := header (24 bytes) chunk*
 *     chunk  := 1 encrypted byte of tag, up to 8192 of content, 16 of authentication
 *
 * Every chunk but the last has 8192 bytes of content and the tag 0 (MESSAGE). The last has the tag 3 (FINAL) and fewer bytes,
 * none where the content is a multiple of 8192 bytes long: WAL-G's reader refuses a full chunk with FINAL.
 */
import { createCipheriv } from 'node:crypto'
import { WalrxError } from '../../primitives/errors.ts'
import { ByteReader } from '../../primitives/byte-reader.ts'
import type { Crypter, Recognised } from '../crypter.ts'
import { loadSodium, type Sodium } from './sodium.ts'

/** Bytes of a key. */
export const keyBytes = 32

const headerBytes = 24
const contentBytes = 8192
const chunkBytes = contentBytes + 17
const tagMessage = 0
const tagFinal = 3

/** Content that is encrypted without a pause, in bytes: a quarter of a millisecond. */
const turnBytes = 32 * contentBytes

/**
 * A crypter by one key of libsodium.
 * @param key {@link keyBytes} bytes, in memory of {@link Sodium.sodium_malloc}
 * @param label see {@link Crypter.label}
 */
export async function secretstreamCrypter(key: Buffer, label: string): Promise<Crypter> {
  return new Secretstream(await loadSodium(), key, label)
}

class Secretstream implements Crypter {
  readonly method = 'libsodium'
  readonly canDecrypt = true
  readonly headBytes = headerBytes + chunkBytes
  readonly label: string
  readonly #sodium: Sodium
  readonly #key: Buffer

  constructor(sodium: Sodium, key: Buffer, label: string) {
    this.#sodium = sodium
    this.#key = key
    this.label = label
  }

  recognise(head: Buffer): Promise<Recognised> {
    if (head.length < headerBytes + 17) return Promise.resolve('other key')
    const state = this.#pullState(head.subarray(0, headerBytes))
    const chunk = head.subarray(headerBytes, headerBytes + chunkBytes)
    return Promise.resolve(this.#pull(state, Buffer.alloc(contentBytes), chunk) === undefined ? 'other key' : 'opens')
  }

  /**
   * libsodium's state begins with the key of the stream (32 bytes) and the nonce (12). ChaCha20's block 1 encrypts the tag, the
   * blocks from 2 on encrypt the content (secretstream_xchacha20poly1305.c).
   */
  peek(head: Buffer): Buffer | undefined {
    const content = head.subarray(headerBytes + 1, headerBytes + 1 + contentBytes)
    if (content.length === 0) return undefined
    const state = this.#pullState(head.subarray(0, headerBytes))
    const counterAndNonce = Buffer.concat([Buffer.from([2, 0, 0, 0]), state.subarray(32, 44)])
    return createCipheriv('chacha20', state.subarray(0, 32), counterAndNonce).update(content)
  }

  async *decrypt(stored: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array, undefined> {
    const reader = new ByteReader(stored, 'encrypted object')
    try {
      const state = this.#pullState(await reader.read(headerBytes))
      const chunk = Buffer.allocUnsafeSlow(chunkBytes)
      for (;;) {
        const length = await reader.readUpTo(chunk)
        if (length === 0) throw reader.cutShort()
        const content = Buffer.allocUnsafe(Math.max(0, length - 17))
        const tag = length < 17 ? undefined : this.#pull(state, content, chunk.subarray(0, length))
        if (tag === undefined) {
          throw new WalrxError(
            'WALRX_OBJECT_DAMAGED',
            `the encrypted object is changed or cut before byte ${reader.offset}`,
          )
        }
        if (content.length > 0) yield content
        if (tag === tagFinal) break
      }
      await reader.expectEnd()
    } finally {
      await reader.close()
    }
  }

  async *encrypt(content: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array, undefined> {
    const { state, header } = this.#pushState()
    yield header
    const rest = Buffer.allocUnsafeSlow(contentBytes)
    let kept = 0
    for await (const piece of content) {
      const whole = Math.floor((kept + piece.length) / contentBytes)
      let at = 0
      if (whole > 0) {
        const output = Buffer.allocUnsafe(whole * chunkBytes)
        for (let index = 0; index < whole; index++) {
          const bytes = piece.subarray(at, at + contentBytes - kept)
          rest.set(bytes, kept)
          at += bytes.length
          kept = 0
          const target = output.subarray(index * chunkBytes, (index + 1) * chunkBytes)
          this.#sodium.crypto_secretstream_xchacha20poly1305_push(state, target, rest, null, tagMessage)
        }
        yield output
      }
      rest.set(piece.subarray(at), kept)
      kept += piece.length - at
    }
    const last = Buffer.allocUnsafe(kept + 17)
    this.#sodium.crypto_secretstream_xchacha20poly1305_push(state, last, rest.subarray(0, kept), null, tagFinal)
    yield last
  }

  async encryptInPlace(buffer: Buffer, length: number): Promise<number> {
    const { state, header } = this.#pushState()
    // From the end of the buffer, so that what is written never overtakes what is read.
    const start = buffer.length - length
    buffer.copyWithin(start, 0, length)
    header.copy(buffer)
    const content = Buffer.allocUnsafeSlow(contentBytes)
    let written = headerBytes
    for (let at = 0, isLast = false; !isLast;) {
      const end = Math.min(length, at + contentBytes)
      isLast = end - at < contentBytes
      buffer.copy(content, 0, start + at, start + end)
      const target = buffer.subarray(written, written + end - at + 17)
      const message = content.subarray(0, end - at)
      this.#sodium.crypto_secretstream_xchacha20poly1305_push(
        state,
        target,
        message,
        null,
        isLast ? tagFinal : tagMessage,
      )
      written += target.length
      at = end
      if (at % turnBytes === 0) await new Promise((resolve) => setImmediate(resolve))
    }
    return written
  }

  #pushState(): { state: Buffer; header: Buffer } {
    const state = Buffer.alloc(this.#sodium.crypto_secretstream_xchacha20poly1305_STATEBYTES)
    const header = Buffer.alloc(headerBytes)
    this.#sodium.crypto_secretstream_xchacha20poly1305_init_push(state, header, this.#key)
    return { state, header }
  }

  #pullState(header: Buffer): Buffer {
    const state = Buffer.alloc(this.#sodium.crypto_secretstream_xchacha20poly1305_STATEBYTES)
    this.#sodium.crypto_secretstream_xchacha20poly1305_init_pull(state, header, this.#key)
    return state
  }

  /** The tag of a chunk; undefined for one that is not authentic. */
  #pull(state: Buffer, content: Buffer, chunk: Buffer): number | undefined {
    const tag = Buffer.alloc(1)
    try {
      const target = content.subarray(0, chunk.length - 17)
      this.#sodium.crypto_secretstream_xchacha20poly1305_pull(state, target, tag, chunk, null)
    } catch {
      return undefined
    }
    return tag[0]
  }
}
