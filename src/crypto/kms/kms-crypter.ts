/**
 * WAL-G's envelope by AWS KMS (internal/crypto/awskms/crypter.go):
 *
 *     object := wrapped data key (184 bytes) stream in DARE 2.0
 *
 * The data key is 32 random bytes, the same for all objects that a process of WAL-G writes; AWS KMS encrypts it (kms:Encrypt) when
 * the first is written, and decrypts it (kms:Decrypt) for a reader. KMS sees nothing of the content.
 *
 * Measured on one core of a virtual x86-64 machine with instructions for AES, in seconds of CPU for each GB: to encrypt in
 * memory 0.43, as a stream 0.8, to decrypt 0.4 (ChaCha20-Poly1305: 0.55).
 */
import { ByteReader } from '../../primitives/byte-reader.ts'
import { WalrxError } from '../../primitives/errors.ts'
import type { Crypter, Recognised } from '../crypter.ts'
import { beginsDare, dareBytes, headerBytes, openDare, sealDare, sealDareInPlace } from './dare.ts'
import { DataKeys, wrappedBytes } from './data-keys.ts'
import { KmsClient, type KmsOptions } from './kms-client.ts'

/** A crypter by one key of AWS KMS. Nothing is asked of KMS, and its SDK is not loaded, before an object needs it. */
export function kmsCrypter(options: KmsOptions): Crypter {
  return new KmsCrypter(new DataKeys(new KmsClient(options), options.label), options.label)
}

/** See the file's header. */
export class KmsCrypter implements Crypter {
  readonly method = 'AWS KMS'
  readonly canDecrypt = true
  readonly headBytes = wrappedBytes + headerBytes
  readonly label: string
  readonly #keys: DataKeys

  constructor(keys: DataKeys, label: string) {
    this.#keys = keys
    this.label = label
  }

  /** KMS is asked only about what a stream of DARE follows. */
  async recognise(head: Buffer): Promise<Recognised> {
    if (!beginsDare(head.subarray(wrappedBytes, this.headBytes))) return 'other method'
    return (await this.#keys.unwrap(head.subarray(0, wrappedBytes))) ? 'opens' : 'other key'
  }

  async *decrypt(stored: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array, undefined> {
    const reader = new ByteReader(stored, 'encrypted object')
    try {
      const key = await this.#keys.unwrap(await reader.read(wrappedBytes))
      if (!key) throw new WalrxError('WALRX_KEY_WRONG', `is not encrypted with a key of AWS KMS (${this.label})`)
      yield* openDare(reader, key)
    } finally {
      await reader.close()
    }
  }

  async *encrypt(content: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array, undefined> {
    const { key, wrapped } = await this.#keys.forWriting()
    yield Buffer.from(wrapped)
    yield* sealDare(content, key)
  }

  async encryptInPlace(buffer: Buffer, length: number): Promise<number> {
    const { key, wrapped } = await this.#keys.forWriting()
    await sealDareInPlace(buffer, length, wrappedBytes, key)
    wrapped.copy(buffer)
    return wrappedBytes + dareBytes(length)
  }
}
