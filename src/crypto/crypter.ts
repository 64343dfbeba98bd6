/**
 * The contract of encryption. A crypter is one key, or one ring of OpenPGP keys, of one method. It encrypts whole objects:
 * content in, one encrypted object out, and back. Objects are compressed first (docs/walg-format.md, 4).
 */

/** Methods of encryption, as messages call them. */
export type CryptMethod = 'libsodium' | 'OpenPGP' | 'AWS KMS'

/** What the beginning of an object says about a key. */
export type Recognised =
  /** The key opens it. */
  | 'opens'
  /** It is encrypted by this method to another key. Where a method has no mark of its own: or by another one, or not at all. */
  | 'other key'
  /** It is not of this method. */
  | 'other method'
  /** It is encrypted by this method to another key, which it names: `OpenPGP key 1A2B3C4D5E6F7081`. */
  | { readonly wants: string }

/**
 * Free bytes that {@link Crypter.encryptInPlace} needs after `size` bytes of content, by the method that adds most: libsodium
 * with 17 for each 8192, and OpenPGP with a packet for each key that it encrypts to, with room for 32 KiB of them.
 */
export function encryptSlack(size: number): number {
  return 17 * Math.ceil(size / 8192) + 32 * 1024
}

/** Options of {@link Crypter.decrypt}. */
export interface DecryptOptions {
  /** True where each chunk that came out has been used when the next one is asked for: its memory may be used again. */
  readonly reusesChunks?: boolean
}

/** Options of {@link Crypter.encrypt}. */
export interface EncryptOptions {
  /** As in {@link DecryptOptions}. A method that always makes new chunks need not look at it. */
  readonly reusesChunks?: boolean
}

/** Some decrypted bytes. */
export interface DecryptedPiece {
  readonly bytes: Uint8Array
  /** Lets the memory be used again. Call it once, when they are no longer needed. */
  free(): void
}

/** One key, or one ring of OpenPGP keys. */
export interface Crypter {
  readonly method: CryptMethod
  /** The setting that the key comes from, for messages; never any of the key: `WALG_LIBSODIUM_KEY_PATH=/etc/walrx/key`. */
  readonly label: string
  /** False for an OpenPGP ring whose keys are public, or locked by a passphrase that is not set: it only encrypts. */
  readonly canDecrypt: boolean
  /** Bytes that {@link Crypter.recognise} wants at most. */
  readonly headBytes: number

  /**
   * Whether the key opens an object. A ring that only encrypts says `opens` of what its private keys would open.
   * @param head the first bytes of it: {@link Crypter.headBytes}, or all that it has
   * @throws what stands between walrx and the key: WALRX_KEY_UNAVAILABLE; WALRX_OBJECT_DAMAGED for an object that names the key
   * and does not open; WALRX_CODEC_UNSUPPORTED for one that no key opens
   */
  recognise(head: Buffer): Promise<Recognised>

  /**
   * What the first bytes of an object hold if it is of this key: decrypted, and not authenticated. Only for the question
   * whether an object that does not open is damaged or of another key, which a method with a mark can answer without.
   * @param head as for {@link recognise}; it may be cut anywhere
   * @returns undefined for too few bytes
   */
  peek?(head: Buffer): Buffer | undefined

  /**
   * Decrypts an object that the key opens, streaming, in bounded memory.
   * @throws while iterating: what the source throws; WALRX_KEY_WRONG, and WALRX_KEY_UNAVAILABLE, as {@link recognise} has them; WALRX_OBJECT_DAMAGED for bytes that were changed, are missing at the end or
   * follow after it. No byte comes out that was not authenticated, as far as the method can
   * @returns chunks that are never changed, unless the options allow it
   */
  decrypt(stored: AsyncIterable<Uint8Array>, options?: DecryptOptions): AsyncGenerator<Uint8Array, undefined>

  /**
   * What opens this one object, and nothing else, for another thread, which then needs no key. Where it is missing, the object
   * is decrypted on this thread. Zero it when it was used.
   * @param head as for {@link recognise}, which says that the key opens it
   */
  handOver?(head: Buffer): Uint8Array<ArrayBuffer>

  /**
   * Encrypts an object, streaming. Chunks of the content may be reused once the next one is asked for.
   * @throws while iterating: what the content throws; WALRX_KEY_UNAVAILABLE, WALRX_USAGE and WALRX_OPTION_UNSUPPORTED for a key
   * that cannot encrypt
   * @returns chunks that are never changed, unless the options allow it
   */
  encrypt(content: AsyncIterable<Uint8Array>, options?: EncryptOptions): AsyncGenerator<Uint8Array, undefined>

  /**
   * Encrypts `buffer[0, length)` inside its own buffer, and never blocks the event loop for long. Calls on different buffers
   * run in parallel.
   * @param buffer at least `length + encryptSlack(length)` bytes long; contents beyond `length` are overwritten
   * @returns the length of the encrypted object, which is then `buffer[0, result)`
   * @throws WALRX_KEY_UNAVAILABLE, WALRX_USAGE and WALRX_OPTION_UNSUPPORTED for a key that cannot encrypt
   */
  encryptInPlace(buffer: Buffer, length: number): Promise<number>
}
