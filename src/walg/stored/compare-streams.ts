/** Streams of bytes, compared piece by piece: nothing is held whole. */

/** How two byte streams compare. */
export interface Comparison {
  readonly equal: boolean
  /** Where they first differ, or where the shorter one ends. */
  readonly offset: number
  /** Bytes of each, counted to the end. */
  readonly leftBytes: number
  readonly rightBytes: number
}

/** Compares two streams piece by piece; both are read to their ends, for the lengths, and freed in any case. */
export async function compareStreams(
  left: AsyncIterable<Uint8Array>,
  right: AsyncIterable<Uint8Array>,
): Promise<Comparison> {
  const ours = new Pieces(left)
  const theirs = new Pieces(right)
  let offset = 0
  try {
    for (;;) {
      const [a, b] = await Promise.all([ours.peek(), theirs.peek()])
      const length = Math.min(a.length, b.length)
      const equal = firstDifference(a, b, length)
      ours.skip(equal)
      theirs.skip(equal)
      offset += equal
      if (length > 0 && equal === length) continue
      const isEnd = a.length === 0 && b.length === 0
      return { equal: isEnd, offset, leftBytes: await ours.count(), rightBytes: await theirs.count() }
    }
  } finally {
    await Promise.all([ours.close(), theirs.close()])
  }
}

/** Index of the first byte that differs within the first `length` ones; `length` when none does. */
export function firstDifference(a: Buffer, b: Buffer, length: number): number {
  if (a.compare(b, 0, length, 0, length) === 0) return length
  let at = 0
  while (a[at] === b[at]) at++
  return at
}

/** A source of chunks that can be looked at before they are taken. */
class Pieces {
  readonly #source: AsyncIterator<Uint8Array>
  #piece: Buffer = Buffer.alloc(0)
  #taken = 0

  constructor(source: AsyncIterable<Uint8Array>) {
    this.#source = source[Symbol.asyncIterator]()
  }

  /** The next bytes; none only at the end. */
  async peek(): Promise<Buffer> {
    while (this.#piece.length === 0) {
      const { done, value } = await this.#source.next()
      if (done) break
      this.#piece = Buffer.from(value.buffer, value.byteOffset, value.length)
    }
    return this.#piece
  }

  skip(count: number): void {
    this.#piece = this.#piece.subarray(count)
    this.#taken += count
  }

  /** Reads to the end; the number of bytes in all. */
  async count(): Promise<number> {
    for (let piece = await this.peek(); piece.length > 0; piece = await this.peek()) this.skip(piece.length)
    return this.#taken
  }

  async close(): Promise<void> {
    await this.#source.return?.()
  }
}
