/**
 * The keys of an archive: one to write with, and any number to read with. Which one opens an object is found by its first
 * bytes, so keys can be rotated without rewriting the archive.
 */
import { hasCode, WalrxError } from '../primitives/errors.ts'
import { HeadedSource } from '../primitives/headed-source.ts'
import type { Crypter, DecryptOptions, EncryptOptions, Recognised } from './crypter.ts'

/** What a keyring is made of. */
export interface Keys {
  /** Encrypts what is written, and reads; the first that is tried. See also {@link KeyringOptions.isReadOnly}. */
  readonly writing: Crypter
  /** Read only. */
  readonly reading: readonly Crypter[]
}

/** Options of {@link Keyring}. */
export interface KeyringOptions {
  /** Gets the keys: called when the first object is read or written, and again only after it has failed. */
  readonly load: () => Promise<Keys>
  /** True where objects that are not encrypted are read as well: the archive is older than its encryption. */
  readonly acceptsUnencrypted?: boolean
  /** What the keys come from, for messages about it: `WALRX_KEY_COMMAND`. */
  readonly source?: string
  /** True where no key to write with is set: {@link Keys.writing} is then the first that reads, and nothing is encrypted. */
  readonly isReadOnly?: boolean
}

/** What the beginning of an object shows to somebody who knows what it holds, and without any key. */
export type Beginning =
  /** It begins as one that is not encrypted. */
  | { readonly kind: 'plain' }
  /** It does not, and is not encrypted either: zeros, text, too few bytes, or nearly a codec's mark. */
  | { readonly kind: 'damaged' }
  /** It has the mark of a method: `is encrypted to OpenPGP key 1A2B…`. `hint` is the next step. */
  | { readonly kind: 'marked'; readonly says: string; readonly hint: string }
  /** It looks random: encrypted, or damaged. */
  | { readonly kind: 'random' }

/**
 * Bytes of an object that a {@link BeginningTest} gets, or all that there are: a page of WAL with the header of the next one, and
 * what a codec puts before it, or the first keys of OpenPGP's.
 */
export const beginningBytes = 9 * 1024

/**
 * Judges the first bytes of an object, or of what a key makes of them.
 * @param head {@link beginningBytes} of an object; of what a key makes of them it may be fewer
 * @param isWhole true where there are no more than these
 */
export type BeginningTest = (head: Buffer, isWhole: boolean) => Promise<Beginning>

/** What the keys, or none, can do with an object. The errors don't name it. */
export type Look =
  /** A key opens it. */
  | { readonly kind: 'opens'; readonly crypter: Crypter }
  /** It is encrypted to a key and only the public half of that is there: WALRX_KEY_MISSING. */
  | { readonly kind: 'sealed'; readonly refusal: WalrxError }
  /** It is not encrypted; `refusal`: WALRX_KEY_WRONG, where it has to be. */
  | { readonly kind: 'plain'; readonly refusal: WalrxError | undefined }
  /** WALRX_KEY_WRONG or WALRX_KEY_MISSING: it is encrypted with another key, as far as can be seen. */
  | { readonly kind: 'refused'; readonly refusal: WalrxError }
  /** WALRX_OBJECT_DAMAGED: whatever the keys are. */
  | { readonly kind: 'damaged'; readonly refusal: WalrxError }

/** Of content: fewer are never judged random. */
const enoughBytes = 41

const otherKeyHint = 'give the key that it was written with; keys for reading only go into WALRX_READ_KEY_PATH'

/** See the file's header. */
export class Keyring {
  readonly #options: KeyringOptions
  #keys: Promise<Keys> | undefined
  /** What is being waited for, as often as it is. */
  readonly #waits: string[] = []

  constructor(options: KeyringOptions) {
    this.#options = options
  }

  /** What a key is being waited for: its command, or the service that keeps it. Undefined where none is asked just now. */
  get waitsFor(): string | undefined {
    return this.#waits[0]
  }

  /**
   * The keys, loaded once; after a failure they are loaded again, for the file or the service may be there then.
   * @throws WALRX_USAGE, WALRX_KEY_UNAVAILABLE
   */
  keys(): Promise<Keys> {
    if (this.#keys) return this.#keys
    const { load, source = 'the key' } = this.#options
    const keys = this.#waiting(source, load())
    this.#keys = keys
    keys.catch(() => {
      if (this.#keys === keys) this.#keys = undefined
    })
    return keys
  }

  /**
   * Encrypts an object; see {@link Crypter.encrypt}.
   * @throws while iterating: WALRX_USAGE where all keys only read, WALRX_KEY_UNAVAILABLE; what the content throws
   */
  async *encrypt(content: AsyncIterable<Uint8Array>, options?: EncryptOptions): AsyncGenerator<Uint8Array, undefined> {
    yield* (await this.#writing()).encrypt(content, options)
  }

  /**
   * See {@link Crypter.encryptInPlace}.
   * @throws WALRX_USAGE where all keys only read, WALRX_KEY_UNAVAILABLE
   */
  async encryptInPlace(buffer: Buffer, length: number): Promise<number> {
    return (await this.#writing()).encryptInPlace(buffer, length)
  }

  async #waiting<T>(source: string, answer: Promise<T>): Promise<T> {
    this.#waits.push(source)
    try {
      return await answer
    } finally {
      this.#waits.splice(this.#waits.indexOf(source), 1)
    }
  }

  async #writing(): Promise<Crypter> {
    if (!this.#options.isReadOnly) return (await this.keys()).writing
    throw new WalrxError('WALRX_USAGE', 'an object is to be written, and all keys that are set are for reading only', {
      hint: 'set the key to write with, for instance WALG_LIBSODIUM_KEY_PATH',
    })
  }

  /**
   * Decrypts an object with the key that opens it.
   * @param judge knows what it holds
   * @throws while iterating: WALRX_KEY_WRONG where none of the keys opens it, WALRX_KEY_MISSING where only the public half of the
   * one that does is there, WALRX_OBJECT_DAMAGED; as {@link lookAt} and {@link Crypter.decrypt}. Messages don't name the object
   */
  async *decrypt(
    source: HeadedSource,
    judge: BeginningTest,
    options?: DecryptOptions,
  ): AsyncGenerator<Uint8Array, undefined> {
    try {
      const crypter = await this.opener(source, judge)
      yield* crypter ? crypter.decrypt(source, options) : source
    } finally {
      await source.close()
    }
  }

  /**
   * The key that opens an object; undefined for one that is not encrypted, where that is accepted.
   * @throws as {@link decrypt}
   */
  async opener(source: HeadedSource, judge: BeginningTest): Promise<Crypter | undefined> {
    const look = await this.lookAt(source, judge)
    if (look.kind === 'opens') return look.crypter
    if (look.refusal) throw look.refusal
    return undefined
  }

  /**
   * What the keys can do with an object, by its beginning.
   * @throws WALRX_USAGE, WALRX_KEY_UNAVAILABLE; WALRX_CODEC_UNSUPPORTED for what only a passphrase opens; what the source throws
   */
  async lookAt(source: HeadedSource, judge: BeginningTest): Promise<Look> {
    const { reading, writing } = await this.keys()
    const crypters = [writing, ...reading]
    const head = await source.head(Math.max(...crypters.map((crypter) => crypter.headBytes)))
    let damage: WalrxError | undefined
    let unavailable: WalrxError | undefined
    let unreadable: Crypter | undefined
    let wants: string | undefined
    for (const crypter of crypters) {
      const recognised = await this.#waiting(crypter.label, recognisedBy(crypter, head))
      if (hasCode(recognised, 'WALRX_KEY_UNAVAILABLE')) unavailable ??= recognised
      else if (recognised instanceof WalrxError) damage ??= recognised
      else if (typeof recognised === 'object') wants ??= recognised.wants
      if (recognised !== 'opens') continue
      if (crypter.canDecrypt) return { kind: 'opens', crypter }
      unreadable ??= crypter
    }
    // A key that is locked, or whose service is out, may be the one.
    if (unavailable) throw unavailable
    if (damage) return { kind: 'damaged', refusal: damage }
    if (unreadable) return { kind: 'sealed', refusal: withoutPrivateKey(unreadable) }
    if (wants !== undefined) return { kind: 'refused', refusal: wrongKey(wants, crypters) }
    // A key may need much less: 200 bytes for AWS KMS.
    const shown = await source.head(Math.max(head.length, beginningBytes))
    const beginning = await judge(shown, source.isEnded)
    if (beginning.kind === 'plain') return { kind: 'plain', refusal: this.#refusalOfPlain(crypters) }
    if (beginning.kind === 'marked') return { kind: 'refused', refusal: ofOtherMethod(beginning, crypters) }
    const isOurs = beginning.kind === 'random' && (await isOfAny(crypters, shown, judge))
    if (isOurs || beginning.kind === 'damaged') return { kind: 'damaged', refusal: damagedBeginning(shown, isOurs) }
    const detail = `is encrypted with another key than ${labelsOf(crypters)}, or damaged in its first bytes`
    return { kind: 'refused', refusal: new WalrxError('WALRX_KEY_WRONG', detail, { hint: otherKeyHint }) }
  }

  #refusalOfPlain(crypters: readonly Crypter[]): WalrxError | undefined {
    if (this.#options.acceptsUnencrypted) return undefined
    return new WalrxError('WALRX_KEY_WRONG', `is not encrypted, but ${labelsOf(crypters)} is set`, {
      hint: 'set WALRX_ACCEPT_UNENCRYPTED=true if the archive holds objects from before its encryption; else somebody else wrote it',
    })
  }

  /**
   * Proves that the keys work: what is encrypted now can be decrypted again.
   * @returns the key that encrypts; `isReadable`: false where no key decrypts what it encrypts, as with public keys only
   * @throws WALRX_USAGE, WALRX_KEY_UNAVAILABLE
   */
  async prove(): Promise<{ readonly writing: Crypter; readonly isReadable: boolean }> {
    const writing = await this.#writing()
    const content = Buffer.from('walrx')
    const isContent: BeginningTest = (head) =>
      Promise.resolve({ kind: head.subarray(0, content.length).equals(content) ? 'plain' : 'damaged' })
    const decrypted: Uint8Array[] = []
    const encrypted = writing.encrypt(
      (async function* () {
        yield await Promise.resolve(content)
      })(),
    )
    try {
      for await (const piece of this.decrypt(new HeadedSource(encrypted), isContent)) decrypted.push(piece)
    } catch (error) {
      if (hasCode(error, 'WALRX_KEY_UNAVAILABLE')) throw error
      if (!(error instanceof WalrxError) || writing.canDecrypt) throw error
      return { writing, isReadable: false }
    }
    if (!Buffer.concat(decrypted).equals(content)) {
      throw new WalrxError('WALRX_INTERNAL', `what ${writing.label} encrypted does not decrypt to the same`)
    }
    return { writing, isReadable: true }
  }
}

/** What a key says of an object; the error of one that is for it, and damaged, or is not there: another key may open it. */
async function recognisedBy(crypter: Crypter, head: Buffer): Promise<Recognised | WalrxError> {
  try {
    return await crypter.recognise(head)
  } catch (error) {
    if (hasCode(error, 'WALRX_OBJECT_DAMAGED') || hasCode(error, 'WALRX_KEY_UNAVAILABLE')) return error
    throw error
  }
}

/** Whether one of the keys, though the object does not open, makes of its first bytes what such an object holds. */
async function isOfAny(crypters: readonly Crypter[], head: Buffer, judge: BeginningTest): Promise<boolean> {
  for (const crypter of crypters) {
    const content = crypter.peek?.(head)
    const kind = content && (await judge(content, false)).kind
    // A wrong key makes random bytes of it; too few show nothing.
    if (kind === 'plain' || (kind === 'damaged' && content && content.length >= enoughBytes)) return true
  }
  return false
}

function damagedBeginning(head: Buffer, isOurs: boolean): WalrxError {
  const detail = isOurs
    ? 'is changed or cut near its beginning'
    : `begins neither as an encrypted object does nor as one that is not (${head.length} bytes seen)`
  return new WalrxError('WALRX_OBJECT_DAMAGED', detail)
}

function ofOtherMethod(
  { hint, says }: Beginning & { readonly kind: 'marked' },
  crypters: readonly Crypter[],
): WalrxError {
  return new WalrxError('WALRX_KEY_WRONG', `${says}, and not with ${labelsOf(crypters)}`, { hint })
}

/** The error of an object that names its key. */
function wrongKey(wants: string, crypters: readonly Crypter[]): WalrxError {
  return new WalrxError('WALRX_KEY_WRONG', `is encrypted to ${wants}; set is ${labelsOf(crypters)}`, {
    hint: otherKeyHint,
  })
}

/** The error of an object whose private key is missing. */
function withoutPrivateKey({ label, method }: Crypter): WalrxError {
  return new WalrxError('WALRX_KEY_MISSING', `is encrypted to ${label} (${method}), which is no private key`, {
    hint: 'set the private key of it, with its passphrase',
  })
}

function labelsOf(crypters: readonly Crypter[]): string {
  return crypters.map((crypter) => `${crypter.label} (${crypter.method})`).join(', ')
}
