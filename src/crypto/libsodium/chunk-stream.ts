/**
 * One object of libsodium's secretstream (crypto_secretstream_xchacha20poly1305), chunk by chunk, as WAL-G and WAL-RUS write
 * it (internal/crypto/libsodium/writer.go and reader.go; src/crypto/libsodium.rs):
 *
 *     object := header (24 bytes) chunk*
 *     chunk  := 1 encrypted byte of tag, up to 8192 of content, 16 of authentication
 *
 * Every chunk but the last has 8192 bytes of content and the tag MESSAGE. The last has the tag FINAL and fewer bytes, none
 * where the content is a multiple of 8192 bytes long.
 *
 * WAL-G's reader refuses FINAL on a full chunk ("premature end"), and nobody writes it: walrx refuses it, too. It ends
 * silently where an object ends at the end of a chunk that is not FINAL, and with it all that was cut; walrx requires FINAL.
 * The other tags, PUSH and REKEY, are authentic when somebody with the key has written them: they are read as MESSAGE is,
 * here as in WAL-G, and libsodium itself changes the key after REKEY.
 *
 * WAL-G encrypts an empty file, which only the codec none leaves empty, without a header and by no key: 17 bytes, always
 * the same, which it does not read back. walrx does not read them either: who can write to the archive could empty any
 * object with them. No object of an archive has an empty content.
 */
import { createCipheriv } from 'node:crypto'
import { WalrxError } from '../../primitives/errors.ts'
import type { Sodium } from './sodium.ts'

/** Random bytes at the beginning of an object. */
export const headerBytes = 24
/** Content of a full chunk. */
export const contentBytes = 8192
/** What a chunk is longer than its content. */
export const overheadBytes = 17
/** A full chunk. */
export const chunkBytes = contentBytes + overheadBytes

const tagMessage = 0
const tagFinal = 3

/** What a state holds opens the rest of its object: it is zeroed when the object is done. */
abstract class KeyedState {
  protected readonly sodium: Sodium
  protected readonly state: Buffer

  constructor(sodium: Sodium) {
    this.sodium = sodium
    this.state = Buffer.alloc(sodium.crypto_secretstream_xchacha20poly1305_STATEBYTES)
  }

  /** Call it when the object is done, or given up. */
  close(): void {
    this.sodium.sodium_memzero(this.state)
  }
}

/** Encrypts the chunks of one object. */
export class SealingStream extends KeyedState {
  /** What the object begins with. */
  readonly header = Buffer.alloc(headerBytes)

  constructor(sodium: Sodium, key: Buffer) {
    super(sodium)
    sodium.crypto_secretstream_xchacha20poly1305_init_push(this.state, this.header, key)
  }

  /**
   * Encrypts the next chunk into `target[offset, offset + result)`.
   * @returns bytes written
   * @throws WALRX_INTERNAL where libsodium wrote nothing: the content would be stored unencrypted
   */
  seal(content: Uint8Array, target: Buffer, offset: number, isLast: boolean): number {
    const length = content.length + overheadBytes
    const chunk = target.subarray(offset, offset + length)
    const tag = isLast ? tagFinal : tagMessage
    const written = this.sodium.crypto_secretstream_xchacha20poly1305_push(this.state, chunk, content, null, tag)
    if (written !== length) throw notDone('encrypted', written, length)
    return length
  }
}

/** Decrypts the chunks of one object. */
export class OpeningStream extends KeyedState {
  readonly #tag = Buffer.alloc(1)

  private constructor(sodium: Sodium) {
    super(sodium)
  }

  /** @param header {@link headerBytes} bytes */
  static begin(sodium: Sodium, key: Buffer, header: Uint8Array): OpeningStream {
    const stream = new OpeningStream(sodium)
    sodium.crypto_secretstream_xchacha20poly1305_init_pull(stream.state, header, key)
    return stream
  }

  /** Goes on with what {@link handOver} of a stream has given, which is zeroed here. */
  static resume(sodium: Sodium, handed: Uint8Array): OpeningStream {
    const stream = new OpeningStream(sodium)
    stream.state.set(handed)
    handed.fill(0)
    return stream
  }

  /** The state, for another thread, in memory of its own: it opens what is left of this object, and nothing else. Zero it. */
  handOver(): Uint8Array<ArrayBuffer> {
    return new Uint8Array(this.state)
  }

  /**
   * Decrypts the beginning of the first chunk's content, without authentication. libsodium's state begins with the key of the
   * stream (32 bytes) and the nonce (12). ChaCha20's block 1 encrypts the tag, the blocks from 2 on encrypt the content
   * (secretstream_xchacha20poly1305.c).
   */
  peek(content: Uint8Array): Buffer {
    const counterAndNonce = Buffer.concat([Buffer.from([2, 0, 0, 0]), this.state.subarray(32, 44)])
    return createCipheriv('chacha20', this.state.subarray(0, 32), counterAndNonce).update(content)
  }

  /**
   * Decrypts the next chunk.
   * @param chunk {@link overheadBytes} bytes at least
   * @param target {@link overheadBytes} bytes shorter; it does not change where the chunk is not authentic
   * @returns undefined for a chunk that is not authentic
   */
  open(chunk: Uint8Array, target: Buffer): 'message' | 'final' | undefined {
    let written: number | undefined
    try {
      written = this.sodium.crypto_secretstream_xchacha20poly1305_pull(this.state, target, this.#tag, chunk, null)
    } catch {
      return undefined
    }
    if (written !== target.length) throw notDone('decrypted', written, target.length)
    return this.#tag[0] === tagFinal ? 'final' : 'message'
  }
}

/** libsodium has not done what it was asked for, and has not thrown (src/crypto/libsodium/sodium.ts). */
function notDone(what: string, written: number | undefined, length: number): WalrxError {
  return new WalrxError('WALRX_INTERNAL', `libsodium has ${what} ${written ?? 'no'} bytes instead of ${length}`)
}
