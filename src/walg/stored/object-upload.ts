/** Objects that are written while their content comes: the parts of a backup, and its manifest. */
import type { WriteCodec } from '../../compression/codec.ts'
import type { Storage } from '../../storage/storage.ts'
import type { ContentInput } from './content-input.ts'
import { checkForm } from './object-kinds.ts'
import { ObjectSum, type StoredObject } from './object-sum.ts'
import { encodeSlack, openEncoder } from './stored-form.ts'

/**
 * An object that is written while its content comes: one encoder, one streamed put. The content is written piece by
 * piece; the encoder takes a piece only as fast as the storage takes what comes out.
 */
export class ObjectWriter {
  readonly #encoder: ContentInput
  readonly #put: Promise<void>
  readonly #sum = new ObjectSum()
  readonly #name: string
  #error: Error | undefined
  /** Gives the piece before the present one back. */
  #release: () => void = () => {}

  /**
   * @param folder beginning of the key, up to the backup's name and a slash
   * @param name the rest of the key
   * @param sizeMaxBytes the most that the content comes to, before compression
   */
  constructor(
    storage: Storage,
    codec: WriteCodec,
    folder: string,
    name: string,
    signal: AbortSignal,
    sizeMaxBytes?: number,
  ) {
    checkForm(folder + name, true)
    this.#name = name
    const { input, output } = openEncoder(codec, storage.keyring, storage)
    this.#encoder = input
    this.#encoder.onError((error) => {
      this.#error ??= error
    })
    // What does not compress gets a little longer.
    const options = {
      signal,
      ...(sizeMaxBytes === undefined ? {} : { sizeMaxBytes: sizeMaxBytes + encodeSlack(sizeMaxBytes) }),
    }
    this.#put = storage.put(folder + name, this.#summed(output), options).catch((error: unknown) => {
      this.#error ??= error as Error
      void this.#encoder.destroy()
      throw error
    })
    this.#put.catch(() => {})
  }

  /** Bytes stored so far. */
  get storedBytes(): number {
    return this.#sum.size
  }

  async *#summed(output: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array, undefined> {
    for await (const piece of output) {
      this.#sum.add(piece)
      yield piece
    }
  }

  /**
   * Writes a piece of the content.
   * @param release called when the piece is not needed any more, also when writing has failed
   * @throws what the storage threw
   */
  async write(bytes: Uint8Array, release: () => void): Promise<void> {
    const before = this.#release
    this.#release = release
    if (!this.#error) {
      // An encoder that failed takes nothing more.
      await Promise.race([this.#encoder.write(bytes), this.#put.catch(() => {})])
    }
    // The encoder takes a piece when it has done with the one before.
    before()
    if (this.#error) {
      this.#release()
      this.#release = () => {}
      throw await this.#reason(this.#error)
    }
  }

  /**
   * Why the object cannot be stored. A storage that fails stops reading first, which destroys the encoder, and reports its
   * reason when it has removed what it wrote: only that reason helps an operator.
   */
  async #reason(first: Error): Promise<Error> {
    try {
      await this.#put
    } catch (error) {
      return error as Error
    }
    return first
  }

  /** Ends the content; resolves when the object is durable. */
  async finish(): Promise<StoredObject> {
    try {
      this.#encoder.end()
      await this.#put
    } finally {
      this.#release()
      this.#release = () => {}
    }
    return { name: this.#name, size: this.#sum.size, crc32c: this.#sum.crc32c }
  }

  /** Drops the object: nothing of it is stored. Harmless after the end. */
  async drop(error: Error): Promise<void> {
    this.#error ??= error
    await this.#encoder.destroy(error)
    await this.#put.catch(() => {})
    this.#release()
    this.#release = () => {}
  }
}

/** Stores a small object that is in memory. */
export async function storeObject(
  storage: Storage,
  codec: WriteCodec,
  folder: string,
  name: string,
  content: Uint8Array,
  signal: AbortSignal,
): Promise<StoredObject> {
  const writer = new ObjectWriter(storage, codec, folder, name, signal)
  await writer.write(content, () => {})
  return writer.finish()
}
