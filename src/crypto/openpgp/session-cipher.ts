/** Ciphers of session keys, and one session key. */

/** A cipher in OpenPGP's own mode: CFB, with a first block of random bytes instead of an initial vector. */
export interface SessionCipher {
  /** What `node:crypto` calls it. */
  readonly node: string
  readonly keyBytes: number
  readonly blockBytes: number
}

/** The ciphers that `node:crypto` has among those that go-crypto reads, by the names of the library `openpgp`. */
export const sessionCiphers: Readonly<Record<string, SessionCipher | undefined>> = {
  aes128: { node: 'aes-128-cfb', keyBytes: 16, blockBytes: 16 },
  aes192: { node: 'aes-192-cfb', keyBytes: 24, blockBytes: 16 },
  aes256: { node: 'aes-256-cfb', keyBytes: 32, blockBytes: 16 },
  tripledes: { node: 'des-ede3-cfb', keyBytes: 24, blockBytes: 8 },
}

/** A session key: the key of one object. */
export interface SessionKey {
  readonly key: Uint8Array
  /** Its cipher, by the name of the library `openpgp`; null where the encrypted data says it. */
  readonly cipher: string | null
}

/** Bytes that are encrypted or decrypted without a pause: a third of a millisecond. */
export const turnBytes = 128 * 1024
