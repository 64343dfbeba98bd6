/**
 * The entries of a tar from any tool. WAL-G's remote backups lack the final blocks and even the padding of the last entry
 * (docs/walg-format.md, 5.3), so a tar may end after any complete body. One that ends within a body or a header is damaged.
 */
import { WalrxError } from '../../../primitives/errors.ts'
import type { DecodedPiece } from '../../../compression/codec.ts'
import { blockBytes, type TarHeader, TarHeaders } from './tar-headers.ts'

/** An entry. Read its body before asking for the next entry. */
export interface TarEntry extends TarHeader {
  /** The body; unread bytes are skipped. Each chunk is valid until the next one is asked for, or as long as it is held. */
  readonly body: AsyncIterable<Uint8Array>
  /**
   * Holds the chunk that the body gave last: it stays valid until the returned function is called, once. Undefined where
   * chunks stay valid by themselves.
   */
  readonly hold?: () => () => void
  /**
   * Headers of the entries after this one, in their order, as far as they are in memory already: of a tar of small files many
   * are. To be called before the body is read. What is damaged, and what has a long name, ends them.
   * @param max the most headers
   */
  readonly ahead?: (max: number) => readonly TarHeader[]
}

/**
 * Iterates over a tar.
 * @param object names it in errors
 * @throws WALRX_OBJECT_DAMAGED for an invalid or incomplete tar; what the source throws
 */
export async function* tarEntries(
  source: AsyncIterable<DecodedPiece>,
  object: string,
): AsyncGenerator<TarEntry, undefined> {
  const cursor = new PieceCursor(source)
  const headers = new TarHeaders()
  try {
    for (let block = await cursor.block(); block; block = await cursor.block()) {
      const header = readBlock(headers, block, object)
      if (header === undefined) continue
      if (typeof header === 'number') {
        const text = await cursor.whole(header)
        if (!text) throw endsEarly(object, 'within a header')
        headers.text(text)
        continue
      }
      cursor.begin(header.size)
      yield {
        ...header,
        body: bodyOf(cursor, object),
        hold: () => cursor.hold(),
        ahead: (max) => cursor.headersAhead(headers, max),
      }
      await cursor.skipBody()
      if (cursor.missing > 0) throw endsEarly(object, `${cursor.missing} bytes before the end of its last file`)
    }
  } finally {
    await cursor.close()
  }
}

function readBlock(headers: TarHeaders, block: Buffer, object: string): TarHeader | number | undefined {
  try {
    return headers.block(block)
  } catch (error) {
    const message = `${object} is not a complete tar: ${(error as Error).message}`
    throw new WalrxError('WALRX_OBJECT_DAMAGED', message, { cause: error })
  }
}

async function* bodyOf(cursor: PieceCursor, object: string): AsyncGenerator<Uint8Array, undefined> {
  while (cursor.missing > 0) {
    const chunk = await cursor.ofBody()
    if (!chunk) throw endsEarly(object, `${cursor.missing} bytes before the end of its last file`)
    yield chunk
  }
}

function endsEarly(object: string, where: string): WalrxError {
  return new WalrxError('WALRX_OBJECT_DAMAGED', `${object} ends ${where}`)
}

/** A piece, and how many still use it: the cursor, and those who hold chunks of it. */
interface HeldPiece {
  readonly piece: DecodedPiece
  users: number
}

function drop(held: HeldPiece): void {
  held.users--
  if (held.users === 0) held.piece.free()
}

/** Goes through the pieces of a tar. A piece is freed when the next one is asked for, unless somebody holds it. */
class PieceCursor {
  /** Bytes of the present body that were not read. */
  missing = 0
  readonly #pieces: AsyncIterator<DecodedPiece>
  #held: HeldPiece | undefined
  #rest: Uint8Array = new Uint8Array(0)
  #padding = 0

  constructor(source: AsyncIterable<DecodedPiece>) {
    this.#pieces = source[Symbol.asyncIterator]()
  }

  /** The next block, filled up with zeros where the tar ends within it; undefined at the end. */
  async block(): Promise<Buffer | undefined> {
    await this.#skip(this.#padding)
    this.#padding = 0
    return (await this.#fits(blockBytes)) ? this.#take(blockBytes) : this.#gather(Buffer.alloc(blockBytes), true)
  }

  /** A text of so many bytes, in whole blocks; undefined where the tar ends within it. */
  async whole(bytes: number): Promise<Buffer | undefined> {
    this.#padding = paddingOf(bytes)
    return this.#gather(Buffer.alloc(bytes), false)
  }

  /** A body follows. */
  begin(size: number): void {
    this.missing = size
    this.#padding = paddingOf(size)
  }

  /** The next bytes of the body; undefined where the tar has ended. */
  async ofBody(): Promise<Uint8Array | undefined> {
    if (!(await this.#more())) return undefined
    const chunk = this.#take(Math.min(this.missing, this.#rest.length))
    this.missing -= chunk.length
    return chunk
  }

  /** Skips what is left of the body, as far as it is there. */
  async skipBody(): Promise<void> {
    this.missing = await this.#skip(this.missing)
  }

  /** See {@link TarEntry.ahead}. */
  headersAhead(headers: TarHeaders, max: number): readonly TarHeader[] {
    const found: TarHeader[] = []
    let at = this.missing + this.#padding
    while (found.length < max && this.#rest.length - at >= blockBytes) {
      const header = headers.peek(Buffer.from(this.#rest.buffer, this.#rest.byteOffset + at, blockBytes))
      if (!header) break
      found.push(header)
      at += blockBytes + header.size + paddingOf(header.size)
    }
    return found
  }

  /** See {@link TarEntry.hold}. */
  hold(): () => void {
    const held = this.#held
    if (!held) return () => {}
    held.users++
    return () => drop(held)
  }

  async close(): Promise<void> {
    if (this.#held) drop(this.#held)
    this.#held = undefined
    await this.#pieces.return?.()
  }

  /** True when there are bytes; those before them are no longer needed then. */
  async #more(): Promise<boolean> {
    while (this.#rest.length === 0) {
      if (this.#held) drop(this.#held)
      this.#held = undefined
      const { done, value } = await this.#pieces.next()
      if (done === true) return false
      this.#held = { piece: value, users: 1 }
      this.#rest = value.bytes
    }
    return true
  }

  async #fits(bytes: number): Promise<boolean> {
    return (await this.#more()) && this.#rest.length >= bytes
  }

  #take(bytes: number): Buffer {
    const { buffer, byteOffset } = this.#rest
    this.#rest = this.#rest.subarray(bytes)
    return Buffer.from(buffer, byteOffset, bytes)
  }

  /** Fills a buffer; undefined where nothing is left, or, unless a part is enough, less. */
  async #gather(target: Buffer, isPartEnough: boolean): Promise<Buffer | undefined> {
    let filled = 0
    while (filled < target.length && (await this.#more())) {
      const piece = this.#take(Math.min(target.length - filled, this.#rest.length))
      filled += piece.copy(target, filled)
    }
    return filled === target.length || (isPartEnough && filled > 0) ? target : undefined
  }

  /** Skips bytes. Returns how many of them were not there. */
  async #skip(bytes: number): Promise<number> {
    let left = bytes
    while (left > 0 && (await this.#more())) left -= this.#take(Math.min(left, this.#rest.length)).length
    return left
  }
}

function paddingOf(size: number): number {
  return (blockBytes - (size % blockBytes)) % blockBytes
}
