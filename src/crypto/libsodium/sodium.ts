/** The calls of libsodium that walrx makes, by `sodium-native`, which has no types of its own. */

/** See libsodium's documentation, "Encrypting a set of related messages". */
export interface Sodium {
  readonly crypto_secretstream_xchacha20poly1305_STATEBYTES: number
  crypto_secretstream_xchacha20poly1305_init_push(state: Buffer, header: Buffer, key: Buffer): void
  crypto_secretstream_xchacha20poly1305_push(
    state: Buffer,
    encrypted: Buffer,
    message: Buffer,
    additional: null,
    tag: number,
  ): number
  crypto_secretstream_xchacha20poly1305_init_pull(state: Buffer, header: Buffer, key: Buffer): void
  /** Throws for what is not authentic. */
  crypto_secretstream_xchacha20poly1305_pull(
    state: Buffer,
    message: Buffer,
    tag: Buffer,
    encrypted: Buffer,
    additional: null,
  ): number
  /** Memory that is locked, guarded, in no core dump, and zeroed when it is freed. */
  sodium_malloc(bytes: number): Buffer
  sodium_memzero(buffer: Buffer): void
}

/** Loads libsodium, once: an archive that is not encrypted costs nothing. */
export async function loadSodium(): Promise<Sodium> {
  // @ts-expect-error The package has no types.
  const { default: sodium } = (await import('sodium-native')) as { default: Sodium }
  return sodium
}
