/**
 * Decodes with the streams of node:zlib on the thread that asks, instead of in the libuv pool: for a thread that does nothing
 * else. A piece is used while it is in the processor's cache, and no trip to another thread is made for it. CPU-seconds per GB
 * of pgbench's pages, decoded, checked (CRC-32C) and written to files, pieces of 512 kB: 1.6 to 1.7 on four such threads, where
 * the pool takes 2.6 to 3.2.
 *
 * Node has no public call for it: its own synchronous functions (zstdDecompressSync) want the whole input and output in
 * memory. They are built on `writeSync` of a stream's handle, which this calls as they do (lib/zlib.js, processChunkSync;
 * the same in Node 22 and 24). Where it is missing, {@link canDecodeInSync} says so.
 */
import type { DecodedPiece } from './codec.ts'
import type { ZlibStream } from './in-place.ts'

/** The inside of a stream of node:zlib (src/node_zlib.cc). */
interface Insides {
  readonly _handle?: {
    /** Called for damage, in place of an exception. */
    onerror: (message: string, errno: number, code: string) => void
    writeSync?: (
      flush: number,
      input: Uint8Array,
      inputAt: number,
      inputBytes: number,
      output: Uint8Array,
      outputAt: number,
      outputBytes: number,
    ) => void
  } | null
  /** After a call: the bytes of output that were left free, and those of input that were not taken. */
  readonly _writeState?: Uint32Array
}

/** False where Node does not have what {@link piecesInSync} needs. */
export function canDecodeInSync(engine: ZlibStream): boolean {
  const { _handle, _writeState } = engine as unknown as Insides
  return typeof _handle?.writeSync === 'function' && _writeState instanceof Uint32Array && _writeState.length === 2
}

/** `flush` of a decoder: as much output as there is. */
const noFlush = 0

/**
 * Passes `source` through a stream of node:zlib, synchronously. Who asks for the next piece need not have freed the last.
 * @param engine is destroyed in any case
 * @param pieceBytes the most bytes of a piece
 * @param refuse makes the error of damaged bytes
 * @throws what `refuse` makes, also where zlib ends before the source does; errors of the source unchanged
 */
export async function* piecesInSync(
  engine: ZlibStream,
  source: AsyncIterable<Uint8Array>,
  pieceBytes: number,
  refuse: (reason: Error) => Error,
): AsyncGenerator<DecodedPiece, undefined> {
  const decoder = new SyncDecoder(engine, pieceBytes, refuse)
  try {
    for await (const chunk of source) yield* decoder.decode(chunk)
  } finally {
    decoder.close()
    engine.destroy()
  }
}

class SyncDecoder {
  readonly #insides: Required<Insides>
  readonly #pieceBytes: number
  readonly #refuse: (reason: Error) => Error
  /** Buffers that nobody uses now. */
  readonly #spare: Buffer[] = []
  #failure: Error | undefined
  #isClosed = false

  constructor(engine: ZlibStream, pieceBytes: number, refuse: (reason: Error) => Error) {
    this.#insides = engine as unknown as Required<Insides>
    this.#pieceBytes = pieceBytes
    this.#refuse = refuse
    const { _handle } = this.#insides
    if (_handle)
      _handle.onerror = (message, errno, code) =>
        void (this.#failure = Object.assign(new Error(message), { code, errno }))
  }

  *decode(chunk: Uint8Array): Generator<DecodedPiece, undefined> {
    const { _handle, _writeState } = this.#insides
    for (let at = 0, isFull = false; at < chunk.length || isFull;) {
      const output = this.#spare.pop() ?? Buffer.allocUnsafeSlow(this.#pieceBytes)
      const given = chunk.length - at
      _handle?.writeSync?.(noFlush, chunk, at, given, output, 0, output.length)
      if (this.#failure) throw this.#refuse(this.#failure)
      const [free = 0, left = 0] = _writeState
      at += given - left
      isFull = free === 0
      if (free < output.length)
        yield { bytes: output.subarray(0, output.length - free), free: () => this.#reuse(output) }
      else {
        this.#reuse(output)
        if (left === given && given > 0) throw this.#refuse(new Error(`it ends before its last ${left} bytes`))
      }
    }
  }

  /** Frees the memory at once: the garbage collector would let it grow. */
  close(): void {
    this.#isClosed = true
    for (const buffer of this.#spare.splice(0)) (buffer.buffer as ArrayBuffer).transfer(0)
  }

  #reuse(buffer: Buffer): void {
    if (this.#isClosed) (buffer.buffer as ArrayBuffer).transfer(0)
    else this.#spare.push(buffer)
  }
}
