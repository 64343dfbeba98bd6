/** What objects that are not encrypted begin with: nothing in an archive says which ones are. */
import type { Codec } from '../../compression/codec.ts'
import { looksRandom } from '../../crypto/looks-random.ts'
import { hasCode, WalrxError } from '../../primitives/errors.ts'
import { kindOf, type ObjectKind } from './object-kinds.ts'

/** Bytes that a look needs. */
const headBytesMax = 1024

/** What an object of a kind begins with that is neither compressed nor encrypted; kinds that are not here begin with anything. */
const beginnings: Partial<Record<ObjectKind, (head: Buffer) => boolean>> = {
  // The magic number of a WAL page: 0xD10D and the like, by version (xlog_internal.h).
  segment: (head) => head[1] === 0xd0 || head[1] === 0xd1,
  partial: (head) => head[1] === 0xd0 || head[1] === 0xd1,
  part: (head) => head.toString('latin1', 257, 262) === 'ustar' || head.every((byte) => byte === 0),
  manifest: (head) => head[0] === 0x7b,
  contents: (head) => head[0] === 0x7b,
}

/** True where the object can be one that is not encrypted: it begins as its codec writes, or as its kind does. */
export function beginsAsPlain(head: Buffer, key: string, codec: Codec): boolean {
  if (codec.begins) return codec.begins(head)
  const kind = kindOf(key)
  const begins = codec.method === 'none' && kind !== undefined ? beginnings[kind] : undefined
  return begins ? begins(head) : !looksRandom(head)
}

/** The bytes of an object that is read without a key, and what can be seen of their beginning. */
export class Unkeyed implements AsyncIterable<Uint8Array> {
  readonly #stored: AsyncIterable<Uint8Array>
  #head = Buffer.alloc(0)

  constructor(stored: AsyncIterable<Uint8Array>) {
    this.#stored = stored
  }

  [Symbol.asyncIterator](): AsyncIterator<Uint8Array> {
    const source = this.#stored[Symbol.asyncIterator]()
    return {
      next: async () => {
        const result = await source.next()
        if (!result.done && this.#head.length < headBytesMax) {
          this.#head = Buffer.concat(
            [this.#head, result.value],
            Math.min(headBytesMax, this.#head.length + result.value.length),
          )
        }
        return result
      },
      return: async () => (await source.return?.()) ?? { done: true, value: undefined },
    }
  }

  /** The error of what did not decode: WALRX_KEY_MISSING where it is encrypted, as far as that can be seen. */
  reason(error: unknown, key: string, codec: Codec): unknown {
    if (!hasCode(error, 'WALRX_OBJECT_DAMAGED')) return error
    if (!looksRandom(this.#head) || (codec.begins && beginsAsPlain(this.#head, key, codec))) return error
    return new WalrxError('WALRX_KEY_MISSING', 'is encrypted, or damaged at its beginning, and no key is set', {
      hint: 'set WALG_LIBSODIUM_KEY or WALG_LIBSODIUM_KEY_PATH',
      cause: error,
    })
  }
}
