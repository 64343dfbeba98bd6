/**
 * The entries of a tar from any tool: ustar, GNU long names, PAX, sizes in base 256 (tar-stream reads them). WAL-G's
 * remote backups lack the final blocks and even the padding of the last entry (docs/walg-format.md, 5.3), so a tar may end
 * after any complete body. One that ends within a body or a header is damaged.
 */
import { extract } from 'tar-stream'
import { WalrxError } from '../../primitives/errors.ts'
import type { DecodedPiece } from '../../compression/codec.ts'

/** An entry. Read its body before asking for the next entry. */
export interface TarEntry {
  readonly name: string
  readonly kind: 'file' | 'directory' | 'other'
  readonly size: number
  readonly mode: number
  /** The body; unread bytes are skipped. Each chunk is valid until the next one is asked for. */
  readonly body: AsyncIterable<Uint8Array>
}

const blockBytes = 512

/**
 * Iterates over a tar.
 * @param object names it in errors
 * @throws WALRX_OBJECT_DAMAGED for an invalid or incomplete tar; what the source throws
 */
export async function* tarEntries(
  source: AsyncIterable<DecodedPiece>,
  object: string,
): AsyncGenerator<TarEntry, undefined> {
  const tar = extract()
  let sourceBytes = 0
  const held = new HeldPieces()
  let failure: unknown
  const feed = (async () => {
    try {
      for await (const piece of source) {
        sourceBytes += piece.bytes.length
        held.add(piece)
        if (!tar.write(Buffer.from(piece.bytes.buffer, piece.bytes.byteOffset, piece.bytes.length))) await drained(tar)
        if (tar.destroyed) return
      }
      // Completes the last block; whether it belongs to a body is checked below.
      tar.end(Buffer.alloc(3 * blockBytes - (sourceBytes % blockBytes || blockBytes)))
    } catch (error) {
      failure = error
      tar.destroy(error as Error)
    }
  })()
  let bodyEnd = 0
  const explain = (error: unknown): Error => {
    if (failure instanceof Error) return failure
    // A WalrxError comes from the consumer, not from the stream.
    if (error instanceof WalrxError) return error
    const message = `${object} is not a complete tar: ${(error as Error).message}`
    return new WalrxError('WALRX_OBJECT_DAMAGED', message, { cause: error })
  }
  try {
    for await (const entry of tar) {
      const { header } = entry
      const byteOffset = (header as unknown as { readonly byteOffset: number }).byteOffset
      bodyEnd = byteOffset + (header.size ?? 0)
      held.free(byteOffset)
      yield {
        name: header.name,
        kind:
          header.type === 'file' || header.type === 'contiguous-file'
            ? 'file'
            : header.type === 'directory'
              ? 'directory'
              : 'other',
        size: header.size ?? 0,
        mode: header.mode ?? 0,
        body: readBody(entry as AsyncIterable<Uint8Array>, explain, (bytes) => held.free(byteOffset + bytes)),
      }
      entry.resume()
    }
  } catch (error) {
    throw explain(error)
  } finally {
    tar.destroy()
    await feed
  }
  if (failure !== undefined) throw explain(failure)
  if (bodyEnd > sourceBytes) {
    throw new WalrxError(
      'WALRX_OBJECT_DAMAGED',
      `${object} ends ${bodyEnd - sourceBytes} bytes before the end of its last file`,
    )
  }
}

/** The pieces that the reader of a tar may still use. */
class HeldPieces {
  readonly #pieces: { readonly end: number; readonly piece: DecodedPiece }[] = []
  #bytes = 0

  add(piece: DecodedPiece): void {
    this.#bytes += piece.bytes.length
    this.#pieces.push({ end: this.#bytes, piece })
  }

  /** Frees the pieces that end at an offset or before. */
  free(offset: number): void {
    for (let first = this.#pieces[0]; first && first.end <= offset; first = this.#pieces[0]) {
      this.#pieces.shift()
      first.piece.free()
    }
  }
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
