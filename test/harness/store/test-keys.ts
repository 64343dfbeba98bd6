/** Keyrings with real libsodium keys, for tests. */
import { createHash } from 'node:crypto'
import type { Crypter } from '../../../src/crypto/crypter.ts'
import { Keyring } from '../../../src/crypto/keyring.ts'
import { keyBytes } from '../../../src/crypto/libsodium/libsodium-key.ts'
import { secretstreamCrypter } from '../../../src/crypto/libsodium/secretstream.ts'

/** A key of libsodium; the same name gives the same key, and is its label. */
export function testKey(name: string): Promise<Crypter> {
  return secretstreamCrypter(createHash('sha256').update(name).digest().subarray(0, keyBytes), name)
}

/** A keyring that writes with one key, and reads with others too. */
export function testKeyring(
  writing: string,
  options: { readonly reading?: readonly string[]; readonly acceptsUnencrypted?: boolean } = {},
): Keyring {
  const { acceptsUnencrypted = false, reading = [] } = options
  return new Keyring({
    acceptsUnencrypted,
    load: async () => ({ writing: await testKey(writing), reading: await Promise.all(reading.map(testKey)) }),
  })
}
