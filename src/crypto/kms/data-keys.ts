/**
 * The data keys of a process. AWS KMS is asked once for each wrapped key that is read, and once for many objects that are
 * written. Keys are KeyObjects, which lie outside of the heap of JavaScript; OpenSSL zeroes the memory of one that is dropped.
 */
import { createSecretKey, type KeyObject, randomFillSync } from 'node:crypto'
import { WalrxError } from '../../primitives/errors.ts'
import { dataKeyBytes, type KmsClient } from './kms-client.ts'

/**
 * Bytes of a wrapped data key in WAL-G's objects (awskms.CrypterFromKeyID): the length to which KMS encrypts 32 bytes with a
 * symmetric key. Ciphertexts of single-Region and multi-Region keys, from 2018 on, are so long; those of 2017 had 167 bytes.
 */
export const wrappedBytes = 184

/** What the next object is encrypted with. */
export interface WritingKey {
  readonly key: KeyObject
  readonly wrapped: Buffer
}

/** How long keys are kept; the defaults are of {@link dataKeyLimits}. */
export interface DataKeyLimits {
  /** Objects after which another data key is made. */
  readonly objects: number
  /** Objects that one may encrypt while KMS makes no other. */
  readonly objectsMax: number
  /** Wrapped keys that are remembered: each takes about a kilobyte. */
  readonly remembered: number
}

/**
 * DARE begins each object with 95 random bits of nonce. With 2^20 objects of 2^14 packages (1 GiB) under one key, two packages
 * have the same nonce with a probability of 2^20 * 2^20 * 2^14 / 2^95 = 2^-41; with 65,536 objects it is 2^-49.
 */
export const dataKeyLimits: DataKeyLimits = { objects: 65_536, objectsMax: 16 * 65_536, remembered: 4096 }

/** See the file's header. */
export class DataKeys {
  readonly #kms: Pick<KmsClient, 'unwrap' | 'wrap'>
  readonly #label: string
  readonly #limits: DataKeyLimits
  /** By wrapped key, the one that was used last at the end. Undefined: KMS says that it is none. */
  readonly #known = new Map<string, Promise<KeyObject | undefined>>()
  #current: (WritingKey & { objects: number; renewAt: number }) | undefined
  #renewing: Promise<void> | undefined

  /** @param label see {@link Crypter.label} */
  constructor(kms: Pick<KmsClient, 'unwrap' | 'wrap'>, label: string, limits: DataKeyLimits = dataKeyLimits) {
    this.#kms = kms
    this.#label = label
    this.#limits = limits
  }

  /**
   * The data key of an object.
   * @returns undefined where KMS says that it has not encrypted these bytes
   * @throws WALRX_KEY_UNAVAILABLE, WALRX_USAGE
   */
  unwrap(wrapped: Buffer): Promise<KeyObject | undefined> {
    const name = wrapped.toString('latin1')
    const key = this.#known.get(name) ?? this.#kms.unwrap(wrapped)
    this.#remember(name, key)
    // A failure says nothing of the next time.
    key.catch(() => this.#known.delete(name))
    return key
  }

  /**
   * The key to encrypt one object with.
   * @throws WALRX_KEY_UNAVAILABLE, WALRX_USAGE; WALRX_OPTION_UNSUPPORTED for a key of KMS that WAL-G could not read with
   */
  async forWriting(): Promise<WritingKey> {
    if (!this.#current || this.#current.objects >= this.#current.renewAt) {
      await (this.#renewing ??= this.#renew().finally(() => (this.#renewing = undefined)))
    }
    const current = this.#current!
    current.objects++
    return current
  }

  async #renew(): Promise<void> {
    const { objects, objectsMax } = this.#limits
    try {
      this.#current = { ...(await this.#make()), objects: 0, renewAt: objects }
    } catch (error) {
      if (!this.#current || this.#current.objects >= objectsMax) throw error
      this.#current.renewAt = Math.min(objectsMax, this.#current.objects + Math.ceil(objects / 16))
    }
  }

  async #make(): Promise<WritingKey> {
    const bytes = randomFillSync(Buffer.allocUnsafeSlow(dataKeyBytes))
    try {
      const wrapped = await this.#kms.wrap(bytes)
      if (wrapped.length !== wrappedBytes) {
        throw new WalrxError(
          'WALRX_OPTION_UNSUPPORTED',
          `${this.#label} makes ${wrapped.length} bytes of a data key, and WAL-G reads exactly ${wrappedBytes}`,
          {
            hint: 'set WALG_CSE_KMS_ID to a symmetric key whose material lies in AWS KMS, not in an external key store',
          },
        )
      }
      const key = createSecretKey(bytes)
      this.#remember(wrapped.toString('latin1'), Promise.resolve(key))
      return { key, wrapped }
    } finally {
      bytes.fill(0)
    }
  }

  #remember(name: string, key: Promise<KeyObject | undefined>): void {
    this.#known.delete(name)
    this.#known.set(name, key)
    for (const oldest of this.#known.keys()) {
      if (this.#known.size <= this.#limits.remembered) break
      this.#known.delete(oldest)
    }
  }
}
