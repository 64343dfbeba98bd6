/**
 * The calls of libsodium that walrx makes, by `sodium-native` (5.1), which has no types of its own. What the package does
 * beyond libsodium's documentation, "Encrypting a set of related messages", is tested in
 * test/crypto/libsodium/sodium.test.ts:
 *
 * - Node 22 does not let it see memory that is shared between threads (a SharedArrayBuffer): a call writes nothing there,
 *   throws nothing, and returns undefined instead of a length. So who calls compares the length.
 * - A message may be encrypted and decrypted at its own place: `message` from the second byte of `encrypted` on. Other
 *   overlaps destroy it.
 * - A chunk that is not authentic changes neither its target nor the state.
 * - Every call is synchronous. The package works in worker threads; each loads its own.
 */
import { WalrxError } from '../../primitives/errors.ts'

/** See libsodium's documentation, "Encrypting a set of related messages" and "Secure memory". */
export interface Sodium {
  /** Bytes of a state. It holds a key that opens this one object: zero it. */
  readonly crypto_secretstream_xchacha20poly1305_STATEBYTES: number
  /** Begins an object: fills the state, and the header of 24 random bytes. */
  crypto_secretstream_xchacha20poly1305_init_push(state: Buffer, header: Buffer, key: Buffer): void
  /**
   * Encrypts one message.
   * @param encrypted 17 bytes longer than the message
   * @returns the bytes written; see the head of the file
   */
  crypto_secretstream_xchacha20poly1305_push(
    state: Buffer,
    encrypted: Buffer,
    message: Uint8Array,
    additional: null,
    tag: number,
  ): number | undefined
  crypto_secretstream_xchacha20poly1305_init_pull(state: Buffer, header: Uint8Array, key: Buffer): void
  /**
   * Decrypts one message. After a message with the tag REKEY or FINAL the state has another key.
   * @param message 17 bytes shorter than `encrypted`, which has 17 at least
   * @param tag one byte, which is written
   * @returns the bytes written; see the head of the file
   * @throws Error for what is not authentic
   */
  crypto_secretstream_xchacha20poly1305_pull(
    state: Buffer,
    message: Buffer,
    tag: Buffer,
    encrypted: Uint8Array,
    additional: null,
  ): number | undefined
  /** Memory that is guarded, in no core dump and no swap file (where the limit of locked memory allows), and zeroed when it is freed. */
  sodium_malloc(bytes: number): Buffer
  sodium_memzero(buffer: Buffer): void
}

/**
 * Loads libsodium, once: an archive that is not encrypted costs nothing.
 * @throws WALRX_KEY_UNAVAILABLE where the package has no library for this machine
 */
export async function loadSodium(): Promise<Sodium> {
  try {
    // @ts-expect-error The package has no types.
    const { default: sodium } = (await import('sodium-native')) as { default: Sodium }
    return sodium
  } catch (error) {
    throw cannotLoad(error as Error)
  }
}

/** The error of a machine for which there is no library, or whose library does not load: one line. */
export function cannotLoad(error: Error & { readonly code?: unknown }): WalrxError {
  const machine = `${process.platform}-${process.arch}`
  const isMissing = error.code === 'ADDON_NOT_FOUND'
  const cause = error.cause instanceof Error ? error.cause : error
  const reason = isMissing ? 'sodium-native has no library for it' : (cause.message.split('\n', 1)[0] ?? '')
  return new WalrxError('WALRX_KEY_UNAVAILABLE', `libsodium cannot be loaded on ${machine}: ${reason}`, {
    cause: error,
    hint: isMissing
      ? 'encryption by libsodium works on Linux with glibc, macOS and Windows, on x64 and arm64; run walrx on one of these'
      : 'install walrx again, on the machine that runs it: `npm ci`',
  })
}
