/** Writes stored objects: what is encoded in memory, and documents, which are stored as they are. */
import type { WriteCodec } from '../../compression/codec.ts'
import { WalrxError } from '../../primitives/errors.ts'
import type { Storage, StorageBody, StorageCallOptions } from '../../storage/storage.ts'
import { checkForm } from './object-kinds.ts'
import { decoded, decodingOf, encodeInPlace, encryptDocument, once, openEncoder } from './stored-form.ts'

/** Writes objects in the form of one archive: encoded by one codec, and encrypted by the key of the storage. */
export class StoredWriter {
  readonly #storage: Storage
  readonly #codec: WriteCodec

  constructor(storage: Storage, codec: WriteCodec) {
    this.#storage = storage
    this.#codec = codec
  }

  /** Extension of the objects, without the dot; empty for none. */
  get extension(): string {
    return this.#codec.extension
  }

  /**
   * Encodes `buffer[0, length)` inside its own buffer; see {@link SegmentEncoder.encodeInPlace}.
   * @throws WALRX_USAGE and WALRX_KEY_UNAVAILABLE for keys that cannot encrypt
   */
  encodeInPlace(buffer: Buffer, length: number): Promise<number> {
    return encodeInPlace(this.#codec, this.#storage.keyring, buffer, length)
  }

  /** Encodes without touching the argument. Throws as {@link encodeInPlace} does. */
  async encodeCopy(content: Uint8Array): Promise<Buffer> {
    const { input, output } = openEncoder(this.#codec, this.#storage.keyring)
    const written = input.write(content).then(() => input.end())
    const chunks: Uint8Array[] = []
    for await (const chunk of output) chunks.push(chunk)
    await written
    return Buffer.concat(chunks)
  }

  /**
   * Decodes what has been encoded here.
   * @param key that it is for
   * @throws WALRX_INTERNAL if it does not decode: that is a defect here and not the archive's
   */
  async *decodeOwn(key: string, encoded: Uint8Array): AsyncGenerator<Uint8Array, undefined> {
    try {
      yield* decoded(once(encoded), decodingOf({ key, extension: this.extension }, this.#storage))
    } catch (error) {
      throw new WalrxError('WALRX_INTERNAL', `what was compressed does not decode: ${(error as Error).message}`, {
        cause: error,
      })
    }
  }

  /** Stores an encoded object if there is none; see {@link Storage.putIfAbsent}. */
  async create(key: string, encoded: Uint8Array, options?: StorageCallOptions): Promise<'created' | 'exists'> {
    checkForm(key, true)
    return this.#storage.putIfAbsent(key, encoded, options)
  }

  /** Stores an encoded object, in place of one that is there; see {@link Storage.put}. */
  async replace(key: string, encoded: Uint8Array, options?: StorageCallOptions): Promise<void> {
    checkForm(key, true)
    return this.#storage.put(key, encoded, options)
  }
}

/** Stores a document, in place of one that is there; see {@link Storage.put}. */
export async function putDocument(
  storage: Pick<Storage, 'put' | 'keyring'>,
  key: string,
  body: StorageBody,
  options?: StorageCallOptions,
): Promise<void> {
  const form = checkForm(key, false)
  return storage.put(key, encryptDocument(body, form, storage.keyring), options)
}

/** Stores a document if there is none; see {@link Storage.putIfAbsent}. Throws WALRX_INTERNAL for a kind that is encrypted. */
export async function createDocument(
  storage: Pick<Storage, 'putIfAbsent'>,
  key: string,
  bytes: Uint8Array,
  options?: StorageCallOptions,
): Promise<'created' | 'exists'> {
  if (checkForm(key, false).encrypted) throw new WalrxError('WALRX_INTERNAL', `${key} is to be encrypted`)
  return storage.putIfAbsent(key, bytes, options)
}
