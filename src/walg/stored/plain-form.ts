/** Objects of encrypted kinds that are read without a key. */
import { beginningBytes, type BeginningTest, type Look } from '../../crypto/keyring.ts'
import { hasCode, WalrxError } from '../../primitives/errors.ts'
import type { HeadedSource } from '../../primitives/headed-source.ts'

/** How {@link Unkeyed} finds out that bytes are encrypted. */
export interface UnkeyedOptions {
  readonly judge: BeginningTest
  /** True for bytes that no decoder would refuse: the beginning is judged before any of them is passed on. */
  readonly isBare: boolean
  /** The most bytes that the object has where it is not encrypted, if anything says that. */
  readonly bytesMax: number | undefined
}

/** The bytes of an object that is read without a key, and what can be seen of their beginning. */
export class Unkeyed implements AsyncIterable<Uint8Array> {
  readonly #source: HeadedSource
  readonly #options: UnkeyedOptions
  readonly #head: Buffer[] = []
  #headBytes = 0
  #isEnded = false

  constructor(source: HeadedSource, options: UnkeyedOptions) {
    this.#source = source
    this.#options = options
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<Uint8Array, undefined> {
    const { bytesMax = Infinity, isBare, judge } = this.#options
    try {
      if (isBare) {
        const look = await lookUnkeyed(this.#source, judge)
        if (look.kind === 'refused') throw look.refusal
      }
      let bytes = 0
      for await (const chunk of this.#source) {
        bytes += chunk.length
        if (this.#headBytes < beginningBytes) this.#keep(chunk)
        if (bytes > bytesMax) await this.#refuseEncrypted()
        yield chunk
      }
      this.#isEnded = true
    } finally {
      await this.#source.close()
    }
  }

  #keep(chunk: Uint8Array): void {
    const piece = Buffer.from(chunk.subarray(0, beginningBytes - this.#headBytes))
    this.#head.push(piece)
    this.#headBytes += piece.length
  }

  async #refuseEncrypted(): Promise<void> {
    const look = await this.#look()
    if (look.kind === 'refused') throw look.refusal
  }

  async #look(): Promise<Look> {
    const head = Buffer.concat(this.#head)
    return judgeUnkeyed(head, this.#isEnded && head.length < beginningBytes, this.#options.judge)
  }

  /** The error of what did not decode: WALRX_KEY_MISSING where it is encrypted, as far as that can be seen. */
  async reason(error: unknown): Promise<unknown> {
    // Of what is no stream of its own a codec may also say that it lacks something for it.
    if (!hasCode(error, 'WALRX_OBJECT_DAMAGED') && !hasCode(error, 'WALRX_CODEC_UNSUPPORTED')) return error
    const look = await this.#look()
    return look.kind === 'refused' ? look.refusal : error
  }
}

/** What can be done with an object without a key, by its beginning. Throws what the source throws. */
export async function lookUnkeyed(source: HeadedSource, judge: BeginningTest): Promise<Look> {
  const head = await source.head(beginningBytes)
  return judgeUnkeyed(head, source.isEnded, judge)
}

async function judgeUnkeyed(head: Buffer, isWhole: boolean, judge: BeginningTest): Promise<Look> {
  const beginning = await judge(head, isWhole)
  switch (beginning.kind) {
    case 'plain':
      return { kind: 'plain', refusal: undefined }
    case 'damaged':
      return { kind: 'damaged', refusal: new WalrxError('WALRX_OBJECT_DAMAGED', 'does not begin as such objects do') }
    case 'marked':
      return { kind: 'refused', refusal: keyMissing(`${beginning.says}, and no key is set`, beginning.hint) }
    case 'random': {
      const hint = 'set WALG_LIBSODIUM_KEY_PATH, or whichever setting has the key that it was written with'
      return {
        kind: 'refused',
        refusal: keyMissing('is encrypted, or damaged at its beginning, and no key is set', hint),
      }
    }
    default:
      return beginning satisfies never
  }
}

function keyMissing(message: string, hint: string): WalrxError {
  return new WalrxError('WALRX_KEY_MISSING', message, { hint })
}
