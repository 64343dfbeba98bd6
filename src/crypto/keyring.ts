/**
 * The keys of an archive: one to write with, and any number to read with. Which one opens an object is found by its first
 * bytes, so keys can be rotated without rewriting the archive.
 */
import { WalrxError } from '../primitives/errors.ts'
import type { Crypter, DecryptOptions } from './crypter.ts'
import { looksRandom } from './looks-random.ts'

/** What a keyring is made of. */
export interface Keys {
  /** Encrypts what is written, and reads; the first that is tried. See also {@link KeyringOptions.isReadOnly}. */
  readonly writing: Crypter
  /** Read only. */
  readonly reading: readonly Crypter[]
}

/** Options of {@link Keyring}. */
export interface KeyringOptions {
  /** Gets the keys: called once, when the first object is read or written. */
  readonly load: () => Promise<Keys>
  /** True where objects that are not encrypted are read as well: the archive is older than its encryption. */
  readonly acceptsUnencrypted?: boolean
  /** True where no key to write with is set: {@link Keys.writing} is then the first that reads, and nothing is encrypted. */
  readonly isReadOnly?: boolean
}

/** How to recognise an object that is not encrypted, by its first bytes. */
export type PlainTest = (head: Buffer) => boolean

/** See the file's header. */
export class Keyring {
  readonly #options: KeyringOptions
  #keys: Promise<Keys> | undefined
  /** Crypters that have opened an object: what one of their method does not open then is damaged, or of another key. */
  readonly #proven = new Set<Crypter>()

  constructor(options: KeyringOptions) {
    this.#options = options
  }

  /**
   * The keys, loaded once.
   * @throws WALRX_USAGE, WALRX_KEY_UNAVAILABLE
   */
  keys(): Promise<Keys> {
    return (this.#keys ??= this.#options.load())
  }

  /** Encrypts an object; see {@link Crypter.encrypt}. */
  async *encrypt(content: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array, undefined> {
    yield* (await this.#writing()).encrypt(content)
  }

  /** See {@link Crypter.encryptInPlace}. */
  async encryptInPlace(buffer: Buffer, length: number): Promise<number> {
    return (await this.#writing()).encryptInPlace(buffer, length)
  }

  async #writing(): Promise<Crypter> {
    if (!this.#options.isReadOnly) return (await this.keys()).writing
    throw new WalrxError('WALRX_USAGE', 'an object is to be written, and all keys that are set are for reading only', {
      hint: 'set the key to write with, for instance WALG_LIBSODIUM_KEY_PATH',
    })
  }

  /**
   * Decrypts an object with the key that opens it.
   * @param isPlain recognises one that is not encrypted
   * @throws while iterating: WALRX_KEY_WRONG where none of the keys opens it; see {@link Crypter.decrypt}. Messages don't name
   * the object
   */
  async *decrypt(
    stored: AsyncIterable<Uint8Array>,
    isPlain: PlainTest,
    options?: DecryptOptions,
  ): AsyncGenerator<Uint8Array, undefined> {
    const { writing, reading } = await this.keys()
    const crypters = [writing, ...reading]
    const source = new HeadedSource(stored)
    try {
      const head = await source.head(Math.max(...crypters.map((crypter) => crypter.headBytes)))
      const crypter = await this.#opening(crypters, head, isPlain)
      yield* crypter ? crypter.decrypt(source, options) : source
    } finally {
      await source.close()
    }
  }

  /** The crypter that opens an object; undefined for one that is not encrypted, where that is accepted. */
  async #opening(crypters: readonly Crypter[], head: Buffer, isPlain: PlainTest): Promise<Crypter | undefined> {
    // No method makes nothing of something, and what should be nothing could have been anything.
    if (head.length === 0) throw new WalrxError('WALRX_OBJECT_DAMAGED', 'the object is empty')
    const refused: Crypter[] = []
    let wants: string | undefined
    for (const crypter of crypters) {
      const recognised = await crypter.recognise(head)
      if (recognised === 'opens') {
        this.#proven.add(crypter)
        return crypter
      }
      if (recognised === 'other key') refused.push(crypter)
      if (typeof recognised === 'object') wants ??= recognised.wants
    }
    if (wants !== undefined) throw wrongKey(wants, crypters)
    if (isPlain(head)) {
      if (this.#options.acceptsUnencrypted) return undefined
      throw new WalrxError('WALRX_KEY_WRONG', `is not encrypted, but ${labelsOf(crypters)} is set`, {
        hint: 'set WALRX_ACCEPT_UNENCRYPTED=true if the archive holds objects from before its encryption; else somebody else wrote it',
      })
    }
    throw this.#refusal(refused, crypters, head)
  }

  #refusal(refused: readonly Crypter[], crypters: readonly Crypter[], head: Buffer): WalrxError {
    if (!looksRandom(head)) {
      return new WalrxError(
        'WALRX_OBJECT_DAMAGED',
        `does not begin as an encrypted object does (${head.length} bytes seen)`,
      )
    }
    const tried = refused.length > 0 ? refused : crypters
    const detail = `is encrypted with another key than ${labelsOf(tried)}, or damaged at its beginning`
    const isProven = refused.some((crypter) => this.#proven.has(crypter))
    return new WalrxError(isProven ? 'WALRX_OBJECT_DAMAGED' : 'WALRX_KEY_WRONG', detail, {
      hint: 'give the key that it was written with; keys for reading only go into WALRX_READ_KEY_PATH',
    })
  }
}

/** The error of an object that names its key. */
function wrongKey(wants: string, crypters: readonly Crypter[]): WalrxError {
  return new WalrxError('WALRX_KEY_WRONG', `is encrypted to ${wants}; set is ${labelsOf(crypters)}`, {
    hint: 'give the key that it was written with; keys for reading only go into WALRX_READ_KEY_PATH',
  })
}

function labelsOf(crypters: readonly Crypter[]): string {
  return crypters.map((crypter) => `${crypter.label} (${crypter.method})`).join(', ')
}

/** A source whose first bytes can be looked at before it is read. */
class HeadedSource implements AsyncIterable<Uint8Array> {
  readonly #source: AsyncIterator<Uint8Array>
  readonly #seen: Uint8Array[] = []
  #isClosed = false

  constructor(source: AsyncIterable<Uint8Array>) {
    this.#source = source[Symbol.asyncIterator]()
  }

  /** The first `count` bytes, or all that there are. */
  async head(count: number): Promise<Buffer> {
    for (let bytes = 0; bytes < count;) {
      const { done, value } = await this.#next()
      if (done) break
      this.#seen.push(value)
      bytes += value.length
    }
    const [first, second] = this.#seen
    if (first && !second) return Buffer.from(first.buffer, first.byteOffset, Math.min(count, first.length))
    return Buffer.concat(this.#seen).subarray(0, count)
  }

  /** Who gave the last chunk may use it again for the next: one that is still to be read is copied before. */
  #next(): Promise<IteratorResult<Uint8Array>> {
    const last = this.#seen.pop()
    if (last) this.#seen.push(Buffer.from(last))
    return this.#source.next()
  }

  /** Not a generator: what frees the source must not wait for a read. */
  [Symbol.asyncIterator](): AsyncIterator<Uint8Array> {
    return {
      next: () => {
        const value = this.#seen.shift()
        return value ? Promise.resolve({ done: false, value }) : this.#source.next()
      },
      return: async () => {
        await this.close()
        return { done: true, value: undefined }
      },
    }
  }

  /** Frees the source. */
  async close(): Promise<void> {
    if (this.#isClosed) return
    this.#isClosed = true
    await this.#source.return?.()
  }
}
