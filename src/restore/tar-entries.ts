/**
 * The entries of a tar, whoever wrote it: ustar, GNU long names, PAX, sizes in base 256 (tar-stream reads them). WAL-G's
 * remote backups lack the closing blocks and even the padding of the last entry (walg-format.md 5.3), so a tar may end
 * behind any complete body; one that ends within a body, or a header, is damaged.
 */
import { extract } from 'tar-stream'
import { WalrxError } from '../primitives/errors.ts'

/** An entry, to be read before the next one is asked for. */
export interface TarEntry {
  readonly name: string
  readonly kind: 'file' | 'directory' | 'other'
  readonly size: number
  readonly mode: number
  /** The body; what is not read is passed over. */
  readonly body: AsyncIterable<Uint8Array>
}

const blockBytes = 512

/**
 * Iterates over a tar.
 * @param object names it in errors
 * @throws WALRX_OBJECT_DAMAGED for what is no tar or is cut short; what the source throws
 */
export async function* tarEntries(
  source: AsyncIterable<Uint8Array>,
  object: string,
): AsyncGenerator<TarEntry, undefined> {
  const tar = extract()
  let sourceBytes = 0
  let failure: unknown
  const feed = (async () => {
    try {
      for await (const chunk of source) {
        sourceBytes += chunk.length
        if (!tar.write(chunk)) await drained(tar)
        if (tar.destroyed) return
      }
      // Closes what was left open; whether it was a body is checked below.
      tar.end(Buffer.alloc(3 * blockBytes - (sourceBytes % blockBytes || blockBytes)))
    } catch (error) {
      failure = error
      tar.destroy(error as Error)
    }
  })()
  let bodyEnd = 0
  const explain = (error: unknown): Error => {
    if (failure instanceof Error) return failure
    // What the consumer threw came through here only when it is not the stream's.
    if (error instanceof WalrxError) return error
    const message = `${object} is no whole tar: ${(error as Error).message}`
    return new WalrxError('WALRX_OBJECT_DAMAGED', message, { cause: error })
  }
  try {
    for await (const entry of tar) {
      const { header } = entry
      const byteOffset = (header as unknown as { readonly byteOffset: number }).byteOffset
      bodyEnd = byteOffset + (header.size ?? 0)
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
        body: readBody(entry as AsyncIterable<Uint8Array>, explain),
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
      `${object} ends ${bodyEnd - sourceBytes} bytes before its last file does`,
    )
  }
}

async function* readBody(
  body: AsyncIterable<Uint8Array>,
  explain: (error: unknown) => Error,
): AsyncGenerator<Uint8Array, undefined> {
  const iterator = body[Symbol.asyncIterator]()
  for (;;) {
    let result: IteratorResult<Uint8Array>
    try {
      result = await iterator.next()
    } catch (error) {
      throw explain(error)
    }
    if (result.done === true) return
    yield result.value
  }
}

/** Resolves when the stream takes more, or will never. */
async function drained(tar: ReturnType<typeof extract>): Promise<void> {
  // It may have closed while the source was being read, and says so only once.
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
