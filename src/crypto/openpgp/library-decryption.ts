/**
 * Decrypts what is not integrity-protected data of version 1 in a cipher of `node:crypto`, by the library `openpgp`: data with
 * authenticated encryption (version 2, and gpg's own packet of type 20), and CAST5, which an early WAL-G wrote for keys without
 * preferences. WAL-G writes none of them now, so the library's speed is no matter: about 3.5 CPU-s/GB, and 10 MB more of
 * memory for each MB of a chunk.
 */
import { setImmediate } from 'node:timers/promises'
import * as openpgp from 'openpgp'
import { WalrxError } from '../../primitives/errors.ts'
import { PartialBody } from './packet-header.ts'
import { type SessionKey } from './session-cipher.ts'

/** The cipher that the library reads and `node:crypto` does not. */
export const legacyCipher = 'cast5'

/** Bytes that the library gets at a time: its CAST5 is slow. */
const pieceBytes = 16 * 1024

/**
 * The content of encrypted data.
 * @param type of its packet
 * @param body of its packet
 * @throws while iterating: what the body throws; WALRX_OBJECT_DAMAGED
 */
export async function* decryptByLibrary(
  type: number,
  body: AsyncIterable<Uint8Array>,
  { cipher, key }: SessionKey,
): AsyncGenerator<Uint8Array, undefined> {
  const source = new WatchedSource(packetOf(type, body))
  try {
    const config = { allowUnauthenticatedStream: true, maxDecompressedMessageSize: Infinity }
    const message = await openpgp.readMessage({ binaryMessage: ReadableStream.from(source), config })
    const sessionKey = { data: key, ...(cipher !== null && { algorithm: cipher }) } as openpgp.SessionKey
    const { data } = await openpgp.decrypt({ message, sessionKeys: sessionKey, format: 'binary', config })
    for await (const chunk of data as AsyncIterable<Uint8Array>) yield chunk
  } catch (error) {
    if (source.failure) throw source.failure
    throw new WalrxError('WALRX_OBJECT_DAMAGED', `the encrypted object is changed or cut: ${(error as Error).message}`)
  }
}

/** The packet again, for its header is read already. */
async function* packetOf(type: number, body: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array, undefined> {
  const parts = new PartialBody(false)
  yield Buffer.from([0xc0 | type])
  for await (const chunk of body) {
    for (const part of parts.push(chunk)) yield* pieces(part)
  }
  yield* pieces(parts.end())
}

async function* pieces(bytes: Buffer): AsyncGenerator<Uint8Array, undefined> {
  for (let at = 0; at < bytes.length; at += pieceBytes) {
    yield bytes.subarray(at, at + pieceBytes)
    await setImmediate()
  }
}

/** Keeps what the source throws: the library wraps it. */
class WatchedSource implements AsyncIterable<Uint8Array> {
  readonly #source: AsyncIterable<Uint8Array>
  /** What the source has thrown. */
  failure: Error | undefined

  constructor(source: AsyncIterable<Uint8Array>) {
    this.#source = source
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<Uint8Array, undefined> {
    try {
      yield* this.#source
    } catch (error) {
      this.failure = error as Error
      throw error
    }
  }
}
