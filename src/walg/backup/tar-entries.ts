/**
 * The entries of a tar from any tool: ustar, GNU long names, PAX, sizes in base 256 (tar-stream reads them). WAL-G's
 * remote backups lack the final blocks and even the padding of the last entry (docs/walg-format.md, 5.3), so a tar may end
 * after any complete body. One that ends within a body or a header is damaged.
 */
import { type Extract, extract } from 'tar-stream'
import { WalrxError } from '../../primitives/errors.ts'
import type { DecodedPiece } from '../../compression/codec.ts'

/** An entry. Read its body before asking for the next entry. */
export interface TarEntry {
  readonly name: string
  readonly kind: 'file' | 'directory' | 'other'
  readonly size: number
  readonly mode: number
  /** The body; unread bytes are skipped. Each chunk is valid until the next one is asked for, or as long as it is held. */
  readonly body: AsyncIterable<Uint8Array>
  /**
   * Holds the chunk that the body gave last: it stays valid until the returned function is called, once. Undefined where
   * chunks stay valid by themselves.
   */
  readonly hold?: () => () => void
}

const blockBytes = 512

/** What tar-stream makes of an entry. */
type Entry = Extract extends AsyncIterable<infer Each> ? Each : never

/**
 * Iterates over a tar.
 * @param object names it in errors
 * @throws WALRX_OBJECT_DAMAGED for an invalid or incomplete tar; what the source throws
 */
export async function* tarEntries(
  source: AsyncIterable<DecodedPiece>,
  object: string,
): AsyncGenerator<TarEntry, undefined> {
  const reading = new TarReading(object)
  const fed = reading.feed(source)
  try {
    for await (const entry of reading.tar) {
      yield reading.begin(entry)
      entry.resume()
    }
  } catch (error) {
    throw reading.explain(error)
  } finally {
    reading.tar.destroy()
    await fed
  }
  reading.checkEnd()
}

/** A tar while it is read. */
class TarReading {
  readonly tar = extract()
  readonly #object: string
  readonly #held = new HeldPieces()
  #sourceBytes = 0
  /** What the source threw. */
  #failure: unknown
  /** Where the body of the present entry ends. */
  #bodyEnd = 0

  constructor(object: string) {
    this.#object = object
  }

  /** Reads the source to its end, as fast as the entries are read. Never rejects: {@link explain} knows what it threw. */
  async feed(source: AsyncIterable<DecodedPiece>): Promise<void> {
    const { tar } = this
    try {
      for await (const piece of source) {
        this.#sourceBytes += piece.bytes.length
        this.#held.add(piece)
        if (!tar.write(Buffer.from(piece.bytes.buffer, piece.bytes.byteOffset, piece.bytes.length))) await drained(tar)
        if (tar.destroyed) return
      }
      // Completes the last block; whether it belongs to a body is checked at the end.
      tar.end(Buffer.alloc(3 * blockBytes - (this.#sourceBytes % blockBytes || blockBytes)))
    } catch (error) {
      this.#failure = error
      tar.destroy(error as Error)
    }
  }

  /** Goes on to an entry: the bytes before its body are no longer needed. */
  begin(entry: Entry): TarEntry {
    const { header } = entry
    const byteOffset = (header as unknown as { readonly byteOffset: number }).byteOffset
    this.#bodyEnd = byteOffset + (header.size ?? 0)
    this.#held.free(byteOffset)
    const explain = (error: unknown) => this.explain(error)
    return {
      name: header.name,
      kind: kindOf(header.type),
      size: header.size ?? 0,
      mode: header.mode ?? 0,
      body: readBody(entry as AsyncIterable<Uint8Array>, explain, (bytes) => this.#held.free(byteOffset + bytes)),
      hold: () => this.#held.holdFirst(),
    }
  }

  explain(error: unknown): Error {
    if (this.#failure instanceof Error) return this.#failure
    // A WalrxError comes from the consumer, not from the stream.
    if (error instanceof WalrxError) return error
    const message = `${this.#object} is not a complete tar: ${(error as Error).message}`
    return new WalrxError('WALRX_OBJECT_DAMAGED', message, { cause: error })
  }

  /** Throws what the source threw; WALRX_OBJECT_DAMAGED when the last body was not there to its end. */
  checkEnd(): void {
    if (this.#failure !== undefined) throw this.explain(this.#failure)
    const missing = this.#bodyEnd - this.#sourceBytes
    if (missing <= 0) return
    throw new WalrxError(
      'WALRX_OBJECT_DAMAGED',
      `${this.#object} ends ${missing} bytes before the end of its last file`,
    )
  }
}

function kindOf(type: Entry['header']['type']): TarEntry['kind'] {
  if (type === 'file' || type === 'contiguous-file') return 'file'
  return type === 'directory' ? 'directory' : 'other'
}

/** A piece, and how many still use it: the tar, and those who hold chunks of it. */
interface HeldPiece {
  /** Where it ends in the tar. */
  readonly end: number
  readonly piece: DecodedPiece
  users: number
}

/** The pieces that the reader of a tar may still use. */
class HeldPieces {
  readonly #pieces: HeldPiece[] = []
  #bytes = 0

  add(piece: DecodedPiece): void {
    this.#bytes += piece.bytes.length
    this.#pieces.push({ end: this.#bytes, piece, users: 1 })
  }

  /** The tar is read up to an offset: frees the pieces before it that nobody holds. */
  free(offset: number): void {
    for (let first = this.#pieces[0]; first && first.end <= offset; first = this.#pieces[0]) {
      this.#pieces.shift()
      drop(first)
    }
  }

  /** Holds the first piece that is not free: that of the chunk which was read last, because a chunk lies in one piece. */
  holdFirst(): () => void {
    const [first] = this.#pieces
    if (!first) return () => {}
    first.users++
    return () => drop(first)
  }
}

function drop(held: HeldPiece): void {
  held.users--
  if (held.users === 0) held.piece.free()
}

async function* readBody(
  body: AsyncIterable<Uint8Array>,
  explain: (error: unknown) => Error,
  used: (bytes: number) => void,
): AsyncGenerator<Uint8Array, undefined> {
  const iterator = body[Symbol.asyncIterator]()
  let bytes = 0
  for (;;) {
    let result: IteratorResult<Uint8Array>
    try {
      result = await iterator.next()
    } catch (error) {
      throw explain(error)
    }
    if (result.done === true) return
    yield result.value
    bytes += result.value.length
    used(bytes)
  }
}

/** Resolves when the stream takes more, or is closed. */
async function drained(tar: ReturnType<typeof extract>): Promise<void> {
  // It may have closed while the source was being read; the event comes only once.
  if (tar.destroyed) return
  await new Promise<void>((resolve) => {
    const settle = () => {
      tar.off('drain', settle)
      tar.off('close', settle)
      resolve()
    }
    tar.on('drain', settle)
    tar.on('close', settle)
  })
}
